package io.github.tailorkv.kernels;

import static io.github.tailorkv.kernels.BlockLayout.GROUP;
import static io.github.tailorkv.kernels.BlockLayout.HALF;
import static io.github.tailorkv.kernels.Lanes.B;
import static io.github.tailorkv.kernels.Lanes.F;
import static io.github.tailorkv.kernels.Lanes.HALF_BITS;
import static io.github.tailorkv.kernels.Lanes.HALF_FACTOR;
import static io.github.tailorkv.kernels.Lanes.I;
import static io.github.tailorkv.kernels.Lanes.L;
import static io.github.tailorkv.kernels.Lanes.ORDER;
import static io.github.tailorkv.kernels.Lanes.S;
import static io.github.tailorkv.kernels.NativeMemory.ALL;
import static java.lang.foreign.ValueLayout.JAVA_LONG_UNALIGNED;
import static jdk.incubator.vector.FloatVector.fromMemorySegment;
import static jdk.incubator.vector.VectorOperators.I2F;
import static jdk.incubator.vector.VectorOperators.LSHL;
import static jdk.incubator.vector.VectorOperators.LSHR;
import static jdk.incubator.vector.VectorOperators.S2I;
import static jdk.incubator.vector.VectorOperators.ZERO_EXTEND_B2I;

import org.jspecify.annotations.Nullable;

import jdk.incubator.vector.ByteVector;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.ShortVector;
import jdk.incubator.vector.VectorMask;
import jdk.incubator.vector.VectorOperators;

/**
 * The matrix product of {@link TileProduct} with a packed B: scores from packed keys (a row of B is a channel) and
 * outputs from packed values (a row is a token).
 *
 * <p>An element of B is {@code zero + scale * code}, where scale and zero belong to the row and to a group of 64 columns,
 * so {@code sum_i a_i b_ij = sum_i (a_i scale_i) code_ij + sum_i a_i zero_i}: A is multiplied by the scales once for a
 * group (into scratch memory), the inner loop sees bare codes, and the second sum is a single number for the whole group.
 *
 * <p>Codes stay packed until they are in registers. A <em>stripe</em> is L bytes of a unit, in all rows: widened once to L
 * lanes, it yields the codes of L neighbouring columns for each shift. Codes of one bit are lane masks. Time is
 * spent on widening, shifting and converting, hence rows of A share it, up to four. Four bits, which decoding lives on, have
 * a class of their own, {@link PackedNibbles}.
 */
final class PackedProduct {

    /** Rows of A that are prepared together. */
    private static final int ROWS = 8;

    private PackedProduct() {}

    /** Memory of one thread for numbers derived from scales and zero points. */
    private static final class Scratch {
        private static final ThreadLocal<Scratch> OF_THREAD = ThreadLocal.withInitial(Scratch::new);

        /** A times scale, {@code [ROWS][depth]}. */
        private float[] a = new float[ROWS * 256];
        /** Scales, then zero points of the rows in use; for 4 bits what a code of 8 stands for instead. */
        private float[] parameters = new float[2 * 256];
        private int[] all = {};
        /** Bytes from the first row of B to each that takes part. */
        private int[] offsets = {};
        private final float[] bias = new float[ROWS];
        private final PackedNibbles nibbles = new PackedNibbles(Ahead.OF_THREAD.get());

        private static Scratch of(int depth) {
            Scratch scratch = OF_THREAD.get();
            if (scratch.all.length < depth) {
                scratch.grow(depth);
            }
            return scratch;
        }

        private void grow(int depth) {
            a = new float[ROWS * depth];
            parameters = new float[2 * depth];
            all = new int[depth];
            offsets = new int[depth];
            for (int i = 0; i < depth; i++) {
                all[i] = i;
            }
        }
    }

    /**
     * {@code C += A B}, strides in bytes.
     *
     * @param depth rows of B that take part: those listed in {@code list}, or the first ones if it is null
     * @param scales f16 scale of row i and column group g at {@code i * groups + g}; zero points likewise
     * @param columns a multiple of 16
     */
    static void multiply(
            long a, long aStride, int rows, int depth, int @Nullable [] list,
            long codes, int rowBytes, int bits, boolean refined, long scales, long zeros, int groups, int columns,
            long c, long cStride) {
        Scratch scratch = Scratch.of(depth);
        int[] taken = list == null ? scratch.all : list;
        int groupBytes = GROUP * bits / 8;
        for (int i = 0; i < depth; i++) {
            scratch.offsets[i] = taken[i] * rowBytes;
        }
        scratch.nibbles.expect(codes, rows, depth, columns);
        for (int g = 0; g < groups; g++) {
            boolean together = list == null && groups == 1 && !refined && rows == 4 && depth % L == 0;
            if (!together) {
                loadParameters(scratch, depth, taken, list == null, scales + (long) g * HALF,
                        zeros + (long) g * HALF,
                        groups,
                        refined, bits == 4);
            }
            for (int r = 0; r < rows; r += ROWS) {
                int count = Math.min(ROWS, rows - r);
                if (together) {
                    foldFour(scratch, a, aStride, depth, scales, zeros, bits == 4 ? NibbleProduct.CENTRE : 0);
                } else {
                    fold(scratch, a + r * aStride, aStride, count, depth, taken, list == null);
                }
                multiplyGroup(scratch, count, depth, taken, codes + (long) g * groupBytes, rowBytes, bits,
                        Math.min(GROUP, columns - g * GROUP), c + r * cStride + (long) g * GROUP * Float.BYTES,
                        cStride);
            }
        }
    }

