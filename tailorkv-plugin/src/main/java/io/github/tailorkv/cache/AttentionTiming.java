package io.github.tailorkv.cache;

import io.github.tailorkv.config.Settings;
import io.github.tailorkv.kernels.AttentionShape;
import io.github.tailorkv.spi.ModelShape;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.Optional;
import java.util.SplittableRandom;

/**
 * How long one layer attends for one token, on this CPU: measured at two lengths on random keys and values, a straight line
 * in between and beyond. Every kind of layer reads something of every token (all of it, or its share of the index) and has
 * a part that does not grow, so a line is what it is.
 *
 * <p>Before each measured call a buffer larger than the caches is read: in a real step the weights of the model pass
 * through them between two visits of the same layer. A model whose weights and sessions fit the caches is faster.
 *
 * @param fixedMillis milliseconds for no token at all
 * @param millisPerToken milliseconds more for each token held
 */
public record AttentionTiming(double fixedMillis, double millisPerToken) {
    private static final int SHORT = 2048;
    private static final int LEAST_LONG = 16_384;
    private static final int MOST_LONG = 65_536;

    /** What the longer of both lengths may take in F32. */
    private static final long LONG_BYTES = 192L << 20;

    private static final int CHUNK = 256;
    private static final int BATCH = 10;
    private static final long WARM_UP_NANOS = 400_000_000L;
    private static final long MOST_WARM_UP_NANOS = 3_000_000_000L;
    private static final int REPEATS = 21;
    private static final int SWEEP_BYTES = 96 << 20;
    private static final int LINE = 64;

    /**
     * Measures a layer of a model.
     *
     * @param settings with a policy that fixes the kind of all layers, and one budget for all lengths
     */
    public static AttentionTiming measure(ModelShape shape, Settings settings) {
        ModelShape layer = new ModelShape(
                shape.name(), 1, shape.attention(), 2 * MOST_LONG, shape.bfloat16(), shape.threads(), Optional.empty());
        try (HybridModelCache model = new HybridModelCache(layer, settings); Arena arena = Arena.ofShared()) {
            // The long one first: whatever the compiler has not done by then shows in it least.
            Rows tokens = Rows.random(shape.attention(), arena);
            double[] atLong = point(longLength(shape), model, tokens);
            double[] atShort = point(SHORT, model, tokens);
            double slope = Math.max(0, (atLong[1] - atShort[1]) / (atLong[0] - atShort[0]));
            return new AttentionTiming(Math.max(0, atShort[1] - slope * atShort[0]), slope);
        }
    }

    /** The longer of the two lengths that a layer of a model is measured at; the other one is 2,048. */
    public static int longLength(ModelShape shape) {
        long tokens = LONG_BYTES * shape.layers() / shape.stockBytesPerToken();
        return Math.clamp(tokens / CHUNK * CHUNK, LEAST_LONG, MOST_LONG);
    }

    /** Milliseconds of one layer that holds so many tokens. */
    public double millis(int tokens) {
        return fixedMillis + millisPerToken * tokens;
    }

    /** Tokens held, and milliseconds with so many. */
    private static double[] point(int length, HybridModelCache model, Rows rows) {
        try (HybridSessionCache session = new HybridSessionCache(model)) {
            while (session.length() < length) {
                session.append(0, session.length(), Math.min(CHUNK, length - session.length()), rows.q, rows.k, rows.v);
            }
            warmUp(session, rows);
            byte[] sweep = new byte[SWEEP_BYTES];
            double[] millis = new double[REPEATS];
            for (int i = 0; i < REPEATS; i++) {
                touch(sweep);
                millis[i] = rows.attend(session);
            }
            Arrays.sort(millis);
            // What the machine can do: other work on it only ever adds.
            return new double[] {session.length(), millis[REPEATS / 4]};
        }
    }

    /** Attends until it gets no faster: code is interpreted at first, and compiled when the compiler has time for it. */
    private static void warmUp(HybridSessionCache session, Rows rows) {
        long start = System.nanoTime();
        double before = Double.MAX_VALUE;
        while (true) {
            double least = Double.MAX_VALUE;
            for (int i = 0; i < BATCH; i++) {
                least = Math.min(least, rows.attend(session));
            }
            long nanos = System.nanoTime() - start;
            if (nanos > MOST_WARM_UP_NANOS || (nanos > WARM_UP_NANOS && least > 0.9 * before)) {
                return;
            }
            before = least;
        }
    }

    /** Writes, so that no compiler leaves it out. */
    private static void touch(byte[] sweep) {
        for (int i = 0; i < sweep.length; i += LINE) {
            sweep[i]++;
        }
    }

    /** What is appended and asked, again and again. */
    private record Rows(MemorySegment q, MemorySegment k, MemorySegment v, MemorySegment out) {
        static Rows random(AttentionShape shape, Arena arena) {
            SplittableRandom random = new SplittableRandom(1);
            long query = (long) shape.heads() * shape.headSize();
            long key = (long) shape.kvHeads() * shape.headSize();
            return new Rows(
                    gaussian(random, arena, CHUNK * query), gaussian(random, arena, CHUNK * key),
                    gaussian(random, arena, CHUNK * key), arena.allocate(4 * query, 64));
        }

        private static MemorySegment gaussian(SplittableRandom random, Arena arena, long floats) {
            MemorySegment rows = arena.allocate(4 * floats, 64);
            for (long i = 0; i < floats; i++) {
                rows.setAtIndex(ValueLayout.JAVA_FLOAT, i, (float) random.nextGaussian());
            }
            return rows;
        }

        /** One token more; its milliseconds. */
        double attend(HybridSessionCache session) {
            long start = System.nanoTime();
            session.attend(0, session.length(), 1, q, k, v, out);
            return (System.nanoTime() - start) / 1e6;
        }
    }
}
