package io.github.tailorkv.kernels;

import static io.github.tailorkv.kernels.BlockLayout.FLOAT;
import static io.github.tailorkv.kernels.Lanes.F;
import static io.github.tailorkv.kernels.Lanes.L;
import static io.github.tailorkv.kernels.Lanes.ORDER;
import static io.github.tailorkv.kernels.NativeMemory.ALL;
import static jdk.incubator.vector.FloatVector.fromMemorySegment;
import static jdk.incubator.vector.VectorOperators.ADD;

import jdk.incubator.vector.FloatVector;

/**
 * Scores of keys that lie token by token, as those unpacked from records one by one do: {@code C[r][t] = A[r] . B[t]}.
 *
 * <p>A dot product along a row ends in a sum across lanes, which {@link TileProduct} avoids by its channel-major tiles.
 * For tokens gathered from anywhere the tile would have to be written first, a number at a time, and that costs more than
 * the sums. Four queries share each load of the key.
 */
final class RowProduct {

    private RowProduct() {}

    /** {@code C = A B^T}; rows of A are {@code aStride} bytes apart, rows of C {@code cStride}, B is contiguous. */
    static void multiply(
            long a, long aStride, int rows, int depth, long b, int tokens, long c, long cStride) {
        int r = 0;
        for (; r + 4 <= rows; r += 4) {
            fourRows(a + r * aStride, aStride, depth, b, tokens, c + r * cStride, cStride);
        }
        for (; r < rows; r++) {
            oneRow(a + r * aStride, depth, b, tokens, c + r * cStride);
        }
    }

    private static void fourRows(long a, long aStride, int depth, long b, int tokens, long c, long cStride) {
        long a1 = a + aStride;
        long a2 = a1 + aStride;
        long a3 = a2 + aStride;
        for (int t = 0; t < tokens; t++) {
            long row = b + (long) t * depth * FLOAT;
            FloatVector s0 = FloatVector.zero(F);
            FloatVector s1 = s0;
            FloatVector s2 = s0;
            FloatVector s3 = s0;
            for (int i = 0; i < depth; i += L) {
                FloatVector key = fromMemorySegment(F, ALL, row + i * 4L, ORDER);
                s0 = key.fma(fromMemorySegment(F, ALL, a + i * 4L, ORDER), s0);
                s1 = key.fma(fromMemorySegment(F, ALL, a1 + i * 4L, ORDER), s1);
                s2 = key.fma(fromMemorySegment(F, ALL, a2 + i * 4L, ORDER), s2);
                s3 = key.fma(fromMemorySegment(F, ALL, a3 + i * 4L, ORDER), s3);
            }
            long target = c + t * 4L;
            Lanes.store(target, s0.reduceLanes(ADD));
            Lanes.store(target + cStride, s1.reduceLanes(ADD));
            Lanes.store(target + 2 * cStride, s2.reduceLanes(ADD));
            Lanes.store(target + 3 * cStride, s3.reduceLanes(ADD));
        }
    }

    private static void oneRow(long a, int depth, long b, int tokens, long c) {
        for (int t = 0; t < tokens; t++) {
            long row = b + (long) t * depth * FLOAT;
            FloatVector sum = FloatVector.zero(F);
            for (int i = 0; i < depth; i += L) {
                sum = fromMemorySegment(F, ALL, row + i * 4L, ORDER)
                        .fma(fromMemorySegment(F, ALL, a + i * 4L, ORDER), sum);
            }
            Lanes.store(c + t * 4L, sum.reduceLanes(ADD));
        }
    }
}
