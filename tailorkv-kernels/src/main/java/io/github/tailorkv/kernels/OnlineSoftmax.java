package io.github.tailorkv.kernels;

import static io.github.tailorkv.kernels.BlockLayout.BLOCK;
import static io.github.tailorkv.kernels.Lanes.F;
import static io.github.tailorkv.kernels.Lanes.IOTA;
import static io.github.tailorkv.kernels.Lanes.L;
import static io.github.tailorkv.kernels.Lanes.ORDER;
import static io.github.tailorkv.kernels.NativeMemory.ALL;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT_UNALIGNED;
import static jdk.incubator.vector.FloatVector.fromMemorySegment;
import static jdk.incubator.vector.VectorOperators.ADD;
import static jdk.incubator.vector.VectorOperators.GT;
import static jdk.incubator.vector.VectorOperators.LSHL;
import static jdk.incubator.vector.VectorOperators.LT;
import static jdk.incubator.vector.VectorOperators.MAX;

import jdk.incubator.vector.FloatVector;

/**
 * The running softmax of a row of scores: m, the largest score so far, and l, the sum of {@code exp(score - m)}; both
 * lie next to each other in the row's state. Addresses are absolute. Rescaling an accumulator is skipped where the
 * maximum did not rise, which is soon the rule. All rows of a block go through one loop for their exponentials, so that the
 * processor works on several at a time: one after the other, each would wait for its own sums.
 */
final class OnlineSoftmax {

    /** Bytes of a row of scores of a block, and of the state of a row. */
    private static final int ROW = BLOCK * Float.BYTES;
    private static final int STATE = 2 * Float.BYTES;

    private OnlineSoftmax() {}

    /** {@link AttentionKernels#softmaxStep}. */
    static void step(
            long s, int rows, int tokens, int valid, int rowsPerToken, float scale, float softCap, long states,
            long acc, int headSize) {
        for (int r = 0; r < rows; r++) {
            int visible = Math.clamp((long) valid + r / rowsPerToken, 0, tokens);
            prepare(s + (long) r * ROW, visible, scale, softCap, states + (long) r * STATE,
                    acc + (long) r * headSize * Float.BYTES, headSize);
        }
        exponentials(s, rows, states);
    }

    /** Scales a row and takes out what is not visible; raises the maximum and rescales what it is the measure of. */
    private static void prepare(
            long s, int visible, float scale, float softCap, long state, long acc, int headSize) {
        float factor = scale;
        if (softCap > 0) {
            ScoreSelection.scale(s, BLOCK, scale, softCap);
            factor = 1;
        }
        if (visible < BLOCK) {
            hide(s, visible, factor);
            factor = 1;
        }
        FloatVector largest = FloatVector.broadcast(F, Float.NEGATIVE_INFINITY);
        long row = NativeMemory.base(s);
        for (int t = 0; t < BLOCK; t += L) {
            FloatVector x = fromMemorySegment(F, ALL, NativeMemory.at(row, t * 4), ORDER).mul(factor);
            x.intoMemorySegment(ALL, NativeMemory.at(row, t * 4), ORDER);
            largest = largest.blend(x, largest.compare(LT, x));
        }
        float maximum = ALL.get(JAVA_FLOAT_UNALIGNED, state);
        // Looking for the largest lane takes longer than asking whether there is one to look for.
        if (largest.compare(GT, maximum).anyTrue()) {
            float newMaximum = largest.reduceLanes(MAX);
            float correction = Lanes.exp(maximum - newMaximum);
            scale(acc, headSize, correction);
            ALL.set(JAVA_FLOAT_UNALIGNED, state, newMaximum);
            ALL.set(JAVA_FLOAT_UNALIGNED, state + 4, correction * ALL.get(JAVA_FLOAT_UNALIGNED, state + 4));
        }
    }

