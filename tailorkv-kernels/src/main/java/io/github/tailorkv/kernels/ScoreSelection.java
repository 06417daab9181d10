package io.github.tailorkv.kernels;

import static io.github.tailorkv.kernels.BlockLayout.BLOCK;
import static io.github.tailorkv.kernels.Lanes.F;
import static io.github.tailorkv.kernels.Lanes.L;
import static io.github.tailorkv.kernels.Lanes.ORDER;
import static io.github.tailorkv.kernels.NativeMemory.ALL;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT_UNALIGNED;
import static jdk.incubator.vector.FloatVector.fromMemorySegment;
import static jdk.incubator.vector.VectorOperators.ADD;
import static jdk.incubator.vector.VectorOperators.GE;
import static jdk.incubator.vector.VectorOperators.MAX;

import jdk.incubator.vector.FloatVector;

/** Passes over long rows of scores that choose the dominant tokens; any count, absolute addresses. */
final class ScoreSelection {

    /** Scores of one row of one block. */
    private static final long BLOCK_BYTES = BLOCK * 4L;

    private ScoreSelection() {}

    static void scale(long s, int count, float scale, float softCap) {
        int i = 0;
        for (; i + L <= count; i += L) {
            FloatVector x = fromMemorySegment(F, ALL, s + i * 4L, ORDER).mul(scale);
            if (softCap > 0) {
                x = Lanes.softCap(x, softCap);
            }
            x.intoMemorySegment(ALL, s + i * 4L, ORDER);
        }
        for (; i < count; i++) {
            float x = scale * ALL.get(JAVA_FLOAT_UNALIGNED, s + i * 4L);
            ALL.set(JAVA_FLOAT_UNALIGNED, s + i * 4L, softCap > 0 ? softCap * (float) Math.tanh(x / softCap) : x);
        }
    }

    static void maxShifted(long s, int count, float shift, long target) {
        int i = 0;
        for (; i + L <= count; i += L) {
            FloatVector shifted = fromMemorySegment(F, ALL, s + i * 4L, ORDER).sub(shift);
            Lanes.max(fromMemorySegment(F, ALL, target + i * 4L, ORDER), shifted)
                    .intoMemorySegment(ALL, target + i * 4L, ORDER);
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
            for (int b = 0; b < blocks; b++) {
                for (int t = 0; t < BLOCK; t += L) {
                    long target = rank + b * BLOCK_BYTES + t * 4L;
                    FloatVector share = Lanes.load(row + b * stride + t * 4L).sub(logSumExp);
                    Lanes.store(target, r == 0 ? share : Lanes.max(Lanes.load(target), share));
                }
            }
        }
        for (int b = 0; b < blocks; b++) {
            blockMaxima[b] = max(rank + b * BLOCK_BYTES, BLOCK);
        }
    }

    private static float logSumExp(long row, long stride, int blocks) {
        FloatVector largest = FloatVector.broadcast(F, Float.NEGATIVE_INFINITY);
        for (int b = 0; b < blocks; b++) {
            for (int t = 0; t < BLOCK; t += L) {
                largest = Lanes.max(largest, Lanes.load(row + b * stride + t * 4L));
            }
        }
        float maximum = largest.reduceLanes(MAX);
        float shift = maximum == Float.NEGATIVE_INFINITY ? 0 : maximum;
        FloatVector sum = FloatVector.zero(F);
        for (int b = 0; b < blocks; b++) {
            for (int t = 0; t < BLOCK; t += L) {
                sum = sum.add(Lanes.exp(Lanes.load(row + b * stride + t * 4L).sub(shift)));
            }
        }
        return shift + (float) Math.log(sum.reduceLanes(ADD));
    }

    static float max(long s, int count) {
        FloatVector first = FloatVector.broadcast(F, Float.NEGATIVE_INFINITY);
        FloatVector second = first;
        int i = 0;
        for (; i + 2 * L <= count; i += 2 * L) {
            first = Lanes.max(first, fromMemorySegment(F, ALL, s + i * 4L, ORDER));
            second = Lanes.max(second, fromMemorySegment(F, ALL, s + (i + L) * 4L, ORDER));
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
