package io.github.tailorkv.gpu;

import io.github.tailorkv.kernels.AttentionShape;
import io.github.tailorkv.spi.SessionCache;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Random;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.function.LongFunction;

/**
 * Several models in one process, each with several sessions in threads of their own, on one GPU: every session must attend
 * as it does when it is alone. Then models come and go, and the GPU's memory must be as before. Prints a line a session and
 * exits with 1 if one is out of bounds. Argument: a seed.
 */
public final class GpuSharing {

    /** Sums in another order, and tokens whose scores are as good as equal. */
    private static final double BOUND = 1e-2;

    /** Other processes may come and go meanwhile; a model that stays takes more for each of the rounds. */
    private static final long MOST_MEBIBYTES = 64;

    private static final int LAYERS = 4;
    private static final int SESSIONS = 3;
    private static final int ROUNDS = 15;
    private static final int[] STEPS = {600, 1, 1, 257, 1, 1, 1, 130, 1, 1, 1, 1, 1, 1, 1, 1, 300, 1, 1, 1};

    private record Setting(AttentionShape shape, List<String> words) {

        Contestant open() {
            return Contestant.open(shape, LAYERS, 1 << 16, words.toArray(new String[0]));
        }
    }

    private static final List<Setting> SETTINGS = List.of(
            new Setting(
                    new AttentionShape(8, 2, 128, 0.088f, 0),
                    List.of("backend=cuda", "policy=0:quantize,1-3:retrieve", "budget=128", "bits=4")),
            new Setting(new AttentionShape(12, 4, 64, 0.125f, 0), List.of("backend=cuda", "policy=online")),
            new Setting(new AttentionShape(4, 1, 256, 0.0625f, 30), List.of("backend=cuda", "policy=exact")));

    private GpuSharing() {}

    public static void main(String[] args) throws Exception {
        long seed = args.length > 0 ? Long.parseLong(args[0]) : new Random().nextLong();
        System.out.println("seed " + seed);
        int failures = together(seed) + released(seed);
        System.out.println(failures + " failed");
        System.exit(failures == 0 ? 0 : 1);
    }

    private static int together(long seed) throws InterruptedException, ExecutionException {
        List<Contestant> models = new ArrayList<>();
        for (Setting setting : SETTINGS) {
            models.add(setting.open());
        }
        List<Future<float[]>> shared = new ArrayList<>();
        try (ExecutorService threads = Executors.newFixedThreadPool(SETTINGS.size() * SESSIONS)) {
            for (int i = 0; i < SETTINGS.size() * SESSIONS; i++) {
                int session = i;
                AttentionShape shape = SETTINGS.get(session % SETTINGS.size()).shape();
                Contestant model = models.get(session % SETTINGS.size());
                shared.add(threads.submit(() -> {
                    try (SessionCache cache = model.model().newSession()) {
                        return attend(cache, shape, seed + session);
                    }
                }));
            }
        }
        models.forEach(Contestant::close);

        int failures = 0;
        for (int session = 0; session < shared.size(); session++) {
            Setting setting = SETTINGS.get(session % SETTINGS.size());
            float[] alone;
            try (Contestant model = setting.open()) {
                alone = attend(model.session(), setting.shape(), seed + session);
            }
            double error = distance(shared.get(session).get(), alone);
            boolean good = error < BOUND;
            failures += good ? 0 : 1;
            System.out.printf(
                    Locale.ROOT,
                    "%s session %d of %d, %s: %.6f from the session alone%n",
                    good ? "ok    " : "FAILED",
                    session + 1,
                    shared.size(),
                    String.join(" ", setting.words()),
                    error);
        }
        return failures;
    }

    /** The relative difference, infinite where a number is none. */
    private static double distance(float[] a, float[] b) {
        double difference = 0;
        double size = 0;
        for (int i = 0; i < a.length; i++) {
            difference += (a[i] - b[i]) * (double) (a[i] - b[i]);
            size += (double) b[i] * b[i];
        }
        double error = Math.sqrt(difference / size);
        return Double.isNaN(error) ? Double.POSITIVE_INFINITY : error;
    }

    /** Feeds random tokens to all layers and returns the outputs of the decode steps. */
    private static float[] attend(SessionCache session, AttentionShape shape, long seed) {
        Random random = new Random(seed);
        int queries = shape.heads() * shape.headSize();
        int keys = shape.kvHeads() * shape.headSize();
        int decoded = 0;
        for (int step : STEPS) {
            decoded += step == 1 ? 1 : 0;
        }
        float[] outputs = new float[decoded * LAYERS * queries];
        int at = 0;
        int start = 0;
        for (int n : STEPS) {
            try (Arena arena = Arena.ofShared()) {
                LongFunction<MemorySegment> memory = bytes -> arena.allocate(bytes, 64);
                MemorySegment out = memory.apply(4L * n * queries);
                for (int layer = 0; layer < LAYERS; layer++) {
                    session.attend(
                            layer, start, n, GpuBench.pool(memory, random, n * queries, 1),
                            GpuBench.pool(memory, random, n * keys, 1),
                            GpuBench.pool(memory, random, n * keys, 1), out);
                    if (n == 1) {
                        MemorySegment.copy(out, ValueLayout.JAVA_FLOAT, 0, outputs, at, queries);
                        at += queries;
                    }
                }
            }
            start += n;
        }
        return outputs;
    }

    private static int released(long seed) throws IOException {
        long before = 0;
        for (int round = 0; round < ROUNDS; round++) {
            Setting setting = SETTINGS.get(round % SETTINGS.size());
            try (Contestant model = setting.open();
                    SessionCache other = model.model().newSession()) {
                attend(model.session(), setting.shape(), seed);
                attend(other, setting.shape(), seed + 1);
            }
            if (round == ROUNDS / 3) {
                before = usedMebibytes();
            }
        }
        long more = usedMebibytes() - before;
        boolean good = more < MOST_MEBIBYTES;
        System.out.printf(
                "%s %d models opened and closed: %d MiB more on the GPU%n", good ? "ok    " : "FAILED", ROUNDS, more);
        return good ? 0 : 1;
    }

    private static long usedMebibytes() throws IOException {
        Process query = new ProcessBuilder("nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits",
                "-i", "0").start();
        try (var lines = query.inputReader()) {
            return Long.parseLong(lines.readLine().strip());
        }
    }
}