    private static void loadParameters(
            Scratch scratch, int depth, int[] taken, boolean contiguous, long scales, long zeros, int groups,
            boolean refined, boolean centred) {
        float[] parameters = scratch.parameters;
        int i = 0;
        if (contiguous && groups == 1) {
            i = depth - depth % L;
            Lanes.halves(scales, i, parameters, 0);
            Lanes.halves(zeros, i, parameters, depth);
        }
        for (; i < depth; i++) {
            long at = (long) taken[i] * groups * HALF;
            parameters[i] = Lanes.half(scales + at);
            parameters[depth + i] = Lanes.half(zeros + at);
        }
        if (refined) {
            for (i = 0; i < depth; i++) {
                parameters[depth + i] += 7.5f * parameters[i];
                parameters[i] *= 16;
            }
        }
        if (centred) {
            for (i = 0; i < depth; i++) {
                parameters[depth + i] += NibbleProduct.CENTRE * parameters[i];
            }
        }
    }

    /** Copies A's part into scratch memory, multiplies it by the scales and sums its products with the zero points. */
    private static void fold(
            Scratch scratch, long a, long aStride, int rows, int depth, int[] taken, boolean contiguous) {
        for (int r = 0; r < rows; r++) {
            if (contiguous) {
                copy(a + r * aStride, depth, scratch.a, r * depth);
            } else {
                gather(a + r * aStride, depth, taken, scratch.a, r * depth);
            }
            scratch.bias[r] = fold(scratch.a, r * depth, depth, scratch.parameters);
        }
    }

    /** {@link #loadParameters} and {@link #fold} in one, for four rows of A and parameters side by side. */
    private static void foldFour(
            Scratch scratch, long a, long aStride, int depth, long scales, long zeros, float centre) {
        float[] target = scratch.a;
        long scaleBase = NativeMemory.base(scales);
        long zeroBase = NativeMemory.base(zeros);
        long row0 = NativeMemory.base(a);
        long row1 = NativeMemory.base(a + aStride);
        long row2 = NativeMemory.base(a + 2 * aStride);
        long row3 = NativeMemory.base(a + 3 * aStride);
        FloatVector sum0 = FloatVector.zero(F);
        FloatVector sum1 = sum0;
        FloatVector sum2 = sum0;
        FloatVector sum3 = sum0;
        for (int i = 0; i < depth; i += L) {
            FloatVector scale = ((IntVector) ShortVector
                    .fromMemorySegment(S, ALL, NativeMemory.at(scaleBase, i * HALF), ORDER).convertShape(S2I, I, 0))
                    .lanewise(LSHL, 13).and(HALF_BITS).reinterpretAsFloats().mul(HALF_FACTOR);
            FloatVector zero = ((IntVector) ShortVector
                    .fromMemorySegment(S, ALL, NativeMemory.at(zeroBase, i * HALF), ORDER).convertShape(S2I, I, 0))
                    .lanewise(LSHL, 13).and(HALF_BITS).reinterpretAsFloats().mul(HALF_FACTOR);
            zero = scale.fma(FloatVector.broadcast(F, centre), zero);
            FloatVector x = fromMemorySegment(F, ALL, NativeMemory.at(row0, i * 4), ORDER);
            x.mul(scale).intoArray(target, i);
            sum0 = x.fma(zero, sum0);
            x = fromMemorySegment(F, ALL, NativeMemory.at(row1, i * 4), ORDER);
            x.mul(scale).intoArray(target, depth + i);
            sum1 = x.fma(zero, sum1);
            x = fromMemorySegment(F, ALL, NativeMemory.at(row2, i * 4), ORDER);
            x.mul(scale).intoArray(target, 2 * depth + i);
            sum2 = x.fma(zero, sum2);
            x = fromMemorySegment(F, ALL, NativeMemory.at(row3, i * 4), ORDER);
            x.mul(scale).intoArray(target, 3 * depth + i);
            sum3 = x.fma(zero, sum3);
        }
        scratch.bias[0] = sum0.reduceLanes(VectorOperators.ADD);
        scratch.bias[1] = sum1.reduceLanes(VectorOperators.ADD);
        scratch.bias[2] = sum2.reduceLanes(VectorOperators.ADD);
        scratch.bias[3] = sum3.reduceLanes(VectorOperators.ADD);
    }

