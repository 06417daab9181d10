package io.github.tailorkv.gpu;

import io.github.tailorkv.kernels.AttentionShape;
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
 * The GPU against attention by its definition in double precision, and against the CPU's scalar kernels: the same tokens
 * through sessions of both, over head sizes, head groups, settings, odd chunk lengths, decode steps and rewinding. Contexts of
 * more than 8,192 tokens run on the CPU's vector kernels, which are proven against the scalar ones elsewhere. Prints a
 * line a case and exits with 1 if one is out of bounds. Arguments: {@code small} for the cases that a memory checker has
 * the patience for; a seed. Each of q, k, v and the output lies now in memory that the cache lends, now in other.
 */
public final class GpuCheck {

    private record Case(
            String name, AttentionShape shape, double querySize, double bound, List<Integer> steps,
            List<String> words) {}

    /** Tokens up to which the scalar kernels have the time. */
    private static final int MOST_SCALAR = 8192;

    private static final List<Case> CASES = new ArrayList<>();

    private GpuCheck() {}

    private static AttentionShape shape(int heads, int kvHeads, int headSize, float softCap) {
        return new AttentionShape(heads, kvHeads, headSize, (float) (1 / Math.sqrt(headSize)), softCap);
    }

    private static void add(
            String name, AttentionShape shape, double querySize, double bound, int[] steps, String... words) {
        CASES.add(new Case(name, shape, querySize, bound, Arrays.stream(steps).boxed().toList(), List.of(words)));
    }

    /** Positive: append so many; negative: forget so many. */
    private static int[] steps(int... steps) {
        return steps;
    }

    private static void cases(boolean small) {
        int[] mixed = steps(1, 1, 3, 130, 1, 1, 61, 2, 257, 1, 1, 1, 64, 1);
        int[] prompt = steps(700, 1, 1, 1, 65, 1, 1);
        int[] rewound = steps(600, 1, 1, -70, 1, -200, 33, 1, -1, 1, -330, 1, 90, 1);
        int[] longer = steps(1000, 1000, 777, 1, 1, 1, 1, 1);
        int[] generated = new int[200];
        Arrays.fill(generated, 1);
        generated[0] = 300;
        AttentionShape llama = shape(8, 2, 128, 0);
        if (small) {
            add("exact", llama, 1, 2e-2, steps(130, 1, 1, 3, 1), "policy=exact");
            add("4 bits", llama, 1, 0.2, steps(200, 1, 1, -90, 1, 65, 1), "policy=quantize", "bits=4");
            add("retrieval", llama, 4, 0.2, steps(400, 1, 1, -90, 70, 1), "policy=retrieve", "budget=48", "sinks=4");
            add("published", shape(8, 1, 64, 0), 4, 0.4, steps(400, 1, 1), "policy=retrieve", "preset=paper",
                    "budget=48");
            add("online", shape(4, 2, 64, 0), 4, 0.2, steps(512, 512, 200, 1, 1), "policy=online");
            add("256", shape(2, 1, 256, 20), 2, 0.2, steps(220, 1, 1), "policy=retrieve", "budget=32");
            return;
        }
        for (int headSize : new int[] {64, 80, 96, 112, 128, 160, 192, 256}) {
            for (String policy : new String[] {"exact", "quantize", "retrieve"}) {
                add("head size " + headSize, shape(6, 2, headSize, 0), 3, policy.equals("exact") ? 2e-2 : 0.25, prompt,
                        "policy=" + policy, "bits=4", "budget=100");
            }
        }
        for (int group = 1; group <= 16; group++) {
            for (String policy : new String[] {"exact", "quantize", "retrieve"}) {
                add("group of " + group, shape(2 * group, 2, 64, 0), 3, policy.equals("exact") ? 2e-2 : 0.25, prompt,
                        "policy=" + policy, "bits=8", "budget=100");
            }
        }
        for (int bits : new int[] {1, 2, 4, 8}) {
            double bound = bits == 1 ? 2 : bits == 2 ? 0.8 : 0.25;
            add("bits " + bits, llama, 2, bound, mixed, "policy=quantize", "bits=" + bits);
            add("bits " + bits, llama, 2, bound, rewound, "policy=quantize", "bits=" + bits);
            add("bits " + bits + ", 80", shape(3, 1, 80, 0), 2, bound, prompt, "policy=quantize", "bits=" + bits);
        }
        for (String index : new String[] {"2", "4", "8"}) {
            for (String rows : new String[] {"int8", "bf16"}) {
                if (index.equals("8") && rows.equals("int8")) {
                    continue;
                }
                for (String selection : new String[] {"per-head", "averaged"}) {
                    add("index " + index + ", " + rows + ", " + selection, llama, 4,
                            selection.equals("averaged") ? 2 : index.equals("2") ? 0.8 : 0.25, longer,
                            "policy=retrieve", "index=" + index, "rows=" + rows, "selection=" + selection,
                            "budget=256");
                }
            }
        }
        add("soft cap", shape(8, 4, 128, 6), 6, 0.1, longer, "policy=retrieve", "budget=1024", "channels=128");
        add("soft cap, exact", shape(8, 4, 256, 6), 6, 2e-2, longer, "policy=exact");
        add("mixed", llama, 4, 0.3, mixed, "policy=retrieve", "budget=64");
        add("rewound", llama, 4, 0.3, rewound, "policy=retrieve", "budget=64");
        add("rewound, open", llama, 2, 5e-2, rewound, "policy=online", "budget=1000");
        add("generated", llama, 4, 0.3, generated, "policy=retrieve", "budget=64");
        add("generated", llama, 2, 0.25, generated, "policy=quantize", "bits=4");
        add("all tokens wanted", llama, 1, 5e-2, longer, "policy=retrieve", "index.share=1", "budget=4096");
        add("online, peaked", llama, 8, 0.2, longer, "policy=online");
        add("online, flat", llama, 0.01, 0.5, longer, "policy=online");
        for (String policy : new String[] {"exact", "quantize", "retrieve"}) {
            add("131,072 tokens", shape(2, 1, 64, 0), 3, policy.equals("exact") ? 2e-2 : 0.25,
                    steps(65_536, 65_000, 1, 1, 300, 1, 1, -1000, 1, 1200, 1), "policy=" + policy, "bits=8",
                    "budget=2048");
            add("40,000 tokens", shape(4, 2, 128, 0), 3, policy.equals("exact") ? 2e-2 : 0.25,
                    steps(20_000, 20_000, 1, -20_100, 1, 700, 1), "policy=" + policy, "bits=4", "budget=1024");
        }
        add("65,536 tokens, online", shape(2, 1, 128, 0), 8, 0.2, steps(65_535, 1, 1), "policy=online");
        add("no GPU memory to speak of", llama, 4, 0.3, longer, "policy=retrieve", "gpu.memory=100m", "budget=128");
    }

