package io.github.tailorkv.jlama;

import io.github.tailorkv.kernels.AttentionShape;
import io.github.tailorkv.spi.ModelCache;
import io.github.tailorkv.spi.SessionCache;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Optional;
import java.util.Random;

/** A few tokens through a fresh session, against attention written out plainly. */
final class SelfTest {
    private static final int TOKENS = 3;

    /** Of the largest value. Wide enough for BF16 storage, far too narrow for a wrong head or position. */
    private static final double TOLERANCE = 0.02;

    private final AttentionShape shape;
    private final float[] q;
    private final float[] k;
    private final float[] v;

    private SelfTest(AttentionShape shape) {
        Random random = new Random(shape.heads());
        this.shape = shape;
        q = uniform(random, shape.heads());
        k = uniform(random, shape.kvHeads());
        v = uniform(random, shape.kvHeads());
    }

    private float[] uniform(Random random, int heads) {
        float[] values = new float[TOKENS * heads * shape.headSize()];
        for (int i = 0; i < values.length; i++) {
            values[i] = random.nextFloat() * 2 - 1;
        }
        return values;
    }

    /** What is wrong with the answers of a cache, in a few words; empty if nothing is. */
    static Optional<String> complaint(ModelCache cache, AttentionShape shape) {
        return new SelfTest(shape).complaint(cache);
    }

    private Optional<String> complaint(ModelCache cache) {
        try (Arena arena = Arena.ofShared(); SessionCache session = cache.newSession()) {
            MemorySegment out = arena.allocate((long) q.length * Float.BYTES, 64);
            session.attend(0, 0, TOKENS, copy(arena, q), copy(arena, k), copy(arena, v), out);
            for (int token = 0; token < TOKENS; token++) {
                for (int head = 0; head < shape.heads(); head++) {
                    double[] expected = attention(token, head);
                    for (int c = 0; c < expected.length; c++) {
                        float actual = out.getAtIndex(ValueLayout.JAVA_FLOAT, at(token, shape.heads(), head) + c);
                        if (!(Math.abs(actual - expected[c]) <= TOLERANCE)) {
                            return Optional
                                    .of("head " + head + " of token " + token + " gives " + actual + " instead of "
                                            + (float) expected[c]);
                        }
                    }
                }
            }
            return Optional.empty();
        }
    }

    private static MemorySegment copy(Arena arena, float[] values) {
        MemorySegment segment = arena.allocate((long) values.length * Float.BYTES, 64);
        MemorySegment.copy(values, 0, segment, ValueLayout.JAVA_FLOAT, 0, values.length);
        return segment;
    }

    private int at(int token, int heads, int head) {
        return (token * heads + head) * shape.headSize();
    }

    private double[] attention(int token, int head) {
        int kvHead = head / shape.groupSize();
        double[] sum = new double[shape.headSize()];
        double weights = 0;
        for (int t = 0; t <= token; t++) {
            double score = 0;
            for (int c = 0; c < shape.headSize(); c++) {
                score += q[at(token, shape.heads(), head) + c] * k[at(t, shape.kvHeads(), kvHead) + c];
            }
            score *= shape.scale();
            if (shape.softCap() != 0) {
                score = shape.softCap() * Math.tanh(score / shape.softCap());
            }
            double weight = Math.exp(score);
            weights += weight;
            for (int c = 0; c < shape.headSize(); c++) {
                sum[c] += weight * v[at(t, shape.kvHeads(), kvHead) + c];
            }
        }
        for (int c = 0; c < sum.length; c++) {
            sum[c] /= weights;
        }
        return sum;
    }
}
