package io.github.tailorkv.kernels;

import static io.github.tailorkv.kernels.BlockLayout.GROUP;
import static io.github.tailorkv.kernels.BlockLayout.LINE;
import static io.github.tailorkv.kernels.Lanes.B2;
import static io.github.tailorkv.kernels.Lanes.F;
import static io.github.tailorkv.kernels.Lanes.I;
import static io.github.tailorkv.kernels.Lanes.L;
import static io.github.tailorkv.kernels.Lanes.ORDER;
import static io.github.tailorkv.kernels.Lanes.ROUNDER;
import static io.github.tailorkv.kernels.Lanes.S;
import static io.github.tailorkv.kernels.Lanes.S2;
import static io.github.tailorkv.kernels.NativeMemory.ALL;
import static io.github.tailorkv.kernels.NibbleProduct.CENTRE;
import static io.github.tailorkv.kernels.NibbleProduct.LOW_HALF;
import static io.github.tailorkv.kernels.NibbleProduct.ROWS;
import static io.github.tailorkv.kernels.NibbleProduct.STRIPE;
import static io.github.tailorkv.kernels.NibbleProduct.SUMS;
import static io.github.tailorkv.kernels.NibbleProduct.VECTOR;
import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static jdk.incubator.vector.FloatVector.broadcast;
import static jdk.incubator.vector.FloatVector.fromMemorySegment;
import static jdk.incubator.vector.VectorOperators.ADD;
import static jdk.incubator.vector.VectorOperators.I2F;
import static jdk.incubator.vector.VectorOperators.LSHL;
import static jdk.incubator.vector.VectorOperators.LSHR;
import static jdk.incubator.vector.VectorOperators.S2I;
import static jdk.incubator.vector.VectorOperators.ZERO_EXTEND_B2S;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;

import jdk.incubator.vector.ByteVector;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.ShortVector;

/**
 * The innermost product of {@link PackedProduct} for codes of 4 bits and a group of 64 columns, in integers of 16 bits as that
 * of an index, {@link NibbleProduct}, which tells how.
 *
 * <p>An object is the memory of one thread.
 */
final class PackedNibbles {

    /** Rows of B, channels or tokens, that share a unit; the more there are the coarser it is. */
    static final int DEPTH = 64;

    /** Columns whose codes are in a stripe. */
    private static final int COLUMNS = 2 * STRIPE;

    /** What multiplies the codes of each row of B, twice in each element. */
    private final int[] factors = new int[ROWS * DEPTH];
    /** What sums begin with, twice in each element. */
    private final int[] starts = new int[ROWS];
    private final float[] units = new float[ROWS];
    /** {@code short[ROWS][64]}, in the order in which codes lie: see {@link NibbleProduct#tokens}. */
    private final MemorySegment sums = Arena.ofAuto().allocate(ROWS * (long) SUMS, LINE);
    private final Ahead ahead;
    /** Where the loop of four rows reads ahead: so many bytes further at each step, from here. */
    private long aheadAt;
    private int aheadStep;

    PackedNibbles(Ahead ahead) {
        this.ahead = ahead;
    }

    /** Spreads what the thread expects to read next over products with {@code rows} rows of A and {@code columns} of B. */
    void expect(long codes, int rows, int depth, int columns) {
        int steps = depth * ((columns + COLUMNS - 1) / COLUMNS) * ((rows + ROWS - 1) / ROWS);
        long next = ahead.take();
        // With nothing expected the loop reads what it has.
        aheadAt = next == 0 ? codes : next;
        aheadStep = next == 0 ? 0 : (int) (ahead.bytes() / Math.max(1, steps));
    }