    public static void main(String[] args) {
        boolean small = args.length > 0 && args[0].equals("small");
        long seed = args.length > 1 ? Long.parseLong(args[1]) : new Random().nextLong();
        System.out.println("seed " + seed);
        cases(small);
        int failures = 0;
        for (Case one : CASES) {
            try {
                failures += run(one, seed) ? 0 : 1;
            } catch (RuntimeException e) {
                failures++;
                System.out.println("FAILED " + one.name() + " " + String.join(" ", one.words()) + ": " + e);
                e.printStackTrace(System.out);
                if (String.valueOf(e.getMessage()).contains("are gone")) {
                    break;
                }
            }
        }
        System.out.println(CASES.size() + " cases, " + failures + " failed");
        System.exit(failures == 0 ? 0 : 1);
    }

    private static String[] with(List<String> words, String more) {
        List<String> all = new ArrayList<>(words);
        all.add(more);
        if (!more.endsWith("cuda")) {
            all.removeIf(word -> word.startsWith("gpu."));
        }
        return all.toArray(new String[0]);
    }

    private static String reference(Case one) {
        return one.steps().stream().filter(n -> n > 0).mapToInt(n -> n).sum() > MOST_SCALAR ? "panama" : "scalar";
    }

    private static boolean run(Case one, long seed) {
        AttentionShape shape = one.shape();
        Random random = new Random(seed);
        int queries = shape.heads() * shape.headSize();
        int keys = shape.kvHeads() * shape.headSize();
        List<float[]> allKeys = new ArrayList<>();
        List<float[]> allValues = new ArrayList<>();
        double worst = 0;
        double mean = 0;
        double meanOfCpu = 0;
        double meanAgainstCpu = 0;
        int rows = 0;
        double offset = 1;
        float[] means = vector(random, keys, offset);
        try (Contestant gpu = Contestant.open(shape, 1, 1 << 20, with(one.words(), "backend=cuda"));
                Contestant cpu = Contestant.open(shape, 1, 1 << 20, with(one.words(), "backend=" + reference(one)))) {
            for (int step : one.steps()) {
                if (step < 0) {
                    for (int i = step; i < 0; i++) {
                        allKeys.removeLast();
                        allValues.removeLast();
                    }
                    continue;
                }
                int start = allKeys.size();
                try (Arena arena = Arena.ofShared()) {
                    LongFunction<MemorySegment> memory = bytes -> {
                        MemorySegment lent = random.nextBoolean() ? gpu.model().lend(bytes) : null;
                        return lent == null ? arena.allocate(bytes, 64) : lent;
                    };
                    MemorySegment q = memory.apply(4L * step * queries);
                    MemorySegment k = memory.apply(4L * step * keys);
                    MemorySegment v = memory.apply(4L * step * keys);
                    MemorySegment fromGpu = memory.apply(4L * step * queries).fill((byte) 0xff);
                    MemorySegment fromCpu = arena.allocate(4L * step * queries, 64);
                    for (int i = 0; i < step; i++) {
                        float[] key = vector(random, keys, 1);
                        for (int c = 0; c < keys; c++) {
                            // A few channels carry most of the keys, as in real models.
                            key[c] = (c % 8 == 0 ? 2 * key[c] : 0.3f * key[c]) + means[c];
                        }
                        float[] value = vector(random, keys, 1);
                        allKeys.add(key);
                        allValues.add(value);
                        put(vector(random, queries, one.querySize()), q, i);
                        put(key, k, i);
                        put(value, v, i);
                    }
                    gpu.session().attend(0, start, step, q, k, v, fromGpu);
                    cpu.session().attend(0, start, step, q, k, v, fromCpu);
                    for (int i = Math.max(0, step - 3); i < step; i++) {
                        double[] exact = naive(shape, q, i, start + i, allKeys, allValues);
                        double error = 0;
                        double cpuError = 0;
                        double difference = 0;
                        double size = 0;
                        for (int c = 0; c < queries; c++) {
                            long at = (long) i * queries + c;
                            double mine = fromGpu.getAtIndex(ValueLayout.JAVA_FLOAT, at);
                            double theirs = fromCpu.getAtIndex(ValueLayout.JAVA_FLOAT, at);
                            error += (mine - exact[c]) * (mine - exact[c]);
                            cpuError += (theirs - exact[c]) * (theirs - exact[c]);
                            difference += (mine - theirs) * (mine - theirs);
                            size += exact[c] * exact[c];
                        }
                        worst = Math.max(worst, nanToInfinity(Math.sqrt(error / size)));
                        mean += Math.sqrt(error / size);
                        meanOfCpu += Math.sqrt(cpuError / size);
                        meanAgainstCpu += Math.sqrt(difference / size);
                        rows++;
                    }
                }
            }
            mean /= rows;
            meanOfCpu /= rows;
            meanAgainstCpu /= rows;
            // Quantization and selection lose what they lose: the GPU may lose no more of it than the CPU.
            boolean good = Double.isFinite(worst) && (worst < one.bound() || mean < 0.02 + 1.3 * meanOfCpu);
            String kinds = gpu.session().statistics().getFirst().kind() + "/"
                    + cpu.session().statistics().getFirst().kind();
            double preference = gpu.session().statistics().getFirst().densePreference();
            double cpuPreference = cpu.session().statistics().getFirst().densePreference();
            if (!Double.isNaN(preference) || !Double.isNaN(cpuPreference)) {
                good &= Math.abs(preference - cpuPreference) < 0.02;
                kinds += String.format(Locale.ROOT, " P %.4f/%.4f", preference, cpuPreference);
            }
            System.out.printf(
                    Locale.ROOT,
                    "%s %-34s %2d/%-2d x%-3d %-60s worst %.4f mean %.4f, CPU's %.4f, between %.4f %s%n",
                    good ? "ok    " : "FAILED",
                    one.name(),
                    shape.heads(),
                    shape.kvHeads(),
                    shape.headSize(),
                    String.join(" ", one.words()),
                    worst,
                    mean,
                    meanOfCpu,
                    meanAgainstCpu,
                    kinds);
            return good;
        }
    }

