package io.github.tailorkv.gpu;

import io.github.tailorkv.kernels.AttentionShape;
import io.github.tailorkv.spi.LayerStatistics;
import io.github.tailorkv.spi.SessionCache;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Random;
import java.util.function.LongFunction;

/**
 * Speed and memory of attention over all layers of a model of Llama-3.1-8B's shape (32 layers, 32 query and 8 KV heads of
 * 128), transfers included: host F32 in, host F32 out, layer by layer as Jlama calls, a prompt's from and to memory that the
 * cache lends, as the plugin's attention has it. Keys, values and queries are random. Arguments: context lengths in units of
 * 1024 tokens, separated by commas; then settings such as {@code bits=2}, and {@code copied} for rows in any memory.
 */
public final class GpuBench {

    private static final int LAYERS = 32;
    private static final int CHUNK = 256;
    private static final int STEPS = 100;
    /** Until the JVM has compiled the way to the kernels: before that a launch costs 10 to 20 us instead of 5. */
    private static final int WARM_UP = 150;
    /** Likewise for a prompt. */
    private static final int WARM_UP_TOKENS = 24 * 1024;
    /** The last chunks of a prompt, which are timed. */
    private static final int TIMED_CHUNKS = 8;
    private static final AttentionShape SHAPE = new AttentionShape(32, 8, 128, (float) (1 / Math.sqrt(128)), 0);

    private GpuBench() {}

    public static void main(String[] args) {
        List<String> words = new ArrayList<>(List.of(args).subList(1, args.length));
        boolean copied = words.remove("copied");
        int[] contexts = Arrays.stream(args[0].split(",")).mapToInt(Integer::parseInt).toArray();
        System.out.println("settings: " + String.join(" ", words) + (copied ? ", rows copied" : ""));
        System.out.println(
                "context | decode ms (p10-p90) | first step ms | prefill there tok/s, TFLOP/s, ms/chunk (median) | fill s"
                        + " | GPU bytes (x of BF16) | host bytes");
        String[] settings = words.toArray(new String[0]);
        run(WARM_UP_TOKENS, copied, settings);
        for (int context : contexts) {
            System.out.println(run(context * 1024, copied, settings));
        }
    }

    private static String run(int context, boolean copied, String... words) {
        int queries = SHAPE.heads() * SHAPE.headSize();
        int keys = SHAPE.kvHeads() * SHAPE.headSize();
        Random random = new Random(1);
        try (Arena arena = Arena.ofShared();
                Contestant contestant = Contestant.open(SHAPE, LAYERS, context + 1024, words)) {
            SessionCache session = contestant.session();
            // Queries and keys are windows into random pools, at another place for each layer and chunk.
            LongFunction<MemorySegment> memory = bytes -> {
                MemorySegment lent = copied ? null : contestant.model().lend(bytes);
                return lent == null ? arena.allocate(bytes, 64) : lent;
            };
            MemorySegment queryPool = pool(memory, random, 4 * CHUNK * queries, 1.5);
            MemorySegment keyPool = pool(memory, random, 16 * CHUNK * keys, 1);
            MemorySegment out = memory.apply(4L * CHUNK * queries);
            long begin = System.nanoTime();
            double[] chunks = new double[context / CHUNK];
            for (int chunk = 0; chunk < chunks.length; chunk++) {
                long chunkBegin = System.nanoTime();
                for (int layer = 0; layer < LAYERS; layer++) {
                    attend(session, layer, chunk * CHUNK, CHUNK, random, queryPool, keyPool, out);
                }
                chunks[chunk] = (System.nanoTime() - chunkBegin) * 1e-9;
            }
            double fill = (System.nanoTime() - begin) * 1e-9;
            double[] timed = Arrays.copyOfRange(chunks, chunks.length - TIMED_CHUNKS, chunks.length);
            // The mean, for now and then a chunk waits for memory.
            double seconds = Arrays.stream(timed).average().orElseThrow();
            Arrays.sort(timed);
            double flops = 4.0 * LAYERS * queries * CHUNK * (context - CHUNK * TIMED_CHUNKS / 2.0);

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
            return String.format(
                    Locale.ROOT,
                    "%dk | %.2f (%.2f-%.2f) | %.0f | %.0f tok/s, %.0f TFLOP/s, %.1f ms (%.1f) | %.1f | %.0f MiB"
                            + " (1/%.1f) | %.0f MiB",
                    context / 1024,
                    steps[STEPS / 2],
                    steps[STEPS / 10],
                    steps[STEPS * 9 / 10],
                    first,
                    CHUNK / seconds,
                    flops / seconds * 1e-12,
                    seconds * 1e3,
                    timed[TIMED_CHUNKS / 2] * 1e3,
                    fill,
                    resident / 1048576.0,
                    bfloat16 / resident,
                    offloaded / 1048576.0);
        }
    }

    /** Gaussian numbers of the given deviation. */
    static MemorySegment pool(LongFunction<MemorySegment> memory, Random random, int count, double size) {
        MemorySegment pool = memory.apply(4L * count);
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