    /**
     * {@code C += A B} for up to four rows of A.
     *
     * @param a A times scales, {@code [rows][depth]} from {@code first} on
     * @param bias of each row from {@code row} on: the sum of A times {@code zero + 8 * scale}
     * @param offsets bytes from {@code codes} to each row of B
     * @param columns at most 64, a multiple of 16
     */
    void multiply(
            float[] a, int first, float[] bias, int row, int rows, int depth, long codes, int[] offsets, int columns,
            long c, long cStride) {
        for (int from = 0; from == 0 || from < depth; from += DEPTH) {
            int count = Math.min(DEPTH, depth - from);
            round(a, first + from, depth, rows, count);
            long to = sums.address();
            for (int column = 0; column < columns; column += COLUMNS, to += 2L * VECTOR) {
                long stripe = codes + column / 2;
                if (rows == 1) {
                    oneRow(stripe, offsets, from, count, to);
                } else if (rows == 2) {
                    twoRows(stripe, offsets, from, count, to);
                } else {
                    fourRows(stripe, offsets, from, count, to);
                }
            }
            for (int r = 0; r < rows; r++) {
                add(r, from == 0 ? bias[row + r] : 0, columns, c + r * cStride);
            }
        }
    }

    /** Makes integers of {@code count} columns of A. */
    private void round(float[] a, int first, int stride, int rows, int count) {
        if (rows == ROWS && count % L == 0) {
            roundFour(a, first, stride, count);
            return;
        }
        for (int r = 0; r < rows; r++) {
            roundRow(a, first + r * stride, count, r);
        }
        if (rows == ROWS - 1) {
            starts[ROWS - 1] = 0;
            Arrays.fill(factors, (ROWS - 1) * DEPTH, (ROWS - 1) * DEPTH + count, 0);
        }
    }

    private void roundRow(float[] a, int first, int depth, int r) {
        FloatVector size = FloatVector.zero(F);
        int whole = depth - depth % L;
        for (int i = 0; i < whole; i += L) {
            size = size.add(FloatVector.fromArray(F, a, first + i).abs());
        }
        float sum = size.reduceLanes(ADD);
        for (int i = whole; i < depth; i++) {
            sum += Math.abs(a[first + i]);
        }
        float unit = NibbleProduct.unit(sum, depth);
        units[r] = unit;
        FloatVector factor = broadcast(F, 1 / unit);
        FloatVector rounder = broadcast(F, ROUNDER);
        IntVector total = IntVector.zero(I);
        int at = r * DEPTH;
        for (int i = 0; i < whole; i += L) {
            // The integer is in the low bits, the upper half is that of the rounder.
            IntVector n = FloatVector.fromArray(F, a, first + i).fma(factor, rounder).reinterpretAsInts();
            total = total.add(n);
            n.and(LOW_HALF).or(n.lanewise(LSHL, Short.SIZE)).intoArray(factors, at + i);
        }
        int start = total.reduceLanes(ADD);
        for (int i = whole; i < depth; i++) {
            int n = Float.floatToRawIntBits(Math.fma(a[first + i], 1 / unit, ROUNDER));
            start += n;
            factors[at + i] = twice(n);
        }
        starts[r] = twice(-CENTRE * start);
    }

