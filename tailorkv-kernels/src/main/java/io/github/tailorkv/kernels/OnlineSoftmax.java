package io.github.tailorkv.kernels;

import static io.github.tailorkv.kernels.BlockLayout.BLOCK;
import static io.github.tailorkv.kernels.Lanes.F;
import static io.github.tailorkv.kernels.Lanes.IOTA;
import static io.github.tailorkv.kernels.Lanes.L;
import static io.github.tailorkv.kernels.Lanes.ORDER;
import static io.github.tailorkv.kernels.NativeMemory.ALL;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT_UNALIGNED;
import static jdk.incubator.vector.FloatVector.fromMemorySegment;
import static jdk.incubator.vector.VectorOperators.LT;
import static jdk.incubator.vector.VectorOperators.MAX;

import jdk.incubator.vector.FloatVector;

/**
 * The running softmax of a row of scores: m, the largest score so far, and l, the sum of {@code exp(score - m)}; both
 * lie next to each other in the row's state. Addresses are absolute. Rescaling an accumulator is skipped where the
 * maximum did not rise, which is soon the rule.
 */
final class OnlineSoftmax {

    private OnlineSoftmax() {}

    /** One row of {@link AttentionKernels#softmaxStep}. */
    static void step(
            long s, int visible, float scale, float softCap, long state, long acc, int headSize) {
        float factor = scale;
        if (softCap > 0) {
            ScoreSelection.scale(s, BLOCK, scale, softCap);
            factor = 1;
        }
        FloatVector largest = FloatVector.broadcast(F, Float.NEGATIVE_INFINITY);
        for (int t = 0; t < BLOCK; t += L) {
            FloatVector x = fromMemorySegment(F, ALL, s + t * 4L, ORDER).mul(factor);
            x = FloatVector.broadcast(F, Float.NEGATIVE_INFINITY).blend(x, IOTA.compare(LT, visible - t).cast(F));
            x.intoMemorySegment(ALL, s + t * 4L, ORDER);
            largest = largest.blend(x, largest.compare(LT, x));
        }
        float maximum = ALL.get(JAVA_FLOAT_UNALIGNED, state);
        float newMaximum = Math.max(maximum, largest.reduceLanes(MAX));
        float shift = newMaximum == Float.NEGATIVE_INFINITY ? 0 : newMaximum;

        float total = Lanes.exponentials(s, 0, 1, BLOCK, shift, s);
        float oldTotal = ALL.get(JAVA_FLOAT_UNALIGNED, state + 4);
        if (newMaximum > maximum) {
            float correction = Lanes.exp(maximum - newMaximum);
            oldTotal *= correction;
            scale(acc, headSize, correction);
            ALL.set(JAVA_FLOAT_UNALIGNED, state, newMaximum);
        }
        ALL.set(JAVA_FLOAT_UNALIGNED, state + 4, oldTotal + total);
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