    private static void copy(long row, int count, float[] target, int at) {
        int i = 0;
        for (; i + L <= count; i += L) {
            fromMemorySegment(F, ALL, row + i * 4L, ORDER).intoArray(target, at + i);
        }
        for (; i < count; i++) {
            target[at + i] = Lanes.scalar(row + i * 4L);
        }
    }

    private static void gather(long row, int count, int[] taken, float[] target, int at) {
        for (int i = 0; i < count; i++) {
            target[at + i] = Lanes.scalar(row + taken[i] * 4L);
        }
    }

    private static float fold(float[] a, int first, int depth, float[] parameters) {
        FloatVector sum = FloatVector.zero(F);
        int i = 0;
        for (; i + L <= depth; i += L) {
            FloatVector x = FloatVector.fromArray(F, a, first + i);
            x.mul(FloatVector.fromArray(F, parameters, i)).intoArray(a, first + i);
            sum = x.fma(FloatVector.fromArray(F, parameters, depth + i), sum);
        }
        float bias = sum.reduceLanes(VectorOperators.ADD);
        for (; i < depth; i++) {
            bias += a[first + i] * parameters[depth + i];
            a[first + i] *= parameters[i];
        }
        return bias;
    }

    private static void multiplyGroup(
            Scratch scratch, int rows, int depth, int[] taken, long codes, int rowBytes, int bits, int columns,
            long c, long cStride) {
        if (bits == 4) {
            for (int r = 0; r < rows; r += NibbleProduct.ROWS) {
                scratch.nibbles.multiply(
                        scratch.a, r * depth, scratch.bias, r, Math.min(NibbleProduct.ROWS, rows - r), depth, codes,
                        scratch.offsets, columns, c + r * cStride, cStride);
            }
            return;
        }
        for (int r = 0; r < rows;) {
            int count = rows - r >= 4 ? 4 : rows - r >= 2 ? 2 : 1;
            for (int column = 0; column < columns; column += L) {
                stripe(scratch, r, count, depth, taken, codes, rowBytes, bits, column,
                        c + r * cStride + column * 4L, cStride);
            }
            r += count;
        }
    }

    private static void stripe(
            Scratch scratch, int r, int rows, int depth, int[] taken, long codes, int rowBytes, int bits, int column,
            long c, long cStride) {
        if (bits == 1) {
            if (rows == 4) {
                fourRowsOfBits(scratch, r, depth, taken, codes, rowBytes, column, c, cStride);
            } else {
                oneRowOfBits(scratch, r, depth, taken, codes, rowBytes, column, c);
                if (rows == 2) {
                    oneRowOfBits(scratch, r + 1, depth, taken, codes, rowBytes, column, c + cStride);
                }
            }
            return;
        }
        long stripe = codes + BlockLayout.codeByte(bits, column);
        int shift = BlockLayout.codeShift(bits, column);
        if (rows == 4) {
            fourRowsOfCodes(scratch, r, depth, taken, stripe, rowBytes, shift, bits, c, cStride);
        } else {
            oneRowOfCodes(scratch, r, depth, taken, stripe, rowBytes, shift, bits, c);
            if (rows == 2) {
                oneRowOfCodes(scratch, r + 1, depth, taken, stripe, rowBytes, shift, bits, c + cStride);
            }
        }
    }

    private static void fourRowsOfCodes(
            Scratch scratch, int r, int depth, int[] taken, long stripe, int rowBytes, int shift, int bits, long c,
            long cStride) {
        float[] a = scratch.a;
        int a0 = r * depth;
        int a1 = a0 + depth;
        int a2 = a1 + depth;
        int a3 = a2 + depth;
        FloatVector sum0 = FloatVector.broadcast(F, scratch.bias[r]);
        FloatVector sum1 = FloatVector.broadcast(F, scratch.bias[r + 1]);
        FloatVector sum2 = FloatVector.broadcast(F, scratch.bias[r + 2]);
        FloatVector sum3 = FloatVector.broadcast(F, scratch.bias[r + 3]);
        int mask = BlockLayout.maxCode(bits);
        for (int i = 0; i < depth; i++) {
            IntVector bytes = (IntVector) ByteVector
                    .fromMemorySegment(B, ALL, stripe + (long) taken[i] * rowBytes, ORDER)
                    .convertShape(ZERO_EXTEND_B2I, I, 0);
            FloatVector code = (FloatVector) bytes.lanewise(LSHR, shift).and(mask).convert(I2F, 0);
            sum0 = code.fma(FloatVector.broadcast(F, a[a0 + i]), sum0);
            sum1 = code.fma(FloatVector.broadcast(F, a[a1 + i]), sum1);
            sum2 = code.fma(FloatVector.broadcast(F, a[a2 + i]), sum2);
            sum3 = code.fma(FloatVector.broadcast(F, a[a3 + i]), sum3);
        }
        sum0.add(fromMemorySegment(F, ALL, c, ORDER)).intoMemorySegment(ALL, c, ORDER);
        sum1.add(fromMemorySegment(F, ALL, c + cStride, ORDER)).intoMemorySegment(ALL, c + cStride, ORDER);
        sum2.add(fromMemorySegment(F, ALL, c + 2 * cStride, ORDER)).intoMemorySegment(ALL, c + 2 * cStride, ORDER);
        sum3.add(fromMemorySegment(F, ALL, c + 3 * cStride, ORDER)).intoMemorySegment(ALL, c + 3 * cStride, ORDER);
    }

