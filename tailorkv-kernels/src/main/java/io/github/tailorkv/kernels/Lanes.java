package io.github.tailorkv.kernels;

import static io.github.tailorkv.kernels.BlockLayout.BLOCK;
import static io.github.tailorkv.kernels.NativeMemory.ALL;
import static jdk.incubator.vector.VectorOperators.LSHL;
import static jdk.incubator.vector.VectorOperators.LT;
import static jdk.incubator.vector.VectorOperators.S2I;

import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;

import jdk.incubator.vector.ByteVector;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.ShortVector;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorSpecies;

/**
 * The vector shapes of this machine, and the two functions that several kernels need. All shapes have the same number of
 * lanes L, 8 or 16, so that bytes, halves and floats of the same elements line up; every count that kernels meet is a
 * multiple of 16 and so of L, save where they say otherwise. {@link #S2} and {@link #B2} alone have twice as many.
 *
 * <p>A rule that is invisible in the code of the kernels: no method of ours takes or returns a vector. A vector that
 * reaches a call is boxed on the heap unless the call is inlined. The JDK's vector methods always are, ours only until
 * the method they are inlined into has grown to some 18000 nodes in the compiler, and every load, conversion and fused
 * multiply-add adds hundreds. Beyond that a kernel is ten to a hundred times slower, depending on what the compiler saw
 * before. Hence the Vector API is called directly, and parts of a kernel meet in memory.
 */
final class Lanes {

    static final boolean WIDE = FloatVector.SPECIES_PREFERRED.vectorBitSize() >= 512;
    static final VectorSpecies<Float> F = WIDE ? FloatVector.SPECIES_512 : FloatVector.SPECIES_256;
    static final VectorSpecies<Integer> I = WIDE ? IntVector.SPECIES_512 : IntVector.SPECIES_256;
    static final VectorSpecies<Short> S = WIDE ? ShortVector.SPECIES_256 : ShortVector.SPECIES_128;
    static final VectorSpecies<Byte> B = WIDE ? ByteVector.SPECIES_128 : ByteVector.SPECIES_64;

    static final VectorSpecies<Short> S2 = WIDE ? ShortVector.SPECIES_512 : ShortVector.SPECIES_256;
    static final VectorSpecies<Byte> B2 = WIDE ? ByteVector.SPECIES_256 : ByteVector.SPECIES_128;

    static final int L = F.length();
    /** Bytes of a vector of floats. */
    static final long V = (long) L * Float.BYTES;

    static final ByteOrder ORDER = ByteOrder.nativeOrder();
    static final IntVector IOTA = IntVector.zero(I).addIndex(1);

    /** What is left of a widened half once it is shifted by 13, and what is missing then: see {@link #halves}. */
    static final int HALF_BITS = 0x8fffe000;
    static final float HALF_FACTOR = 0x1p112f;

    static final float LOG2_E = 1.442695f;
    static final float LN_2_HIGH = 0.6933594f;
    static final float LN_2_LOW = -0.00021219444f;
    /** Adding 1.5 * 2^23 leaves the nearest integer in the low bits of the sum. */
    static final float ROUNDER = 0x1.8p23f;
    private static final int ROUNDER_BITS = Float.floatToRawIntBits(ROUNDER);
    /** Steps between two powers of two in {@link #roughExponentials}: as many as leave 9 bits for sign and exponent. */
    private static final int FRACTION = 1 << 14;
    private static final int FRACTION_SHIFT = 23 - 14;
    /**
     * What is missing when the integer has been shifted to its place: the exponent's bias, what the shift has left of
     * {@link #ROUNDER}, and 0.0575 powers of two less, which make the mean error 0.
     */
    private static final int POWER_BITS = (127 << 23) - (ROUNDER_BITS << FRACTION_SHIFT) - (int) (0.0575 * (1 << 23));
    /** Factors of the powers of r in {@link #exponentials}. */
    static final float EXP_2 = 0.49999994f;
    static final float EXP_3 = 0.16666521f;
    static final float EXP_4 = 0.04166839f;
    static final float EXP_5 = 0.008368717f;
    static final float EXP_6 = 0.0013814599f;
    /** Below it, exp would be subnormal. */
    static final float EXP_MIN = -87.33654f;

    private Lanes() {}

    static float scalar(long address) {
        return ALL.get(ValueLayout.JAVA_FLOAT_UNALIGNED, address);
    }

    static void store(long address, float x) {
        ALL.set(ValueLayout.JAVA_FLOAT_UNALIGNED, address, x);
    }

    /** One half-precision number. */
    static float half(long address) {
        return Float.float16ToFloat(ALL.get(ValueLayout.JAVA_SHORT_UNALIGNED, address));
    }

    /**
     * Converts {@code count} finite halves, rounded up to a multiple of L. A half's exponent and fraction, moved to their
     * places in a float, make a float that is 2^112 times too small; the multiplication also normalizes subnormals. The sign,
     * which widening has copied upwards, is in its place then too.
     *
     * <p>The kernels that need such vectors in registers have these lines themselves: from a method of its own a vector comes
     * back as an object on the heap, for as long as the JVM lives, if the compiler does not happen to inline it.
     */
    static void halves(long address, int count, float[] target, int at) {
        long base = NativeMemory.base(address);
        for (int i = 0; i < count; i += L) {
            IntVector x = (IntVector) ShortVector.fromMemorySegment(S, ALL, NativeMemory.at(base, i * 2), ORDER)
                    .convertShape(S2I, I, 0);
            x.lanewise(LSHL, 13).and(HALF_BITS).reinterpretAsFloats().mul(HALF_FACTOR).intoArray(target, at + i);
        }
    }