    /** Four rows of a whole number of vectors, whose sums do not wait for each other. */
    private void roundFour(float[] a, int first, int stride, int depth) {
        int a1 = first + stride;
        int a2 = a1 + stride;
        int a3 = a2 + stride;
        FloatVector size0 = FloatVector.zero(F);
        FloatVector size1 = size0;
        FloatVector size2 = size0;
        FloatVector size3 = size0;
        for (int i = 0; i < depth; i += L) {
            size0 = size0.add(FloatVector.fromArray(F, a, first + i).abs());
            size1 = size1.add(FloatVector.fromArray(F, a, a1 + i).abs());
            size2 = size2.add(FloatVector.fromArray(F, a, a2 + i).abs());
            size3 = size3.add(FloatVector.fromArray(F, a, a3 + i).abs());
        }
        float unit0 = NibbleProduct.unit(size0.reduceLanes(ADD), depth);
        float unit1 = NibbleProduct.unit(size1.reduceLanes(ADD), depth);
        float unit2 = NibbleProduct.unit(size2.reduceLanes(ADD), depth);
        float unit3 = NibbleProduct.unit(size3.reduceLanes(ADD), depth);
        units[0] = unit0;
        units[1] = unit1;
        units[2] = unit2;
        units[3] = unit3;
        FloatVector factor0 = broadcast(F, 1 / unit0);
        FloatVector factor1 = broadcast(F, 1 / unit1);
        FloatVector factor2 = broadcast(F, 1 / unit2);
        FloatVector factor3 = broadcast(F, 1 / unit3);
        FloatVector rounder = broadcast(F, ROUNDER);
        IntVector total0 = IntVector.zero(I);
        IntVector total1 = total0;
        IntVector total2 = total0;
        IntVector total3 = total0;
        for (int i = 0; i < depth; i += L) {
            IntVector n = FloatVector.fromArray(F, a, first + i).fma(factor0, rounder).reinterpretAsInts();
            total0 = total0.add(n);
            n.and(LOW_HALF).or(n.lanewise(LSHL, Short.SIZE)).intoArray(factors, i);
            n = FloatVector.fromArray(F, a, a1 + i).fma(factor1, rounder).reinterpretAsInts();
            total1 = total1.add(n);
            n.and(LOW_HALF).or(n.lanewise(LSHL, Short.SIZE)).intoArray(factors, DEPTH + i);
            n = FloatVector.fromArray(F, a, a2 + i).fma(factor2, rounder).reinterpretAsInts();
            total2 = total2.add(n);
            n.and(LOW_HALF).or(n.lanewise(LSHL, Short.SIZE)).intoArray(factors, 2 * DEPTH + i);
            n = FloatVector.fromArray(F, a, a3 + i).fma(factor3, rounder).reinterpretAsInts();
            total3 = total3.add(n);
            n.and(LOW_HALF).or(n.lanewise(LSHL, Short.SIZE)).intoArray(factors, 3 * DEPTH + i);
        }
        starts[0] = twice(-CENTRE * total0.reduceLanes(ADD));
        starts[1] = twice(-CENTRE * total1.reduceLanes(ADD));
        starts[2] = twice(-CENTRE * total2.reduceLanes(ADD));
        starts[3] = twice(-CENTRE * total3.reduceLanes(ADD));
    }

    private static int twice(int n) {
        return (n & LOW_HALF) | (n << Short.SIZE);
    }

    private void add(int r, float bias, int columns, long c) {
        long from = NativeMemory.base(sums.address() + (long) r * SUMS);
        long to = NativeMemory.base(c);
        FloatVector unit = broadcast(F, units[r]);
        FloatVector shift = broadcast(F, bias);
        for (int i = 0; i < GROUP; i += L) {
            int column = NibbleProduct.tokens(i);
            if (column < columns) {
                FloatVector x = (FloatVector) ((IntVector) ShortVector
                        .fromMemorySegment(S, ALL, NativeMemory.at(from, i * Short.BYTES), ORDER)
                        .convertShape(S2I, I, 0)).convert(I2F, 0);
                x.fma(unit, shift).add(fromMemorySegment(F, ALL, NativeMemory.at(to, column * Float.BYTES), ORDER))
                        .intoMemorySegment(ALL, NativeMemory.at(to, column * Float.BYTES), ORDER);
            }
        }
    }

    // ---- sums of the columns whose codes are in a stripe; without touching ahead where there is too little to do -------

