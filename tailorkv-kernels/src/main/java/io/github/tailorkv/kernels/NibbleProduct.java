package io.github.tailorkv.kernels;

import static io.github.tailorkv.kernels.BlockLayout.BLOCK;
import static io.github.tailorkv.kernels.BlockLayout.HALF;
import static io.github.tailorkv.kernels.BlockLayout.LINE;
import static io.github.tailorkv.kernels.BlockLayout.PANEL;
import static io.github.tailorkv.kernels.BlockLayout.UNIT;
import static io.github.tailorkv.kernels.Lanes.B2;
import static io.github.tailorkv.kernels.Lanes.F;
import static io.github.tailorkv.kernels.Lanes.HALF_BITS;
import static io.github.tailorkv.kernels.Lanes.HALF_FACTOR;
import static io.github.tailorkv.kernels.Lanes.I;
import static io.github.tailorkv.kernels.Lanes.L;
import static io.github.tailorkv.kernels.Lanes.ORDER;
import static io.github.tailorkv.kernels.Lanes.ROUNDER;
import static io.github.tailorkv.kernels.Lanes.S;
import static io.github.tailorkv.kernels.Lanes.S2;
import static io.github.tailorkv.kernels.NativeMemory.ALL;
import static jdk.incubator.vector.FloatVector.broadcast;
import static jdk.incubator.vector.VectorOperators.I2F;
import static jdk.incubator.vector.VectorOperators.LSHL;
import static jdk.incubator.vector.VectorOperators.LSHR;
import static jdk.incubator.vector.VectorOperators.LT;
import static jdk.incubator.vector.VectorOperators.S2I;
import static jdk.incubator.vector.VectorOperators.ZERO_EXTEND_B2S;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

import jdk.incubator.vector.ByteVector;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.ShortVector;

/**
 * Products of up to four query rows and an index panel of 4 bits, in integers of 16 bits: a vector holds twice as many of
 * them as of floats, and codes become such integers without being converted.
 *
 * <p>What multiplies the codes of a channel and block, {@code a = q * scale}, becomes the integer {@code n} next to
 * {@code a / unit}, where the unit of a row and block is small enough to tell small factors apart and so large that the sum of
 * {@code n * (code - 8)} fits into 16 bits whatever the codes are: the sum of all |n| is at most {@value #MOST}. It is rounded
 * up to a number of {@value #UNIT_BITS} bits, so that it does not depend on the order in which magnitudes are summed. Sums may leave that range on their way,
 * for they come back. What rounding adds to the error of a score is a few hundredths of what the codes themselves have lost,
 * and {@link AttentionKernels#indexScores} says what is rounded, so that every implementation ranks tokens alike.
 *
 * <p>An object is the memory of one thread.
 */
final class NibbleProduct {

    static final int ROWS = 4;
    /** What is taken from every code, so that sums are small. */
    static final int CENTRE = 8;
    /** The largest sum of magnitudes that, times {@link #CENTRE}, fits into 16 bits. */
    private static final int MOST = Short.MAX_VALUE / CENTRE;
    /** What a sum of magnitudes begins with, so that it can divide. */
    private static final float LEAST = 0x1p-100f;

    /** Significant bits of a unit. */
    private static final int UNIT_BITS = 3;
    private static final int BELOW_UNIT = (1 << (24 - UNIT_BITS)) - 1;
    static final int LOW_HALF = 0xffff;
    /** Bytes of a row of scores of a block, and of its sums. */
    private static final int ROW = BLOCK * Float.BYTES;
    static final int SUMS = BLOCK * Short.BYTES;
    /** Bytes of a vector of sums. */
    static final int VECTOR = 2 * L * Short.BYTES;
    /** Bytes of a row's codes that one vector of sums and another take, those of the low and of the high nibbles. */
    static final int STRIPE = 2 * L;

    /** Queries times scales of L blocks, {@code [depth][ROWS][L]}. */
    private float[] a = new float[64 * ROWS * L];
    /** The same as integers, twice in each element. */
    private int[] factors = new int[64 * ROWS * L];
    /** What the sums of each block begin with, {@code [ROWS][L]}, twice in each element. */
    private final int[] starts = new int[ROWS * L];
    private final float[] units = new float[ROWS * L];
    private final float[] bias = new float[ROWS * L];
    /** Sums of one block, {@code short[ROWS][64]}, in the order in which codes lie: see {@link #tokens}. */
    private final MemorySegment sums = Arena.ofAuto().allocate(ROWS * (long) SUMS, LINE);