    private static double nanToInfinity(double x) {
        return Double.isNaN(x) ? Double.POSITIVE_INFINITY : x;
    }

    private static float[] vector(Random random, int length, double size) {
        float[] vector = new float[length];
        for (int i = 0; i < length; i++) {
            vector[i] = (float) (random.nextGaussian() * size);
        }
        return vector;
    }

    private static void put(float[] vector, MemorySegment target, int row) {
        MemorySegment.copy(vector, 0, target, ValueLayout.JAVA_FLOAT, 4L * row * vector.length, vector.length);
    }

    private static double[] naive(
            AttentionShape shape, MemorySegment q, int row, int position, List<float[]> keys, List<float[]> values) {
        int headSize = shape.headSize();
        double[] out = new double[shape.heads() * headSize];
        for (int head = 0; head < shape.heads(); head++) {
            int at = head / shape.groupSize() * headSize;
            double[] weights = new double[position + 1];
            double most = Double.NEGATIVE_INFINITY;
            for (int t = 0; t <= position; t++) {
                double score = 0;
                for (int c = 0; c < headSize; c++) {
                    long index = (long) row * out.length + (head * headSize + c);
                    score += (double) q.getAtIndex(ValueLayout.JAVA_FLOAT, index) * keys.get(t)[at + c];
                }
                score *= shape.scale();
                if (shape.softCap() != 0) {
                    score = shape.softCap() * Math.tanh(score / shape.softCap());
                }
                weights[t] = score;
                most = Math.max(most, score);
            }
            double sum = 0;
            for (int t = 0; t <= position; t++) {
                weights[t] = Math.exp(weights[t] - most);
                sum += weights[t];
            }
            for (int t = 0; t <= position; t++) {
                for (int c = 0; c < headSize; c++) {
                    out[head * headSize + c] += weights[t] / sum * values.get(t)[at + c];
                }
            }
        }
        return out;
    }
}
