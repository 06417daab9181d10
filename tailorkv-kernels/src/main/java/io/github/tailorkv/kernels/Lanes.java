package io.github.tailorkv.kernels;

import static io.github.tailorkv.kernels.NativeMemory.ALL;
import static jdk.incubator.vector.VectorOperators.I2F;
import static jdk.incubator.vector.VectorOperators.LSHL;
import static jdk.incubator.vector.VectorOperators.LSHR;
import static jdk.incubator.vector.VectorOperators.LT;
import static jdk.incubator.vector.VectorOperators.ZERO_EXTEND_B2I;
import static jdk.incubator.vector.VectorOperators.ZERO_EXTEND_S2I;

import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;

import jdk.incubator.vector.ByteVector;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.ShortVector;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorSpecies;

/**
 * The vector shapes of this machine, loads and stores by absolute address, and the two functions that attention needs.
 * All shapes have the same number of lanes L, 8 or 16, so that bytes, halves and floats of the same elements line up;
 * every count that kernels meet is a multiple of 16 and so of L, save where they say otherwise.
 */
final class Lanes {

    static final boolean WIDE = FloatVector.SPECIES_PREFERRED.vectorBitSize() >= 512;
    static final VectorSpecies<Float> F = WIDE ? FloatVector.SPECIES_512 : FloatVector.SPECIES_256;
    static final VectorSpecies<Integer> I = WIDE ? IntVector.SPECIES_512 : IntVector.SPECIES_256;
    static final VectorSpecies<Short> S = WIDE ? ShortVector.SPECIES_256 : ShortVector.SPECIES_128;
    static final VectorSpecies<Byte> B = WIDE ? ByteVector.SPECIES_128 : ByteVector.SPECIES_64;

    static final int L = F.length();
    /** Bytes of a vector of floats. */
    static final long V = (long) L * Float.BYTES;

    static final ByteOrder ORDER = ByteOrder.nativeOrder();
    static final IntVector IOTA = IntVector.zero(I).addIndex(1);

    private static final float LOG2_E = 1.442695f;
    private static final float LN_2_HIGH = 0.6933594f;
    private static final float LN_2_LOW = -0.00021219444f;
    /** Adding 1.5 * 2^23 leaves the nearest integer in the low bits of the sum. */
    private static final float ROUNDER = 0x1.8p23f;
    /** Below it, exp would be subnormal. */
    private static final float EXP_MIN = -87.33654f;

    private Lanes() {}

    static FloatVector load(long address) {
        return FloatVector.fromMemorySegment(F, ALL, address, ORDER);
    }

    static void store(long address, FloatVector x) {
        x.intoMemorySegment(ALL, address, ORDER);
    }

    static float scalar(long address) {
        return ALL.get(ValueLayout.JAVA_FLOAT_UNALIGNED, address);
    }

    static void store(long address, float x) {
        ALL.set(ValueLayout.JAVA_FLOAT_UNALIGNED, address, x);
    }

    /** L unsigned bytes. */
    static IntVector bytes(long address) {
        return (IntVector) ByteVector.fromMemorySegment(B, ALL, address, ORDER).convertShape(ZERO_EXTEND_B2I, I, 0);
    }

    static void storeBytes(long address, IntVector x) {
        ((ByteVector) x.convertShape(VectorOperators.I2B, B, 0)).intoMemorySegment(ALL, address, ORDER);
    }

    /** L unsigned shorts. */
    static IntVector shorts(long address) {
        return (IntVector) ShortVector.fromMemorySegment(S, ALL, address, ORDER).convertShape(ZERO_EXTEND_S2I, I, 0);
    }

    static FloatVector toFloat(IntVector x) {
        return (FloatVector) x.convert(I2F, 0);
    }

    /** One half-precision number. */
    static float half(long address) {
        return Float.float16ToFloat(ALL.get(ValueLayout.JAVA_SHORT_UNALIGNED, address));
    }

    /**
     * The floats of the finite halves in the low 16 bits of each lane. A half's exponent and fraction, moved to their
     * places in a float, make a float that is 2^112 times too small; the multiplication also normalizes subnormals.
     */
    static FloatVector halves(IntVector x) {
        IntVector sign = x.and(0x8000).lanewise(LSHL, 16);
        FloatVector magnitude = x.and(0x7fff).lanewise(LSHL, 13).reinterpretAsFloats().mul(0x1p112f);
        return magnitude.reinterpretAsInts().or(sign).reinterpretAsFloats();
    }

    /** The larger of each pair; of a number and a NaN in {@code x}, {@code max}. */
    static FloatVector max(FloatVector max, FloatVector x) {
        return max.blend(x, max.compare(LT, x));
    }

    /** The smaller of each pair; of a number and a NaN in {@code x}, {@code min}. */
    static FloatVector min(FloatVector min, FloatVector x) {
        return min.blend(x, x.compare(LT, min));
    }

    /**
     * e^x for x up to 88, with a relative error of about 1e-7; 0 where the result would be subnormal. With n the integer
     * nearest to x / ln 2, e^x is 2^n times e^r for an r of at most ln 2 / 2 in magnitude; e^r is 1 + r + r^2 p(r) with a
     * minimax polynomial p.
     */
    static FloatVector exp(FloatVector x) {
        FloatVector rounded = x.fma(FloatVector.broadcast(F, LOG2_E), FloatVector.broadcast(F, ROUNDER));
        FloatVector n = rounded.sub(ROUNDER);
        FloatVector r = n.fma(FloatVector.broadcast(F, -LN_2_HIGH), x);
        r = n.fma(FloatVector.broadcast(F, -LN_2_LOW), r);
        FloatVector p = r.fma(FloatVector.broadcast(F, 0.0013814599f), FloatVector.broadcast(F, 0.008368717f));
        p = p.fma(r, FloatVector.broadcast(F, 0.04166839f));
        p = p.fma(r, FloatVector.broadcast(F, 0.16666521f));
        p = p.fma(r, FloatVector.broadcast(F, 0.49999994f));
        p = p.fma(r.mul(r), r).add(1);
        IntVector power = rounded.reinterpretAsInts().lanewise(LSHL, 23);
        FloatVector result = p.reinterpretAsInts().add(power).reinterpretAsFloats();
        return result.blend(0, x.compare(LT, EXP_MIN));
    }

    /** The same of a single number. */
    static float exp(float x) {
        return x < EXP_MIN ? 0 : (float) Math.exp(x);
    }

    /** {@code cap * tanh(x / cap)}, with an error of about 1e-7 of the cap. */
    static FloatVector softCap(FloatVector x, float cap) {
        FloatVector decay = exp(x.abs().mul(-2 / cap));
        FloatVector magnitude = decay.neg().add(1).div(decay.add(1)).mul(cap);
        return magnitude.blend(magnitude.neg(), x.compare(LT, 0));
    }

    static IntVector bits(IntVector x, int shift, int mask) {
        return x.lanewise(LSHR, shift).and(mask);
    }
}