    /**
     * Prepares for the L blocks of a panel from {@code first} on.
     *
     * @param taken channels that take part, the first {@code depth} entries
     * @param queries the queries' part in them, {@code [depth][ROWS]}
     * @param shifts what is added to all scores of each row
     */
    void prepare(long panel, int first, int headSize, int[] taken, int depth, float[] queries, float[] shifts) {
        if (a.length < depth * ROWS * L) {
            a = new float[depth * ROWS * L];
            factors = new int[depth * ROWS * L];
        }
        fold(panel, first, headSize, taken, depth, queries, shifts);
        round(depth);
    }

    /** {@link #a}, what scores are without the sums of integers, and the units. */
    private void fold(long panel, int first, int headSize, int[] taken, int depth, float[] queries, float[] shifts) {
        long scaleBase = NativeMemory.base(panel + BlockLayout.panelScales(4, headSize));
        long zeroBase = NativeMemory.base(panel + BlockLayout.panelZeros(4, headSize));
        FloatVector bias0 = broadcast(F, shifts[0]);
        FloatVector bias1 = broadcast(F, shifts[1]);
        FloatVector bias2 = broadcast(F, shifts[2]);
        FloatVector bias3 = broadcast(F, shifts[3]);
        FloatVector size0 = FloatVector.zero(F);
        FloatVector size1 = size0;
        FloatVector size2 = size0;
        FloatVector size3 = size0;
        for (int i = 0; i < depth; i++) {
            int half = (taken[i] * PANEL + first) * HALF;
            FloatVector scale = ((IntVector) ShortVector
                    .fromMemorySegment(S, ALL, NativeMemory.at(scaleBase, half), ORDER).convertShape(S2I, I, 0))
                    .lanewise(LSHL, 13).and(HALF_BITS).reinterpretAsFloats().mul(HALF_FACTOR);
            FloatVector zero = ((IntVector) ShortVector
                    .fromMemorySegment(S, ALL, NativeMemory.at(zeroBase, half), ORDER).convertShape(S2I, I, 0))
                    .lanewise(LSHL, 13).and(HALF_BITS).reinterpretAsFloats().mul(HALF_FACTOR);
            FloatVector centre = scale.fma(broadcast(F, CENTRE), zero);
            int target = i * ROWS * L;
            FloatVector x = broadcast(F, queries[i * ROWS]);
            bias0 = centre.fma(x, bias0);
            x = scale.mul(x);
            x.intoArray(a, target);
            size0 = size0.add(x.abs());
            x = broadcast(F, queries[i * ROWS + 1]);
            bias1 = centre.fma(x, bias1);
            x = scale.mul(x);
            x.intoArray(a, target + L);
            size1 = size1.add(x.abs());
            x = broadcast(F, queries[i * ROWS + 2]);
            bias2 = centre.fma(x, bias2);
            x = scale.mul(x);
            x.intoArray(a, target + 2 * L);
            size2 = size2.add(x.abs());
            x = broadcast(F, queries[i * ROWS + 3]);
            bias3 = centre.fma(x, bias3);
            x = scale.mul(x);
            x.intoArray(a, target + 3 * L);
            size3 = size3.add(x.abs());
        }
        bias0.intoArray(bias, 0);
        bias1.intoArray(bias, L);
        bias2.intoArray(bias, 2 * L);
        bias3.intoArray(bias, 3 * L);
        size0.intoArray(units, 0);
        size1.intoArray(units, L);
        size2.intoArray(units, 2 * L);
        size3.intoArray(units, 3 * L);
        // As unit() says, for L blocks at once.
        for (int i = 0; i < ROWS * L; i += L) {
            FloatVector.fromArray(F, units, i).add(LEAST).div(MOST - 0.5f * depth).reinterpretAsInts()
                    .add(BELOW_UNIT).and(~BELOW_UNIT).reinterpretAsFloats().intoArray(units, i);
        }
    }

    /** The unit of factors whose magnitudes sum up to {@code size}; rounding may add a half to each of them. */
    static float unit(float size, int depth) {
        float exact = (size + LEAST) / (MOST - 0.5f * depth);
        return Float.intBitsToFloat((Float.floatToRawIntBits(exact) + BELOW_UNIT) & ~BELOW_UNIT);
    }

