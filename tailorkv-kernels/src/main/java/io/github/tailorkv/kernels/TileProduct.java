package io.github.tailorkv.kernels;

import static io.github.tailorkv.kernels.Lanes.L;
import static io.github.tailorkv.kernels.Lanes.V;
import static io.github.tailorkv.kernels.Lanes.WIDE;
import static io.github.tailorkv.kernels.Lanes.F;
import static io.github.tailorkv.kernels.Lanes.ORDER;
import static io.github.tailorkv.kernels.NativeMemory.ALL;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT_UNALIGNED;
import static jdk.incubator.vector.FloatVector.fromMemorySegment;

import jdk.incubator.vector.FloatVector;

/**
 * The matrix product that both halves of dense attention are: {@code C = A B} for scores (A the queries, B the
 * channel-major key tile, C the scores, cleared first) and {@code C += A B} for the output (A the weights, B the
 * token-major value tile, C the accumulators).
 *
 * <p>The result is cut into pieces of a few rows by four vectors that stay in registers while the inner dimension runs:
 * with 4 rows, each step loads four vectors of B and broadcasts four numbers of A for sixteen multiply-adds, so that the
 * two multiply-add units are the bottleneck, and sixteen independent sums are more than enough to hide their latency.
 * AVX2 has half the registers and gets two rows. B (a tile of at most 64 x 128) stays in the first-level cache while the
 * rows of A stream by.
 */
final class TileProduct {

    private static final int PANEL = 4 * L;

    private TileProduct() {}

    /**
     * {@code C += A B}, {@code rows x depth} by {@code depth x columns}; strides are the bytes from row to row.
     *
     * @param columns a multiple of 16
     */
    static void multiply(
            long a, long aStride, int rows, int depth, long b, long bStride, int columns,
            long c, long cStride) {
        int column = 0;
        for (; column + PANEL <= columns; column += PANEL) {
            panel(a, aStride, rows, depth, b + column * 4L, bStride, c + column * 4L, cStride);
        }
        for (; column < columns; column += L) {
            for (int r = 0; r < rows; r++) {
                strip(a + r * aStride, depth, b + column * 4L, bStride, c + column * 4L + r * cStride);
            }
        }
    }

    private static void panel(
            long a, long aStride, int rows, int depth, long b, long bStride, long c, long cStride) {
        int r = 0;
        if (WIDE) {
            for (; r + 4 <= rows; r += 4) {
                fourRows(a + r * aStride, aStride, depth, b, bStride, c + r * cStride, cStride);
            }
        }
        for (; r + 2 <= rows; r += 2) {
            twoRows(a + r * aStride, aStride, depth, b, bStride, c + r * cStride, cStride);
        }
        if (r < rows) {
            oneRow(a + r * aStride, depth, b, bStride, c + r * cStride);
        }
    }

