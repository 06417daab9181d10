package io.github.tailorkv.kernels;

import static io.github.tailorkv.kernels.BlockLayout.BLOCK;
import static io.github.tailorkv.kernels.Lanes.F;
import static io.github.tailorkv.kernels.Lanes.L;
import static io.github.tailorkv.kernels.Lanes.ORDER;
import static io.github.tailorkv.kernels.NativeMemory.ALL;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT_UNALIGNED;
import static jdk.incubator.vector.FloatVector.fromMemorySegment;
import static jdk.incubator.vector.VectorOperators.GE;
import static jdk.incubator.vector.VectorOperators.LT;
import static jdk.incubator.vector.VectorOperators.MAX;

import jdk.incubator.vector.FloatVector;

/** Passes over long rows of scores that choose the dominant tokens; any count, absolute addresses. */
final class ScoreSelection {

    /** Scores of one row of one block. */
    private static final long BLOCK_BYTES = BLOCK * 4L;

    private ScoreSelection() {}

    static void scale(long s, int count, float scale, float softCap) {
        int i = 0;
        if (softCap > 0) {
            i = count - count % L;
            softCap(s, i, scale, softCap);
        } else {
            for (; i + L <= count; i += L) {
                fromMemorySegment(F, ALL, s + i * 4L, ORDER).mul(scale).intoMemorySegment(ALL, s + i * 4L, ORDER);
            }
        }
        for (; i < count; i++) {
            float x = scale * ALL.get(JAVA_FLOAT_UNALIGNED, s + i * 4L);
            ALL.set(JAVA_FLOAT_UNALIGNED, s + i * 4L, softCap > 0 ? softCap * (float) Math.tanh(x / softCap) : x);
        }
    }

    /** With {@code tanh(x) = 1 - 2 / (e^2x + 1)}, which is 1 in single precision long before x = 20. */
    private static void softCap(long s, int count, float scale, float cap) {
        FloatVector limit = FloatVector.broadcast(F, 40);
        for (int i = 0; i < count; i += L) {
            FloatVector x = fromMemorySegment(F, ALL, s + i * 4L, ORDER).mul(scale).mul(2 / cap);
            x.blend(limit, limit.compare(LT, x)).intoMemorySegment(ALL, s + i * 4L, ORDER);
        }
        Lanes.exponentials(s, 0, 1, count, 0, s);
        for (int i = 0; i < count; i += L) {
            FloatVector power = fromMemorySegment(F, ALL, s + i * 4L, ORDER);
            FloatVector tanh = FloatVector.broadcast(F, -2).div(power.add(1)).add(1);
            tanh.mul(cap).intoMemorySegment(ALL, s + i * 4L, ORDER);
        }
    }

    static void maxShifted(long s, int count, float shift, long target) {
        int i = 0;
        for (; i + L <= count; i += L) {
            FloatVector shifted = fromMemorySegment(F, ALL, s + i * 4L, ORDER).sub(shift);
            FloatVector old = fromMemorySegment(F, ALL, target + i * 4L, ORDER);
            old.blend(shifted, old.compare(LT, shifted)).intoMemorySegment(ALL, target + i * 4L, ORDER);
        }
        for (; i < count; i++) {
            float shifted = ALL.get(JAVA_FLOAT_UNALIGNED, s + i * 4L) - shift;
            if (shifted > ALL.get(JAVA_FLOAT_UNALIGNED, target + i * 4L)) {
                ALL.set(JAVA_FLOAT_UNALIGNED, target + i * 4L, shifted);
            }
        }
    }

    /** {@link AttentionKernels#rank}: for each row its maximum, its sum and its part in the ranks; then the blocks. */
    static void rank(long s, int blocks, int rows, long rank, float[] blockMaxima) {
        for (int r = 0; r < rows; r++) {
            long row = s + r * BLOCK_BYTES;
            long stride = rows * BLOCK_BYTES;
            float logSumExp = logSumExp(row, stride, blocks);
            shares(row, stride, blocks, logSumExp, rank, r == 0);
        }
        for (int b = 0; b < blocks; b++) {
            blockMaxima[b] = max(rank + b * BLOCK_BYTES, BLOCK);
        }
    }

    private static float logSumExp(long row, long stride, int blocks) {
        FloatVector largest = FloatVector.broadcast(F, Float.NEGATIVE_INFINITY);
        for (int b = 0; b < blocks; b++) {
            for (int t = 0; t < BLOCK; t += L) {
                FloatVector x = fromMemorySegment(F, ALL, row + b * stride + t * 4L, ORDER);
                largest = largest.blend(x, largest.compare(LT, x));
            }
        }
        float maximum = largest.reduceLanes(MAX);
        float shift = maximum == Float.NEGATIVE_INFINITY ? 0 : maximum;
        return shift + (float) Math.log(Lanes.exponentials(row, stride, blocks, BLOCK, shift, 0));
    }

    private static void shares(long row, long stride, int blocks, float logSumExp, long rank, boolean first) {
        for (int b = 0; b < blocks; b++) {
            for (int t = 0; t < BLOCK; t += L) {
                long target = rank + b * BLOCK_BYTES + t * 4L;
                FloatVector share = fromMemorySegment(F, ALL, row + b * stride + t * 4L, ORDER).sub(logSumExp);
                if (!first) {
                    FloatVector best = fromMemorySegment(F, ALL, target, ORDER);
                    share = best.blend(share, best.compare(LT, share));
                }
                share.intoMemorySegment(ALL, target, ORDER);
            }
        }
    }

    static float max(long s, int count) {
        FloatVector first = FloatVector.broadcast(F, Float.NEGATIVE_INFINITY);
        FloatVector second = first;
        int i = 0;
        for (; i + 2 * L <= count; i += 2 * L) {
            FloatVector x = fromMemorySegment(F, ALL, s + i * 4L, ORDER);
            first = first.blend(x, first.compare(LT, x));
            x = fromMemorySegment(F, ALL, s + (i + L) * 4L, ORDER);
            second = second.blend(x, second.compare(LT, x));
        }
        float maximum = Math.max(first.reduceLanes(MAX), second.reduceLanes(MAX));
        for (; i < count; i++) {
            float x = ALL.get(JAVA_FLOAT_UNALIGNED, s + i * 4L);
            maximum = x > maximum ? x : maximum;
        }
        return maximum;
    }

    /** Dominant tokens are few: most vectors have none, and the others are walked bit by bit. */
    static int indicesAtLeast(long s, int count, float threshold, int base, int[] indices, int at) {
        int next = at;
        int i = 0;
        for (; i + L <= count; i += L) {
            long found = fromMemorySegment(F, ALL, s + i * 4L, ORDER).compare(GE, threshold).toLong();
            for (; found != 0; found &= found - 1) {
                if (next == indices.length) {
                    return next;
                }
                indices[next++] = base + i + Long.numberOfTrailingZeros(found);
            }
        }
        for (; i < count && next < indices.length; i++) {
            if (ALL.get(JAVA_FLOAT_UNALIGNED, s + i * 4L) >= threshold) {
                indices[next++] = base + i;
            }
        }
        return next;
    }
}