    /** Makes integers of {@link #a}. */
    private void round(int depth) {
        FloatVector one = broadcast(F, 1);
        FloatVector factor0 = one.div(FloatVector.fromArray(F, units, 0));
        FloatVector factor1 = one.div(FloatVector.fromArray(F, units, L));
        FloatVector factor2 = one.div(FloatVector.fromArray(F, units, 2 * L));
        FloatVector factor3 = one.div(FloatVector.fromArray(F, units, 3 * L));
        FloatVector rounder = broadcast(F, ROUNDER);
        IntVector sum0 = IntVector.zero(I);
        IntVector sum1 = sum0;
        IntVector sum2 = sum0;
        IntVector sum3 = sum0;
        for (int at = 0; at < depth * ROWS * L; at += ROWS * L) {
            // The integer is in the low bits, the upper half is that of the rounder: no part of what the shorts become.
            IntVector n = FloatVector.fromArray(F, a, at).fma(factor0, rounder).reinterpretAsInts();
            sum0 = sum0.add(n);
            n.and(LOW_HALF).or(n.lanewise(LSHL, Short.SIZE)).intoArray(factors, at);
            n = FloatVector.fromArray(F, a, at + L).fma(factor1, rounder).reinterpretAsInts();
            sum1 = sum1.add(n);
            n.and(LOW_HALF).or(n.lanewise(LSHL, Short.SIZE)).intoArray(factors, at + L);
            n = FloatVector.fromArray(F, a, at + 2 * L).fma(factor2, rounder).reinterpretAsInts();
            sum2 = sum2.add(n);
            n.and(LOW_HALF).or(n.lanewise(LSHL, Short.SIZE)).intoArray(factors, at + 2 * L);
            n = FloatVector.fromArray(F, a, at + 3 * L).fma(factor3, rounder).reinterpretAsInts();
            sum3 = sum3.add(n);
            n.and(LOW_HALF).or(n.lanewise(LSHL, Short.SIZE)).intoArray(factors, at + 3 * L);
        }
        sum0 = sum0.mul(-CENTRE);
        sum0.and(LOW_HALF).or(sum0.lanewise(LSHL, Short.SIZE)).intoArray(starts, 0);
        sum1 = sum1.mul(-CENTRE);
        sum1.and(LOW_HALF).or(sum1.lanewise(LSHL, Short.SIZE)).intoArray(starts, L);
        sum2 = sum2.mul(-CENTRE);
        sum2.and(LOW_HALF).or(sum2.lanewise(LSHL, Short.SIZE)).intoArray(starts, 2 * L);
        sum3 = sum3.mul(-CENTRE);
        sum3.and(LOW_HALF).or(sum3.lanewise(LSHL, Short.SIZE)).intoArray(starts, 3 * L);
    }

    /**
     * Scores of a block.
     *
     * @param lane which of those that were {@linkplain #prepare prepared} for it is
     * @param codes its codes in the panel's first channel
     * @param offsets bytes from there to each channel that takes part
     * @param rows how many of the four to write
     * @param s {@code float[rows][64]}
     */
    void scores(int lane, long codes, int[] offsets, int depth, int rows, long s) {
        multiply(lane, codes, offsets, depth);
        long from = NativeMemory.base(sums.address());
        long to = NativeMemory.base(s);
        for (int r = 0; r < rows; r++) {
            FloatVector unit = broadcast(F, units[r * L + lane]);
            FloatVector shift = broadcast(F, bias[r * L + lane]);
            for (int i = 0; i < BLOCK; i += L) {
                FloatVector x = (FloatVector) ((IntVector) ShortVector
                        .fromMemorySegment(S, ALL, NativeMemory.at(from, r * SUMS + i * Short.BYTES), ORDER)
                        .convertShape(S2I, I, 0)).convert(I2F, 0);
                x.fma(unit, shift)
                        .intoMemorySegment(ALL, NativeMemory.at(to, r * ROW + tokens(i) * Float.BYTES), ORDER);
            }
        }
    }

    /** The largest of a token's four scores, for all tokens of a block: {@code float[64]}; the arguments are those of {@link #scores}. */
    void largest(int lane, long codes, int[] offsets, int depth, long rank) {
        multiply(lane, codes, offsets, depth);
        long from = NativeMemory.base(sums.address());
        long to = NativeMemory.base(rank);
        FloatVector unit0 = broadcast(F, units[lane]);
        FloatVector unit1 = broadcast(F, units[L + lane]);
        FloatVector unit2 = broadcast(F, units[2 * L + lane]);
        FloatVector unit3 = broadcast(F, units[3 * L + lane]);
        FloatVector shift0 = broadcast(F, bias[lane]);
        FloatVector shift1 = broadcast(F, bias[L + lane]);
        FloatVector shift2 = broadcast(F, bias[2 * L + lane]);
        FloatVector shift3 = broadcast(F, bias[3 * L + lane]);
        for (int i = 0; i < BLOCK; i += L) {
            int at = i * Short.BYTES;
            FloatVector x0 = ((FloatVector) ((IntVector) ShortVector
                    .fromMemorySegment(S, ALL, NativeMemory.at(from, at), ORDER)
                    .convertShape(S2I, I, 0)).convert(I2F, 0)).fma(unit0, shift0);
            FloatVector x1 = ((FloatVector) ((IntVector) ShortVector
                    .fromMemorySegment(S, ALL, NativeMemory.at(from, at + SUMS), ORDER)
                    .convertShape(S2I, I, 0)).convert(I2F, 0)).fma(unit1, shift1);
            FloatVector x2 = ((FloatVector) ((IntVector) ShortVector
                    .fromMemorySegment(S, ALL, NativeMemory.at(from, at + 2 * SUMS), ORDER)
                    .convertShape(S2I, I, 0)).convert(I2F, 0)).fma(unit2, shift2);
            FloatVector x3 = ((FloatVector) ((IntVector) ShortVector
                    .fromMemorySegment(S, ALL, NativeMemory.at(from, at + 3 * SUMS), ORDER)
                    .convertShape(S2I, I, 0)).convert(I2F, 0)).fma(unit3, shift3);
            x0 = x0.blend(x1, x0.compare(LT, x1));
            x2 = x2.blend(x3, x2.compare(LT, x3));
            x0.blend(x2, x0.compare(LT, x2))
                    .intoMemorySegment(ALL, NativeMemory.at(to, tokens(i) * Float.BYTES), ORDER);
        }
    }