    private static void fourRows(
            long a, long aStride, int depth, long b, long bStride, long c, long cStride) {
        FloatVector c00 = fromMemorySegment(F, ALL, c, ORDER);
        FloatVector c01 = fromMemorySegment(F, ALL, c + V, ORDER);
        FloatVector c02 = fromMemorySegment(F, ALL, c + 2 * V, ORDER);
        FloatVector c03 = fromMemorySegment(F, ALL, c + 3 * V, ORDER);
        FloatVector c10 = fromMemorySegment(F, ALL, c + cStride, ORDER);
        FloatVector c11 = fromMemorySegment(F, ALL, c + cStride + V, ORDER);
        FloatVector c12 = fromMemorySegment(F, ALL, c + cStride + 2 * V, ORDER);
        FloatVector c13 = fromMemorySegment(F, ALL, c + cStride + 3 * V, ORDER);
        FloatVector c20 = fromMemorySegment(F, ALL, c + 2 * cStride, ORDER);
        FloatVector c21 = fromMemorySegment(F, ALL, c + 2 * cStride + V, ORDER);
        FloatVector c22 = fromMemorySegment(F, ALL, c + 2 * cStride + 2 * V, ORDER);
        FloatVector c23 = fromMemorySegment(F, ALL, c + 2 * cStride + 3 * V, ORDER);
        FloatVector c30 = fromMemorySegment(F, ALL, c + 3 * cStride, ORDER);
        FloatVector c31 = fromMemorySegment(F, ALL, c + 3 * cStride + V, ORDER);
        FloatVector c32 = fromMemorySegment(F, ALL, c + 3 * cStride + 2 * V, ORDER);
        FloatVector c33 = fromMemorySegment(F, ALL, c + 3 * cStride + 3 * V, ORDER);
        long a1 = a + aStride;
        long a2 = a1 + aStride;
        long a3 = a2 + aStride;
        long row = b;
        for (int i = 0; i < depth; i++) {
            FloatVector b0 = fromMemorySegment(F, ALL, row, ORDER);
            FloatVector b1 = fromMemorySegment(F, ALL, row + V, ORDER);
            FloatVector b2 = fromMemorySegment(F, ALL, row + 2 * V, ORDER);
            FloatVector b3 = fromMemorySegment(F, ALL, row + 3 * V, ORDER);
            FloatVector x = FloatVector.broadcast(F, ALL.get(JAVA_FLOAT_UNALIGNED, a + i * 4L));
            c00 = b0.fma(x, c00);
            c01 = b1.fma(x, c01);
            c02 = b2.fma(x, c02);
            c03 = b3.fma(x, c03);
            x = FloatVector.broadcast(F, ALL.get(JAVA_FLOAT_UNALIGNED, a1 + i * 4L));
            c10 = b0.fma(x, c10);
            c11 = b1.fma(x, c11);
            c12 = b2.fma(x, c12);
            c13 = b3.fma(x, c13);
            x = FloatVector.broadcast(F, ALL.get(JAVA_FLOAT_UNALIGNED, a2 + i * 4L));
            c20 = b0.fma(x, c20);
            c21 = b1.fma(x, c21);
            c22 = b2.fma(x, c22);
            c23 = b3.fma(x, c23);
            x = FloatVector.broadcast(F, ALL.get(JAVA_FLOAT_UNALIGNED, a3 + i * 4L));
            c30 = b0.fma(x, c30);
            c31 = b1.fma(x, c31);
            c32 = b2.fma(x, c32);
            c33 = b3.fma(x, c33);
            row += bStride;
        }
        c00.intoMemorySegment(ALL, c, ORDER);
        c01.intoMemorySegment(ALL, c + V, ORDER);
        c02.intoMemorySegment(ALL, c + 2 * V, ORDER);
        c03.intoMemorySegment(ALL, c + 3 * V, ORDER);
        c10.intoMemorySegment(ALL, c + cStride, ORDER);
        c11.intoMemorySegment(ALL, c + cStride + V, ORDER);
        c12.intoMemorySegment(ALL, c + cStride + 2 * V, ORDER);
        c13.intoMemorySegment(ALL, c + cStride + 3 * V, ORDER);
        c20.intoMemorySegment(ALL, c + 2 * cStride, ORDER);
        c21.intoMemorySegment(ALL, c + 2 * cStride + V, ORDER);
        c22.intoMemorySegment(ALL, c + 2 * cStride + 2 * V, ORDER);
        c23.intoMemorySegment(ALL, c + 2 * cStride + 3 * V, ORDER);
        c30.intoMemorySegment(ALL, c + 3 * cStride, ORDER);
        c31.intoMemorySegment(ALL, c + 3 * cStride + V, ORDER);
        c32.intoMemorySegment(ALL, c + 3 * cStride + 2 * V, ORDER);
        c33.intoMemorySegment(ALL, c + 3 * cStride + 3 * V, ORDER);
    }