    /** Turns rows into weights, {@code exp(score - maximum)}, and adds them to the sums; see {@link Lanes#exponentials}. */
    private static void exponentials(long s, int rows, long states) {
        for (int r = 0; r < rows; r++) {
            long row = NativeMemory.base(s + (long) r * ROW);
            long state = states + (long) r * STATE;
            float maximum = ALL.get(JAVA_FLOAT_UNALIGNED, state);
            float shift = maximum == Float.NEGATIVE_INFINITY ? 0 : maximum;
            FloatVector sum = FloatVector.zero(F);
            for (int t = 0; t < BLOCK; t += L) {
                FloatVector x = fromMemorySegment(F, ALL, NativeMemory.at(row, t * 4), ORDER).sub(shift);
                FloatVector rounded = x.fma(FloatVector.broadcast(F, Lanes.LOG2_E),
                        FloatVector.broadcast(F, Lanes.ROUNDER));
                FloatVector n = rounded.sub(Lanes.ROUNDER);
                FloatVector y = n.fma(FloatVector.broadcast(F, -Lanes.LN_2_HIGH), x);
                y = n.fma(FloatVector.broadcast(F, -Lanes.LN_2_LOW), y);
                FloatVector p = y.fma(FloatVector.broadcast(F, Lanes.EXP_6), FloatVector.broadcast(F, Lanes.EXP_5));
                p = p.fma(y, FloatVector.broadcast(F, Lanes.EXP_4));
                p = p.fma(y, FloatVector.broadcast(F, Lanes.EXP_3));
                p = p.fma(y, FloatVector.broadcast(F, Lanes.EXP_2));
                p = p.fma(y.mul(y), y).add(1);
                FloatVector power = p.reinterpretAsInts().add(rounded.reinterpretAsInts().lanewise(LSHL, 23))
                        .reinterpretAsFloats();
                power = power.blend(0, x.compare(LT, Lanes.EXP_MIN));
                sum = sum.add(power);
                power.intoMemorySegment(ALL, NativeMemory.at(row, t * 4), ORDER);
            }
            float total = ALL.get(JAVA_FLOAT_UNALIGNED, state + 4) + sum.reduceLanes(ADD);
            ALL.set(JAVA_FLOAT_UNALIGNED, state + 4, total);
        }
    }

    /** Scales the scores before {@code visible} and takes the others out. */
    private static void hide(long s, int visible, float factor) {
        FloatVector nothing = FloatVector.broadcast(F, Float.NEGATIVE_INFINITY);
        for (int t = 0; t < BLOCK; t += L) {
            FloatVector x = fromMemorySegment(F, ALL, s + t * 4L, ORDER).mul(factor);
            nothing.blend(x, IOTA.compare(LT, visible - t).cast(F)).intoMemorySegment(ALL, s + t * 4L, ORDER);
        }
    }

    private static void scale(long x, int count, float factor) {
        for (int i = 0; i < count; i += L) {
            fromMemorySegment(F, ALL, x + i * 4L, ORDER).mul(factor).intoMemorySegment(ALL, x + i * 4L, ORDER);
        }
    }

    /** One row of {@link AttentionKernels#merge}. */
    static void merge(long state, long acc, long otherState, long otherAcc, int headSize) {
        float maximum = ALL.get(JAVA_FLOAT_UNALIGNED, state);
        float otherMaximum = ALL.get(JAVA_FLOAT_UNALIGNED, otherState);
        float newMaximum = Math.max(maximum, otherMaximum);
        float shift = newMaximum == Float.NEGATIVE_INFINITY ? 0 : newMaximum;
        float mine = Lanes.exp(maximum - shift);
        float theirs = Lanes.exp(otherMaximum - shift);
        ALL.set(JAVA_FLOAT_UNALIGNED, state, newMaximum);
        ALL.set(JAVA_FLOAT_UNALIGNED, state + 4, mine * ALL.get(JAVA_FLOAT_UNALIGNED, state + 4)
                + theirs * ALL.get(JAVA_FLOAT_UNALIGNED, otherState + 4));
        for (int c = 0; c < headSize; c += L) {
            FloatVector other = fromMemorySegment(F, ALL, otherAcc + c * 4L, ORDER).mul(theirs);
            fromMemorySegment(F, ALL, acc + c * 4L, ORDER)
                    .mul(mine)
                    .add(other)
                    .intoMemorySegment(ALL, acc + c * 4L, ORDER);
        }
    }

    /** One row of {@link AttentionKernels#normalize}. */
    static void normalize(long state, long acc, int headSize, long out) {
        float sum = ALL.get(JAVA_FLOAT_UNALIGNED, state + 4);
        float inverse = sum == 0 ? 0 : 1 / sum;
        for (int c = 0; c < headSize; c += L) {
            fromMemorySegment(F, ALL, acc + c * 4L, ORDER).mul(inverse).intoMemorySegment(ALL, out + c * 4L, ORDER);
        }
    }

    /** {@link AttentionKernels#logSumExpStep}. */
    static void add(long s, int count, long state) {
        float maximum = ALL.get(JAVA_FLOAT_UNALIGNED, state);
        float newMaximum = Math.max(maximum, ScoreSelection.max(s, count));
        float shift = newMaximum == Float.NEGATIVE_INFINITY ? 0 : newMaximum;
        int i = count - count % L;
        float total = Lanes.exponentials(s, 0, 1, i, shift, 0)
                + Lanes.exp(maximum - shift) * ALL.get(JAVA_FLOAT_UNALIGNED, state + 4);
        for (; i < count; i++) {
            total += Lanes.exp(ALL.get(JAVA_FLOAT_UNALIGNED, s + i * 4L) - shift);
        }
        ALL.set(JAVA_FLOAT_UNALIGNED, state, newMaximum);
        ALL.set(JAVA_FLOAT_UNALIGNED, state + 4, total);
    }
}
