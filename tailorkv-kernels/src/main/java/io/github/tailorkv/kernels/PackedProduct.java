package io.github.tailorkv.kernels;

import static io.github.tailorkv.kernels.BlockLayout.GROUP;
import static io.github.tailorkv.kernels.BlockLayout.HALF;
import static io.github.tailorkv.kernels.BlockLayout.UNIT;
import static io.github.tailorkv.kernels.Lanes.B;
import static io.github.tailorkv.kernels.Lanes.F;
import static io.github.tailorkv.kernels.Lanes.HALF_BITS;
import static io.github.tailorkv.kernels.Lanes.HALF_FACTOR;
import static io.github.tailorkv.kernels.Lanes.I;
import static io.github.tailorkv.kernels.Lanes.L;
import static io.github.tailorkv.kernels.Lanes.ORDER;
import static io.github.tailorkv.kernels.Lanes.S;
import static io.github.tailorkv.kernels.Lanes.V;
import static io.github.tailorkv.kernels.NativeMemory.ALL;
import static java.lang.foreign.ValueLayout.JAVA_BYTE;
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
 * lanes, it yields the codes of L neighbouring columns for each shift. With four bits two sums a row of A run side by
 * side; that is the case that decoding lives on, so it has code of its own. Codes of one bit are lane masks. Time is
 * spent on widening, shifting and converting, hence rows of A share it, up to four.
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
        /** Scales, then zero points of the rows in use. */
        private float[] parameters = new float[2 * 256];
        private int[] all = {};
        /** Bytes from the first row of B to each that takes part. */
        private int[] offsets = {};
        /** Whether those are the first rows of B. */
        private boolean contiguous;
        private final float[] bias = new float[ROWS];
        private final Ahead ahead = Ahead.OF_THREAD.get();
        /** Where the loops read ahead: so many bytes further at each step, from here. */
        private long aheadAt;
        private int aheadStep;

        /**
         * Spreads what is expected next over {@code steps} steps of the loop that has room for it, that of four rows of
         * nibbles; with nothing expected, it reads what it has.
         */
        private void expect(long codes, int steps) {
            long next = ahead.take();
            aheadAt = next == 0 ? codes : next;
            aheadStep = next == 0 ? 0 : (int) (ahead.bytes() / Math.max(1, steps));
        }

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
        scratch.contiguous = list == null;
        int groupBytes = GROUP * bits / 8;
        for (int i = 0; i < depth; i++) {
            scratch.offsets[i] = taken[i] * rowBytes;
        }
        scratch.expect(codes, depth * ((columns + 2 * UNIT - 1) / (2 * UNIT)) * ((rows + 3) / 4) * (UNIT / L));
        for (int g = 0; g < groups; g++) {
            boolean together = list == null && groups == 1 && !refined && rows == 4 && depth % L == 0;
            if (!together) {
                loadParameters(scratch, depth, taken, list == null, scales + (long) g * HALF,
                        zeros + (long) g * HALF,
                        groups,
                        refined);
            }
            for (int r = 0; r < rows; r += ROWS) {
                int count = Math.min(ROWS, rows - r);
                if (together) {
                    foldFour(scratch, a, aStride, depth, scales, zeros);
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
            boolean refined) {
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
    private static void foldFour(Scratch scratch, long a, long aStride, int depth, long scales, long zeros) {
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
        for (int r = 0; r < rows;) {
            int count = rows - r >= 4 ? 4 : rows - r >= 2 ? 2 : 1;
            if (bits == 4) {
                nibbles(scratch, r, count, depth, taken, codes, rowBytes, columns, c + r * cStride, cStride);
            } else {
                for (int column = 0; column < columns; column += L) {
                    stripe(scratch, r, count, depth, taken, codes, rowBytes, bits, column,
                            c + r * cStride + column * 4L, cStride);
                }
            }
            r += count;
        }
    }

    private static void nibbles(
            Scratch scratch, int r, int rows, int depth, int[] taken, long codes, int rowBytes, int columns,
            long c, long cStride) {
        int unit = 0;
        if (rows == 4 && Lanes.WIDE) {
            for (; 2 * UNIT * (unit + 2) <= columns; unit += 2) {
                fourRowsOfTwoUnits(
                        scratch, r, depth, taken, codes + (long) unit * UNIT, rowBytes,
                        c + 2L * UNIT * unit * Float.BYTES,
                        cStride);
            }
        }
        for (; 2 * UNIT * unit < columns; unit++) {
            boolean both = columns - 2 * UNIT * unit > UNIT;
            for (int part = 0; part < UNIT; part += L) {
                long stripe = codes + (long) unit * UNIT + part;
                long target = c + (2 * UNIT * unit + part) * 4L;
                if (rows == 4 && scratch.contiguous && depth % 2 == 0) {
                    fourRowsOfAllNibbles(scratch, r, depth, stripe, rowBytes, target, cStride, both);
                } else if (rows == 4) {
                    fourRowsOfNibbles(scratch, r, depth, stripe, target, cStride, both);
                } else if (rows == 2) {
                    twoRowsOfNibbles(scratch, r, depth, taken, stripe, rowBytes, target, cStride, both);
                } else {
                    oneRowOfNibbles(scratch, r, depth, taken, stripe, rowBytes, target, both);
                }
            }
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

    private static void fourRowsOfNibbles(
            Scratch scratch, int r, int depth, long stripe, long c, long cStride,
            boolean both) {
        float[] a = scratch.a;
        int a0 = r * depth;
        int a1 = a0 + depth;
        int a2 = a1 + depth;
        int a3 = a2 + depth;
        FloatVector low0 = FloatVector.broadcast(F, scratch.bias[r]);
        FloatVector high0 = low0;
        FloatVector low1 = FloatVector.broadcast(F, scratch.bias[r + 1]);
        FloatVector high1 = low1;
        FloatVector low2 = FloatVector.broadcast(F, scratch.bias[r + 2]);
        FloatVector high2 = low2;
        FloatVector low3 = FloatVector.broadcast(F, scratch.bias[r + 3]);
        FloatVector high3 = low3;
        int[] offsets = scratch.offsets;
        long base = NativeMemory.base(stripe);
        long ahead = NativeMemory.base(scratch.aheadAt);
        int step = scratch.aheadStep;
        int touched = 0;
        for (int i = 0; i < depth; i++) {
            touched += ALL.get(JAVA_BYTE, NativeMemory.at(ahead, i * step));
            IntVector bytes = (IntVector) ByteVector
                    .fromMemorySegment(B, ALL, NativeMemory.at(base, offsets[i]), ORDER)
                    .convertShape(ZERO_EXTEND_B2I, I, 0);
            FloatVector low = (FloatVector) bytes.and(15).convert(I2F, 0);
            FloatVector high = (FloatVector) bytes.lanewise(LSHR, 4).convert(I2F, 0);
            FloatVector x = FloatVector.broadcast(F, a[a0 + i]);
            low0 = low.fma(x, low0);
            high0 = high.fma(x, high0);
            x = FloatVector.broadcast(F, a[a1 + i]);
            low1 = low.fma(x, low1);
            high1 = high.fma(x, high1);
            x = FloatVector.broadcast(F, a[a2 + i]);
            low2 = low.fma(x, low2);
            high2 = high.fma(x, high2);
            x = FloatVector.broadcast(F, a[a3 + i]);
            low3 = low.fma(x, low3);
            high3 = high.fma(x, high3);
        }
        scratch.ahead.touched(touched);
        scratch.aheadAt = ahead + (long) depth * step;
        long row0 = NativeMemory.base(c);
        long row1 = NativeMemory.base(c + cStride);
        long row2 = NativeMemory.base(c + 2 * cStride);
        long row3 = NativeMemory.base(c + 3 * cStride);
        low0.add(fromMemorySegment(F, ALL, row0, ORDER)).intoMemorySegment(ALL, row0, ORDER);
        low1.add(fromMemorySegment(F, ALL, row1, ORDER)).intoMemorySegment(ALL, row1, ORDER);
        low2.add(fromMemorySegment(F, ALL, row2, ORDER)).intoMemorySegment(ALL, row2, ORDER);
        low3.add(fromMemorySegment(F, ALL, row3, ORDER)).intoMemorySegment(ALL, row3, ORDER);
        if (both) {
            row0 += UNIT * 4;
            row1 += UNIT * 4;
            row2 += UNIT * 4;
            row3 += UNIT * 4;
            high0.add(fromMemorySegment(F, ALL, row0, ORDER)).intoMemorySegment(ALL, row0, ORDER);
            high1.add(fromMemorySegment(F, ALL, row1, ORDER)).intoMemorySegment(ALL, row1, ORDER);
            high2.add(fromMemorySegment(F, ALL, row2, ORDER)).intoMemorySegment(ALL, row2, ORDER);
            high3.add(fromMemorySegment(F, ALL, row3, ORDER)).intoMemorySegment(ALL, row3, ORDER);
        }
    }

    /** {@link #fourRowsOfNibbles} for the first rows of B, an even number of them, two a turn: what takes the time are loads. */
    private static void fourRowsOfAllNibbles(
            Scratch scratch, int r, int depth, long stripe, int rowBytes, long c, long cStride,
            boolean both) {
        float[] a = scratch.a;
        int a0 = r * depth;
        int a1 = a0 + depth;
        int a2 = a1 + depth;
        int a3 = a2 + depth;
        FloatVector low0 = FloatVector.broadcast(F, scratch.bias[r]);
        FloatVector high0 = low0;
        FloatVector low1 = FloatVector.broadcast(F, scratch.bias[r + 1]);
        FloatVector high1 = low1;
        FloatVector low2 = FloatVector.broadcast(F, scratch.bias[r + 2]);
        FloatVector high2 = low2;
        FloatVector low3 = FloatVector.broadcast(F, scratch.bias[r + 3]);
        FloatVector high3 = low3;
        long base = NativeMemory.base(stripe);
        long ahead = NativeMemory.base(scratch.aheadAt);
        int step = scratch.aheadStep;
        int touched = 0;
        int offset = 0;
        for (int i = 0; i < depth; i += 2) {
            touched += ALL.get(JAVA_BYTE, NativeMemory.at(ahead, i * step));
            IntVector bytes = (IntVector) ByteVector.fromMemorySegment(B, ALL, NativeMemory.at(base, offset), ORDER)
                    .convertShape(ZERO_EXTEND_B2I, I, 0);
            FloatVector low = (FloatVector) bytes.and(15).convert(I2F, 0);
            FloatVector high = (FloatVector) bytes.lanewise(LSHR, 4).convert(I2F, 0);
            FloatVector x = FloatVector.broadcast(F, a[a0 + i]);
            low0 = low.fma(x, low0);
            high0 = high.fma(x, high0);
            x = FloatVector.broadcast(F, a[a1 + i]);
            low1 = low.fma(x, low1);
            high1 = high.fma(x, high1);
            x = FloatVector.broadcast(F, a[a2 + i]);
            low2 = low.fma(x, low2);
            high2 = high.fma(x, high2);
            x = FloatVector.broadcast(F, a[a3 + i]);
            low3 = low.fma(x, low3);
            high3 = high.fma(x, high3);
            bytes = (IntVector) ByteVector.fromMemorySegment(B, ALL, NativeMemory.at(base, offset + rowBytes), ORDER)
                    .convertShape(ZERO_EXTEND_B2I, I, 0);
            low = (FloatVector) bytes.and(15).convert(I2F, 0);
            high = (FloatVector) bytes.lanewise(LSHR, 4).convert(I2F, 0);
            x = FloatVector.broadcast(F, a[a0 + i + 1]);
            low0 = low.fma(x, low0);
            high0 = high.fma(x, high0);
            x = FloatVector.broadcast(F, a[a1 + i + 1]);
            low1 = low.fma(x, low1);
            high1 = high.fma(x, high1);
            x = FloatVector.broadcast(F, a[a2 + i + 1]);
            low2 = low.fma(x, low2);
            high2 = high.fma(x, high2);
            x = FloatVector.broadcast(F, a[a3 + i + 1]);
            low3 = low.fma(x, low3);
            high3 = high.fma(x, high3);
            offset += 2 * rowBytes;
        }
        scratch.ahead.touched(touched);
        scratch.aheadAt = ahead + (long) depth * step;
        long row0 = NativeMemory.base(c);
        long row1 = NativeMemory.base(c + cStride);
        long row2 = NativeMemory.base(c + 2 * cStride);
        long row3 = NativeMemory.base(c + 3 * cStride);
        low0.add(fromMemorySegment(F, ALL, row0, ORDER)).intoMemorySegment(ALL, row0, ORDER);
        low1.add(fromMemorySegment(F, ALL, row1, ORDER)).intoMemorySegment(ALL, row1, ORDER);
        low2.add(fromMemorySegment(F, ALL, row2, ORDER)).intoMemorySegment(ALL, row2, ORDER);
        low3.add(fromMemorySegment(F, ALL, row3, ORDER)).intoMemorySegment(ALL, row3, ORDER);
        if (both) {
            row0 += UNIT * 4;
            row1 += UNIT * 4;
            row2 += UNIT * 4;
            row3 += UNIT * 4;
            high0.add(fromMemorySegment(F, ALL, row0, ORDER)).intoMemorySegment(ALL, row0, ORDER);
            high1.add(fromMemorySegment(F, ALL, row1, ORDER)).intoMemorySegment(ALL, row1, ORDER);
            high2.add(fromMemorySegment(F, ALL, row2, ORDER)).intoMemorySegment(ALL, row2, ORDER);
            high3.add(fromMemorySegment(F, ALL, row3, ORDER)).intoMemorySegment(ALL, row3, ORDER);
        }
    }

    /**
     * Four rows by two units, for vectors of 512 bits, of which there are 32: twice the sums of {@link #fourRowsOfNibbles} for
     * the same broadcasts.
     */
    private static void fourRowsOfTwoUnits(
            Scratch scratch, int r, int depth, int[] taken, long units, int rowBytes, long c, long cStride) {
        float[] a = scratch.a;
        int a0 = r * depth;
        int a1 = a0 + depth;
        int a2 = a1 + depth;
        int a3 = a2 + depth;
        FloatVector sum00 = FloatVector.broadcast(F, scratch.bias[r]);
        FloatVector sum01 = sum00;
        FloatVector sum02 = sum00;
        FloatVector sum03 = sum00;
        FloatVector sum10 = FloatVector.broadcast(F, scratch.bias[r + 1]);
        FloatVector sum11 = sum10;
        FloatVector sum12 = sum10;
        FloatVector sum13 = sum10;
        FloatVector sum20 = FloatVector.broadcast(F, scratch.bias[r + 2]);
        FloatVector sum21 = sum20;
        FloatVector sum22 = sum20;
        FloatVector sum23 = sum20;
        FloatVector sum30 = FloatVector.broadcast(F, scratch.bias[r + 3]);
        FloatVector sum31 = sum30;
        FloatVector sum32 = sum30;
        FloatVector sum33 = sum30;
        long ahead = scratch.aheadAt;
        long step = scratch.aheadStep;
        int touched = 0;
        for (int i = 0; i < depth; i++) {
            touched += ALL.get(JAVA_BYTE, ahead + 2L * i * step) + ALL.get(JAVA_BYTE, ahead + (2L * i + 1) * step);
            long row = units + (long) taken[i] * rowBytes;
            IntVector bytes = (IntVector) ByteVector.fromMemorySegment(B, ALL, row, ORDER)
                    .convertShape(ZERO_EXTEND_B2I, I, 0);
            FloatVector code0 = (FloatVector) bytes.and(15).convert(I2F, 0);
            FloatVector code1 = (FloatVector) bytes.lanewise(LSHR, 4).convert(I2F, 0);
            bytes = (IntVector) ByteVector.fromMemorySegment(B, ALL, row + UNIT, ORDER)
                    .convertShape(ZERO_EXTEND_B2I, I, 0);
            FloatVector code2 = (FloatVector) bytes.and(15).convert(I2F, 0);
            FloatVector code3 = (FloatVector) bytes.lanewise(LSHR, 4).convert(I2F, 0);
            FloatVector x = FloatVector.broadcast(F, a[a0 + i]);
            sum00 = code0.fma(x, sum00);
            sum01 = code1.fma(x, sum01);
            sum02 = code2.fma(x, sum02);
            sum03 = code3.fma(x, sum03);
            x = FloatVector.broadcast(F, a[a1 + i]);
            sum10 = code0.fma(x, sum10);
            sum11 = code1.fma(x, sum11);
            sum12 = code2.fma(x, sum12);
            sum13 = code3.fma(x, sum13);
            x = FloatVector.broadcast(F, a[a2 + i]);
            sum20 = code0.fma(x, sum20);
            sum21 = code1.fma(x, sum21);
            sum22 = code2.fma(x, sum22);
            sum23 = code3.fma(x, sum23);
            x = FloatVector.broadcast(F, a[a3 + i]);
            sum30 = code0.fma(x, sum30);
            sum31 = code1.fma(x, sum31);
            sum32 = code2.fma(x, sum32);
            sum33 = code3.fma(x, sum33);
        }
        scratch.ahead.touched(touched);
        scratch.aheadAt = ahead + 2L * depth * step;
        long row0 = c;
        sum00.add(fromMemorySegment(F, ALL, row0, ORDER)).intoMemorySegment(ALL, row0, ORDER);
        sum01.add(fromMemorySegment(F, ALL, row0 + V, ORDER)).intoMemorySegment(ALL, row0 + V, ORDER);
        sum02.add(fromMemorySegment(F, ALL, row0 + 2 * V, ORDER)).intoMemorySegment(ALL, row0 + 2 * V, ORDER);
        sum03.add(fromMemorySegment(F, ALL, row0 + 3 * V, ORDER)).intoMemorySegment(ALL, row0 + 3 * V, ORDER);
        long row1 = c + cStride;
        sum10.add(fromMemorySegment(F, ALL, row1, ORDER)).intoMemorySegment(ALL, row1, ORDER);
        sum11.add(fromMemorySegment(F, ALL, row1 + V, ORDER)).intoMemorySegment(ALL, row1 + V, ORDER);
        sum12.add(fromMemorySegment(F, ALL, row1 + 2 * V, ORDER)).intoMemorySegment(ALL, row1 + 2 * V, ORDER);
        sum13.add(fromMemorySegment(F, ALL, row1 + 3 * V, ORDER)).intoMemorySegment(ALL, row1 + 3 * V, ORDER);
        long row2 = c + 2 * cStride;
        sum20.add(fromMemorySegment(F, ALL, row2, ORDER)).intoMemorySegment(ALL, row2, ORDER);
        sum21.add(fromMemorySegment(F, ALL, row2 + V, ORDER)).intoMemorySegment(ALL, row2 + V, ORDER);
        sum22.add(fromMemorySegment(F, ALL, row2 + 2 * V, ORDER)).intoMemorySegment(ALL, row2 + 2 * V, ORDER);
        sum23.add(fromMemorySegment(F, ALL, row2 + 3 * V, ORDER)).intoMemorySegment(ALL, row2 + 3 * V, ORDER);
        long row3 = c + 3 * cStride;
        sum30.add(fromMemorySegment(F, ALL, row3, ORDER)).intoMemorySegment(ALL, row3, ORDER);
        sum31.add(fromMemorySegment(F, ALL, row3 + V, ORDER)).intoMemorySegment(ALL, row3 + V, ORDER);
        sum32.add(fromMemorySegment(F, ALL, row3 + 2 * V, ORDER)).intoMemorySegment(ALL, row3 + 2 * V, ORDER);
        sum33.add(fromMemorySegment(F, ALL, row3 + 3 * V, ORDER)).intoMemorySegment(ALL, row3 + 3 * V, ORDER);
    }

    private static void twoRowsOfNibbles(
            Scratch scratch, int r, int depth, int[] taken, long stripe, int rowBytes, long c, long cStride,
            boolean both) {
        float[] a = scratch.a;
        int a0 = r * depth;
        int a1 = a0 + depth;
        FloatVector low0 = FloatVector.broadcast(F, scratch.bias[r]);
        FloatVector high0 = low0;
        FloatVector low1 = FloatVector.broadcast(F, scratch.bias[r + 1]);
        FloatVector high1 = low1;
        for (int i = 0; i < depth; i++) {
            IntVector bytes = (IntVector) ByteVector
                    .fromMemorySegment(B, ALL, stripe + (long) taken[i] * rowBytes, ORDER)
                    .convertShape(ZERO_EXTEND_B2I, I, 0);
            FloatVector low = (FloatVector) bytes.and(15).convert(I2F, 0);
            FloatVector high = (FloatVector) bytes.lanewise(LSHR, 4).convert(I2F, 0);
            FloatVector x = FloatVector.broadcast(F, a[a0 + i]);
            low0 = low.fma(x, low0);
            high0 = high.fma(x, high0);
            x = FloatVector.broadcast(F, a[a1 + i]);
            low1 = low.fma(x, low1);
            high1 = high.fma(x, high1);
        }
        low0.add(fromMemorySegment(F, ALL, c, ORDER)).intoMemorySegment(ALL, c, ORDER);
        low1.add(fromMemorySegment(F, ALL, c + cStride, ORDER)).intoMemorySegment(ALL, c + cStride, ORDER);
        if (both) {
            high0.add(fromMemorySegment(F, ALL, c + UNIT * 4L, ORDER)).intoMemorySegment(ALL, c + UNIT * 4L, ORDER);
            high1.add(fromMemorySegment(F, ALL, c + cStride + UNIT * 4L, ORDER)).intoMemorySegment(ALL,
                    c + cStride + UNIT * 4L, ORDER);
        }
    }

    private static void oneRowOfNibbles(
            Scratch scratch, int r, int depth, int[] taken, long stripe, int rowBytes, long c, boolean both) {
        float[] a = scratch.a;
        int a0 = r * depth;
        FloatVector low0 = FloatVector.broadcast(F, scratch.bias[r]);
        FloatVector high0 = low0;
        for (int i = 0; i < depth; i++) {
            IntVector bytes = (IntVector) ByteVector
                    .fromMemorySegment(B, ALL, stripe + (long) taken[i] * rowBytes, ORDER)
                    .convertShape(ZERO_EXTEND_B2I, I, 0);
            FloatVector low = (FloatVector) bytes.and(15).convert(I2F, 0);
            FloatVector high = (FloatVector) bytes.lanewise(LSHR, 4).convert(I2F, 0);
            FloatVector x = FloatVector.broadcast(F, a[a0 + i]);
            low0 = low.fma(x, low0);
            high0 = high.fma(x, high0);
        }
        low0.add(fromMemorySegment(F, ALL, c, ORDER)).intoMemorySegment(ALL, c, ORDER);
        if (both) {
            high0.add(fromMemorySegment(F, ALL, c + UNIT * 4L, ORDER)).intoMemorySegment(ALL, c + UNIT * 4L, ORDER);
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