    /**
     * Sums {@code exp(x - shift)} over {@code rows} rows of {@code count} numbers, a multiple of L, {@code stride} bytes
     * apart; no number may exceed the shift by more than 88.
     * The relative error is about 1e-7; what would be subnormal is 0. With n the integer nearest to x / ln 2, e^x is 2^n
     * times e^r for an r of at most ln 2 / 2 in magnitude; e^r is 1 + r + r^2 p(r) with a minimax polynomial p.
     *
     * @param target where the exponentials go, all rows one after the other, or 0 for nowhere
     */
    static float exponentials(long source, long stride, int rows, int count, float shift, long target) {
        FloatVector sum = FloatVector.zero(F);
        for (int j = 0; j < rows; j++) {
            long row = NativeMemory.base(source + j * stride);
            long to = NativeMemory.base(target + (long) j * count * 4);
            for (int i = 0; i < count; i += L) {
                FloatVector x = FloatVector.fromMemorySegment(F, ALL, NativeMemory.at(row, i * 4), ORDER).sub(shift);
                FloatVector rounded = x.fma(FloatVector.broadcast(F, LOG2_E), FloatVector.broadcast(F, ROUNDER));
                FloatVector n = rounded.sub(ROUNDER);
                FloatVector r = n.fma(FloatVector.broadcast(F, -LN_2_HIGH), x);
                r = n.fma(FloatVector.broadcast(F, -LN_2_LOW), r);
                FloatVector p = r.fma(FloatVector.broadcast(F, EXP_6), FloatVector.broadcast(F, EXP_5));
                p = p.fma(r, FloatVector.broadcast(F, EXP_4));
                p = p.fma(r, FloatVector.broadcast(F, EXP_3));
                p = p.fma(r, FloatVector.broadcast(F, EXP_2));
                p = p.fma(r.mul(r), r).add(1);
                IntVector power = rounded.reinterpretAsInts().lanewise(LSHL, 23);
                FloatVector result = p.reinterpretAsInts().add(power).reinterpretAsFloats();
                result = result.blend(0, x.compare(LT, EXP_MIN));
                sum = sum.add(result);
                if (target != 0) {
                    result.intoMemorySegment(ALL, NativeMemory.at(to, i * 4), ORDER);
                }
            }
        }
        return sum.reduceLanes(VectorOperators.ADD);
    }

    /**
     * Sums {@code exp(x - shift)} over {@code rows} rows of a block's 64 numbers, {@code stride} bytes apart, within 4 % a term
     * and with a mean error near 0, in about a third of the time of
     * {@link #exponentials}: the bits of a float read as an integer are, but for a constant, its logarithm with straight
     * lines between the powers of two (Schraudolph, Neural Computation 11, 1999), so an integer made from x / ln 2 is
     * e^x. Numbers that are no sum at all come where one exceeds the shift by more than 87 or is not finite. What would be
     * subnormal counts as 2^-126.
     */
    static float roughExponentials(long source, long stride, int rows, float shift) {
        FloatVector factor = FloatVector.broadcast(F, LOG2_E * FRACTION);
        FloatVector offset = FloatVector.broadcast(F, Math.fma(-shift, LOG2_E * FRACTION, ROUNDER));
        FloatVector sum = FloatVector.zero(F);
        FloatVector other = sum;
        for (int j = 0; j < rows; j++) {
            long row = NativeMemory.base(source + j * stride);
            for (int i = 0; i < BLOCK; i += 2 * L) {
                // The nearest integer to 2^14 x / ln 2 is in the low bits.
                IntVector bits = FloatVector.fromMemorySegment(F, ALL, NativeMemory.at(row, i * 4), ORDER)
                        .fma(factor, offset).reinterpretAsInts().max(ROUNDER_BITS - 126 * FRACTION)
                        .min(ROUNDER_BITS + 126 * FRACTION);
                sum = sum.add(bits.lanewise(LSHL, FRACTION_SHIFT).add(POWER_BITS).reinterpretAsFloats());
                bits = FloatVector.fromMemorySegment(F, ALL, NativeMemory.at(row, (i + L) * 4), ORDER)
                        .fma(factor, offset).reinterpretAsInts().max(ROUNDER_BITS - 126 * FRACTION)
                        .min(ROUNDER_BITS + 126 * FRACTION);
                other = other.add(bits.lanewise(LSHL, FRACTION_SHIFT).add(POWER_BITS).reinterpretAsFloats());
            }
        }
        return sum.add(other).reduceLanes(VectorOperators.ADD);
    }

    /** e^x of a single number, 0 where it would be subnormal. */
    static float exp(float x) {
        return x < EXP_MIN ? 0 : (float) Math.exp(x);
    }
}