    private static void twoRows(
            long a, long aStride, int depth, long b, long bStride, long c, long cStride) {
        FloatVector c00 = fromMemorySegment(F, ALL, c, ORDER);
        FloatVector c01 = fromMemorySegment(F, ALL, c + V, ORDER);
        FloatVector c02 = fromMemorySegment(F, ALL, c + 2 * V, ORDER);
        FloatVector c03 = fromMemorySegment(F, ALL, c + 3 * V, ORDER);
        FloatVector c10 = fromMemorySegment(F, ALL, c + cStride, ORDER);
        FloatVector c11 = fromMemorySegment(F, ALL, c + cStride + V, ORDER);
        FloatVector c12 = fromMemorySegment(F, ALL, c + cStride + 2 * V, ORDER);
        FloatVector c13 = fromMemorySegment(F, ALL, c + cStride + 3 * V, ORDER);
        long row = b;
        for (int i = 0; i < depth; i++) {
            FloatVector b0 = fromMemorySegment(F, ALL, row, ORDER);
            FloatVector b1 = fromMemorySegment(F, ALL, row + V, ORDER);
            FloatVector b2 = fromMemorySegment(F, ALL, row + 2 * V, ORDER);
            FloatVector b3 = fromMemorySegment(F, ALL, row + 3 * V, ORDER);
            FloatVector x = FloatVector.broadcast(F, ALL.get(JAVA_FLOAT_UNALIGNED, a + i * 4L));
            c00 = b0.fma(x, c00);
            c01 = b1.fma(x, c01);
            c02 = b2.fma(x, c02);
            c03 = b3.fma(x, c03);
            x = FloatVector.broadcast(F, ALL.get(JAVA_FLOAT_UNALIGNED, a + aStride + i * 4L));
            c10 = b0.fma(x, c10);
            c11 = b1.fma(x, c11);
            c12 = b2.fma(x, c12);
            c13 = b3.fma(x, c13);
            row += bStride;
        }
        c00.intoMemorySegment(ALL, c, ORDER);
        c01.intoMemorySegment(ALL, c + V, ORDER);
        c02.intoMemorySegment(ALL, c + 2 * V, ORDER);
        c03.intoMemorySegment(ALL, c + 3 * V, ORDER);
        c10.intoMemorySegment(ALL, c + cStride, ORDER);
        c11.intoMemorySegment(ALL, c + cStride + V, ORDER);
        c12.intoMemorySegment(ALL, c + cStride + 2 * V, ORDER);
        c13.intoMemorySegment(ALL, c + cStride + 3 * V, ORDER);
    }

    private static void oneRow(long a, int depth, long b, long bStride, long c) {
        FloatVector c0 = fromMemorySegment(F, ALL, c, ORDER);
        FloatVector c1 = fromMemorySegment(F, ALL, c + V, ORDER);
        FloatVector c2 = fromMemorySegment(F, ALL, c + 2 * V, ORDER);
        FloatVector c3 = fromMemorySegment(F, ALL, c + 3 * V, ORDER);
        long row = b;
        for (int i = 0; i < depth; i++) {
            FloatVector x = FloatVector.broadcast(F, ALL.get(JAVA_FLOAT_UNALIGNED, a + i * 4L));
            c0 = fromMemorySegment(F, ALL, row, ORDER).fma(x, c0);
            c1 = fromMemorySegment(F, ALL, row + V, ORDER).fma(x, c1);
            c2 = fromMemorySegment(F, ALL, row + 2 * V, ORDER).fma(x, c2);
            c3 = fromMemorySegment(F, ALL, row + 3 * V, ORDER).fma(x, c3);
            row += bStride;
        }
        c0.intoMemorySegment(ALL, c, ORDER);
        c1.intoMemorySegment(ALL, c + V, ORDER);
        c2.intoMemorySegment(ALL, c + 2 * V, ORDER);
        c3.intoMemorySegment(ALL, c + 3 * V, ORDER);
    }

    /** One row by one vector: the columns that do not fill a panel. */
    private static void strip(long a, int depth, long b, long bStride, long c) {
        FloatVector sum = fromMemorySegment(F, ALL, c, ORDER);
        long row = b;
        for (int i = 0; i < depth; i++) {
            sum = fromMemorySegment(F, ALL, row, ORDER)
                    .fma(FloatVector.broadcast(F, ALL.get(JAVA_FLOAT_UNALIGNED, a + i * 4L)), sum);
            row += bStride;
        }
        sum.intoMemorySegment(ALL, c, ORDER);
    }
}