    /** The first of the L tokens whose sums begin with the i-th: vectors of 512 bits hold both halves of a block's low nibbles. */
    static int tokens(int i) {
        if (!Lanes.WIDE) {
            return i;
        }
        return i == UNIT ? 2 * UNIT : i == 2 * UNIT ? UNIT : i;
    }

    private void multiply(int lane, long codes, int[] offsets, int depth) {
        long to = sums.address();
        for (int stripe = 0; stripe < 2 * UNIT; stripe += STRIPE) {
            multiply(lane, codes + stripe, offsets, depth, to + stripe * 2L * Short.BYTES);
        }
    }

    /** Sums of the tokens whose codes are in a stripe. */
    private void multiply(int lane, long stripe, int[] offsets, int depth, long target) {
        int[] n = factors;
        long base = NativeMemory.base(stripe);
        ShortVector low0 = IntVector.broadcast(I, starts[lane]).reinterpretAsShorts();
        ShortVector low1 = IntVector.broadcast(I, starts[L + lane]).reinterpretAsShorts();
        ShortVector low2 = IntVector.broadcast(I, starts[2 * L + lane]).reinterpretAsShorts();
        ShortVector low3 = IntVector.broadcast(I, starts[3 * L + lane]).reinterpretAsShorts();
        ShortVector high0 = low0;
        ShortVector high1 = low1;
        ShortVector high2 = low2;
        ShortVector high3 = low3;
        for (int i = 0; i < depth; i++) {
            ShortVector bytes = (ShortVector) ByteVector
                    .fromMemorySegment(B2, ALL, NativeMemory.at(base, offsets[i]), ORDER)
                    .convertShape(ZERO_EXTEND_B2S, S2, 0);
            ShortVector low = bytes.and((short) 15);
            ShortVector high = bytes.lanewise(LSHR, 4);
            int at = i * ROWS * L + lane;
            ShortVector x = IntVector.broadcast(I, n[at]).reinterpretAsShorts();
            low0 = low.mul(x).add(low0);
            high0 = high.mul(x).add(high0);
            x = IntVector.broadcast(I, n[at + L]).reinterpretAsShorts();
            low1 = low.mul(x).add(low1);
            high1 = high.mul(x).add(high1);
            x = IntVector.broadcast(I, n[at + 2 * L]).reinterpretAsShorts();
            low2 = low.mul(x).add(low2);
            high2 = high.mul(x).add(high2);
            x = IntVector.broadcast(I, n[at + 3 * L]).reinterpretAsShorts();
            low3 = low.mul(x).add(low3);
            high3 = high.mul(x).add(high3);
        }
        long to = NativeMemory.base(target);
        low0.intoMemorySegment(ALL, to, ORDER);
        low1.intoMemorySegment(ALL, NativeMemory.at(to, SUMS), ORDER);
        low2.intoMemorySegment(ALL, NativeMemory.at(to, 2 * SUMS), ORDER);
        low3.intoMemorySegment(ALL, NativeMemory.at(to, 3 * SUMS), ORDER);
        high0.intoMemorySegment(ALL, NativeMemory.at(to, VECTOR), ORDER);
        high1.intoMemorySegment(ALL, NativeMemory.at(to, SUMS + VECTOR), ORDER);
        high2.intoMemorySegment(ALL, NativeMemory.at(to, 2 * SUMS + VECTOR), ORDER);
        high3.intoMemorySegment(ALL, NativeMemory.at(to, 3 * SUMS + VECTOR), ORDER);
    }
}