    private static void oneRowOfCodes(
            Scratch scratch, int r, int depth, int[] taken, long stripe, int rowBytes, int shift, int bits, long c) {
        float[] a = scratch.a;
        int a0 = r * depth;
        FloatVector sum0 = FloatVector.broadcast(F, scratch.bias[r]);
        int mask = BlockLayout.maxCode(bits);
        for (int i = 0; i < depth; i++) {
            IntVector bytes = (IntVector) ByteVector
                    .fromMemorySegment(B, ALL, stripe + (long) taken[i] * rowBytes, ORDER)
                    .convertShape(ZERO_EXTEND_B2I, I, 0);
            FloatVector code = (FloatVector) bytes.lanewise(LSHR, shift).and(mask).convert(I2F, 0);
            sum0 = code.fma(FloatVector.broadcast(F, a[a0 + i]), sum0);
        }
        sum0.add(fromMemorySegment(F, ALL, c, ORDER)).intoMemorySegment(ALL, c, ORDER);
    }

    private static void fourRowsOfBits(
            Scratch scratch, int r, int depth, int[] taken, long codes, int rowBytes, int column, long c,
            long cStride) {
        float[] a = scratch.a;
        int a0 = r * depth;
        int a1 = a0 + depth;
        int a2 = a1 + depth;
        int a3 = a2 + depth;
        FloatVector sum0 = FloatVector.broadcast(F, scratch.bias[r]);
        FloatVector sum1 = FloatVector.broadcast(F, scratch.bias[r + 1]);
        FloatVector sum2 = FloatVector.broadcast(F, scratch.bias[r + 2]);
        FloatVector sum3 = FloatVector.broadcast(F, scratch.bias[r + 3]);
        for (int i = 0; i < depth; i++) {
            long bits = ALL.get(JAVA_LONG_UNALIGNED, codes + (long) taken[i] * rowBytes);
            VectorMask<Float> set = VectorMask.fromLong(F, bits >>> column);
            sum0 = sum0.add(FloatVector.broadcast(F, a[a0 + i]), set);
            sum1 = sum1.add(FloatVector.broadcast(F, a[a1 + i]), set);
            sum2 = sum2.add(FloatVector.broadcast(F, a[a2 + i]), set);
            sum3 = sum3.add(FloatVector.broadcast(F, a[a3 + i]), set);
        }
        sum0.add(fromMemorySegment(F, ALL, c, ORDER)).intoMemorySegment(ALL, c, ORDER);
        sum1.add(fromMemorySegment(F, ALL, c + cStride, ORDER)).intoMemorySegment(ALL, c + cStride, ORDER);
        sum2.add(fromMemorySegment(F, ALL, c + 2 * cStride, ORDER)).intoMemorySegment(ALL, c + 2 * cStride, ORDER);
        sum3.add(fromMemorySegment(F, ALL, c + 3 * cStride, ORDER)).intoMemorySegment(ALL, c + 3 * cStride, ORDER);
    }

    private static void oneRowOfBits(
            Scratch scratch, int r, int depth, int[] taken, long codes, int rowBytes, int column, long c) {
        float[] a = scratch.a;
        int a0 = r * depth;
        FloatVector sum0 = FloatVector.broadcast(F, scratch.bias[r]);
        for (int i = 0; i < depth; i++) {
            long bits = ALL.get(JAVA_LONG_UNALIGNED, codes + (long) taken[i] * rowBytes);
            VectorMask<Float> set = VectorMask.fromLong(F, bits >>> column);
            sum0 = sum0.add(FloatVector.broadcast(F, a[a0 + i]), set);
        }
        sum0.add(fromMemorySegment(F, ALL, c, ORDER)).intoMemorySegment(ALL, c, ORDER);
    }
}