    private void fourRows(long stripe, int[] offsets, int first, int count, long target) {
        int[] n = factors;
        long base = NativeMemory.base(stripe);
        long next = NativeMemory.base(aheadAt);
        int step = aheadStep;
        int touched = 0;
        ShortVector low0 = IntVector.broadcast(I, starts[0]).reinterpretAsShorts();
        ShortVector low1 = IntVector.broadcast(I, starts[1]).reinterpretAsShorts();
        ShortVector low2 = IntVector.broadcast(I, starts[2]).reinterpretAsShorts();
        ShortVector low3 = IntVector.broadcast(I, starts[3]).reinterpretAsShorts();
        ShortVector high0 = low0;
        ShortVector high1 = low1;
        ShortVector high2 = low2;
        ShortVector high3 = low3;
        for (int i = 0; i < count; i++) {
            touched += ALL.get(JAVA_BYTE, NativeMemory.at(next, i * step));
            ShortVector bytes = (ShortVector) ByteVector
                    .fromMemorySegment(B2, ALL, NativeMemory.at(base, offsets[first + i]), ORDER)
                    .convertShape(ZERO_EXTEND_B2S, S2, 0);
            ShortVector low = bytes.and((short) 15);
            ShortVector high = bytes.lanewise(LSHR, 4);
            ShortVector x = IntVector.broadcast(I, n[i]).reinterpretAsShorts();
            low0 = low.mul(x).add(low0);
            high0 = high.mul(x).add(high0);
            x = IntVector.broadcast(I, n[i + DEPTH]).reinterpretAsShorts();
            low1 = low.mul(x).add(low1);
            high1 = high.mul(x).add(high1);
            x = IntVector.broadcast(I, n[i + 2 * DEPTH]).reinterpretAsShorts();
            low2 = low.mul(x).add(low2);
            high2 = high.mul(x).add(high2);
            x = IntVector.broadcast(I, n[i + 3 * DEPTH]).reinterpretAsShorts();
            low3 = low.mul(x).add(low3);
            high3 = high.mul(x).add(high3);
        }
        ahead.touched(touched);
        aheadAt = next + (long) count * step;
        long to = NativeMemory.base(target);
        low0.intoMemorySegment(ALL, to, ORDER);
        high0.intoMemorySegment(ALL, NativeMemory.at(to, VECTOR), ORDER);
        low1.intoMemorySegment(ALL, NativeMemory.at(to, SUMS), ORDER);
        high1.intoMemorySegment(ALL, NativeMemory.at(to, SUMS + VECTOR), ORDER);
        low2.intoMemorySegment(ALL, NativeMemory.at(to, 2 * SUMS), ORDER);
        high2.intoMemorySegment(ALL, NativeMemory.at(to, 2 * SUMS + VECTOR), ORDER);
        low3.intoMemorySegment(ALL, NativeMemory.at(to, 3 * SUMS), ORDER);
        high3.intoMemorySegment(ALL, NativeMemory.at(to, 3 * SUMS + VECTOR), ORDER);
    }

    private void twoRows(long stripe, int[] offsets, int first, int count, long target) {
        int[] n = factors;
        long base = NativeMemory.base(stripe);
        ShortVector low0 = IntVector.broadcast(I, starts[0]).reinterpretAsShorts();
        ShortVector low1 = IntVector.broadcast(I, starts[1]).reinterpretAsShorts();
        ShortVector high0 = low0;
        ShortVector high1 = low1;
        for (int i = 0; i < count; i++) {
            ShortVector bytes = (ShortVector) ByteVector
                    .fromMemorySegment(B2, ALL, NativeMemory.at(base, offsets[first + i]), ORDER)
                    .convertShape(ZERO_EXTEND_B2S, S2, 0);
            ShortVector low = bytes.and((short) 15);
            ShortVector high = bytes.lanewise(LSHR, 4);
            ShortVector x = IntVector.broadcast(I, n[i]).reinterpretAsShorts();
            low0 = low.mul(x).add(low0);
            high0 = high.mul(x).add(high0);
            x = IntVector.broadcast(I, n[i + DEPTH]).reinterpretAsShorts();
            low1 = low.mul(x).add(low1);
            high1 = high.mul(x).add(high1);
        }
        long to = NativeMemory.base(target);
        low0.intoMemorySegment(ALL, to, ORDER);
        high0.intoMemorySegment(ALL, NativeMemory.at(to, VECTOR), ORDER);
        low1.intoMemorySegment(ALL, NativeMemory.at(to, SUMS), ORDER);
        high1.intoMemorySegment(ALL, NativeMemory.at(to, SUMS + VECTOR), ORDER);
    }

    private void oneRow(long stripe, int[] offsets, int first, int count, long target) {
        int[] n = factors;
        long base = NativeMemory.base(stripe);
        ShortVector low = IntVector.broadcast(I, starts[0]).reinterpretAsShorts();
        ShortVector high = low;
        for (int i = 0; i < count; i++) {
            ShortVector bytes = (ShortVector) ByteVector
                    .fromMemorySegment(B2, ALL, NativeMemory.at(base, offsets[first + i]), ORDER)
                    .convertShape(ZERO_EXTEND_B2S, S2, 0);
            ShortVector x = IntVector.broadcast(I, n[i]).reinterpretAsShorts();
            low = bytes.and((short) 15).mul(x).add(low);
            high = bytes.lanewise(LSHR, 4).mul(x).add(high);
        }
        long to = NativeMemory.base(target);
        low.intoMemorySegment(ALL, to, ORDER);
        high.intoMemorySegment(ALL, NativeMemory.at(to, VECTOR), ORDER);
    }
}
