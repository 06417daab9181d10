package io.github.tailorkv.gpu;

import io.github.tailorkv.kernels.AttentionShape;
import io.github.tailorkv.spi.LayerStatistics;
import io.github.tailorkv.spi.SessionCache;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.Locale;
import java.util.Random;

/**
 * Speed and memory of attention over all layers of a model of Llama-3.1-8B's shape (32 layers, 32 query and 8 KV heads of
 * 128), transfers included: host F32 in, host F32 out, layer by layer as Jlama calls. Keys, values and queries are random.
 * Arguments: context lengths in units of 1024 tokens, separated by commas; then settings such as {@code bits=2}.
 */
public final class GpuBench {

    private static final int LAYERS = 32;
    private static final int CHUNK = 256;
    private static final int STEPS = 100;
    /** Until the JVM has compiled the way to the kernels: before that a launch costs 10 to 20 us instead of 5. */
    private static final int WARM_UP = 150;
    private static final AttentionShape SHAPE = new AttentionShape(32, 8, 128, (float) (1 / Math.sqrt(128)), 0);

    private GpuBench() {}

    public static void main(String[] args) {
        String[] words = Arrays.copyOfRange(args, 1, args.length);
        int[] contexts = Arrays.stream(args[0].split(",")).mapToInt(Integer::parseInt).toArray();
        System.out.println("settings: " + String.join(" ", words));
        System.out.println(
                "context | decode ms (p10-p90) | first step ms | prefill there tok/s, TFLOP/s, ms/chunk | fill s"
                        + " | GPU bytes (x of BF16) | host bytes");
        for (int context : contexts) {
            run(context * 1024, words);
        }
    }

    private static void run(int context, String... words) {
        int queries = SHAPE.heads() * SHAPE.headSize();
        int keys = SHAPE.kvHeads() * SHAPE.headSize();
        Random random = new Random(1);
        try (Arena arena = Arena.ofShared();
                Contestant contestant = Contestant.open(SHAPE, LAYERS, context + 1024, words)) {
            SessionCache session = contestant.session();
            // Queries and keys are windows into random pools, at another place for each layer and chunk.
            MemorySegment queryPool = pool(arena, random, 4 * CHUNK * queries, 1.5);
            MemorySegment keyPool = pool(arena, random, 16 * CHUNK * keys, 1);
            MemorySegment out = arena.allocate(4L * CHUNK * queries, 64);
            long begin = System.nanoTime();
            int tail = Math.min(context / CHUNK, 4);
            long tailBegin = begin;
            for (int start = 0; start < context; start += CHUNK) {
                if (start == context - tail * CHUNK) {
                    tailBegin = System.nanoTime();
                }
                for (int layer = 0; layer < LAYERS; layer++) {
                    attend(session, layer, start, CHUNK, random, queryPool, keyPool, out);
                }
            }
            double fill = (System.nanoTime() - begin) * 1e-9;
            double seconds = (System.nanoTime() - tailBegin) * 1e-9;
            double tokens = tail * (double) CHUNK;
            double flops = 4.0 * LAYERS * queries * tokens * (context - tokens / 2);

            long firstBegin = System.nanoTime();
            for (int layer = 0; layer < LAYERS; layer++) {
                attend(session, layer, context, 1, random, queryPool, keyPool, out);
            }
            double first = (System.nanoTime() - firstBegin) * 1e-6;
            double[] steps = new double[STEPS];
            for (int step = -WARM_UP; step < STEPS; step++) {
                long stepBegin = System.nanoTime();
                for (int layer = 0; layer < LAYERS; layer++) {
                    attend(session, layer, session.length(), 1, random, queryPool, keyPool, out);
                }
                if (step >= 0) {
                    steps[step] = (System.nanoTime() - stepBegin) * 1e-6;
                }
            }
            Arrays.sort(steps);
            long resident = 0;
            long offloaded = 0;
            for (LayerStatistics layer : session.statistics()) {
                resident += layer.residentBytes();
                offloaded += layer.offloadedBytes();
            }
            double bfloat16 = 4.0 * LAYERS * keys * context;
            System.out.printf(
                    Locale.ROOT,
                    "%dk | %.2f (%.2f-%.2f) | %.0f | %.0f tok/s, %.0f TFLOP/s, %.1f ms | %.1f | %.0f MiB (1/%.1f) | %.0f"
                            + " MiB%n",
                    context / 1024,
                    steps[STEPS / 2],
                    steps[STEPS / 10],
                    steps[STEPS * 9 / 10],
                    first,
                    tokens / seconds,
                    flops / seconds * 1e-12,
                    seconds * 1e3 / tail,
                    fill,
                    resident / 1048576.0,
                    bfloat16 / resident,
                    offloaded / 1048576.0);
        }
    }

    /** Gaussian numbers of the given deviation. */
    static MemorySegment pool(Arena arena, Random random, int count, double size) {
        MemorySegment pool = arena.allocate(4L * count, 64);
        for (int i = 0; i < count; i++) {
            pool.setAtIndex(ValueLayout.JAVA_FLOAT, i, (float) (random.nextGaussian() * size));
        }
        return pool;
    }

    private static void attend(
            SessionCache session, int layer, int start, int n, Random random, MemorySegment queryPool,
            MemorySegment keyPool, MemorySegment out) {
        long queryBytes = 4L * n * SHAPE.heads() * SHAPE.headSize();
        long keyBytes = 4L * n * SHAPE.kvHeads() * SHAPE.headSize();
        session.attend(
                layer,
                start,
                n,
                window(random, queryPool, queryBytes),
                window(random, keyPool, keyBytes),
                window(random, keyPool, keyBytes),
                out.asSlice(0, queryBytes));
    }

    private static MemorySegment window(Random random, MemorySegment pool, long bytes) {
        long room = (pool.byteSize() - bytes) / 64;
        return pool.asSlice(64 * (long) (random.nextDouble() * room), bytes);
    }
}
