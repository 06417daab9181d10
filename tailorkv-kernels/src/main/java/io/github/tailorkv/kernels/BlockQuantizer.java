package io.github.tailorkv.kernels;

import static io.github.tailorkv.kernels.BlockLayout.BLOCK;
import static io.github.tailorkv.kernels.BlockLayout.FLOAT;
import static io.github.tailorkv.kernels.BlockLayout.GROUP;
import static io.github.tailorkv.kernels.BlockLayout.HALF;
import static io.github.tailorkv.kernels.BlockLayout.UNIT;
import static io.github.tailorkv.kernels.BlockLayout.rowBytes;
import static io.github.tailorkv.kernels.Lanes.F;
import static io.github.tailorkv.kernels.Lanes.I;
import static io.github.tailorkv.kernels.Lanes.L;
import static io.github.tailorkv.kernels.Lanes.load;
import static io.github.tailorkv.kernels.Lanes.storeBytes;
import static io.github.tailorkv.kernels.NativeMemory.ALL;
import static java.lang.foreign.ValueLayout.JAVA_INT_UNALIGNED;
import static java.lang.foreign.ValueLayout.JAVA_LONG_UNALIGNED;
import static java.lang.foreign.ValueLayout.JAVA_SHORT_UNALIGNED;
import static jdk.incubator.vector.VectorOperators.F2I;
import static jdk.incubator.vector.VectorOperators.GT;
import static jdk.incubator.vector.VectorOperators.LSHL;
import static jdk.incubator.vector.VectorOperators.LSHR;
import static jdk.incubator.vector.VectorOperators.LT;
import static jdk.incubator.vector.VectorOperators.MAX;
import static jdk.incubator.vector.VectorOperators.MIN;

import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;

/**
 * Quantizes F32 tiles into packed and progressive blocks. A group, 64 tokens of a channel or up to 64 channels of a token,
 * always lies contiguous in its tile and begins a unit of its row of codes, so keys and values share everything but the
 * low nibbles of progressive keys: those are stored by token while the tile runs by channel. They are transposed in words
 * of four bytes, that is of eight channels, through a row of 64 words in scratch memory.
 */
final class BlockQuantizer {

    private static final ThreadLocal<int[]> WORDS = ThreadLocal.withInitial(() -> new int[BLOCK]);

    private BlockQuantizer() {}

    static void keys(long tile, int headSize, int bits, long block) {
        int rowBytes = rowBytes(bits, BLOCK);
        long scales = block + BlockLayout.keyScales(bits, headSize);
        long zeros = block + BlockLayout.keyZeros(bits, headSize);
        for (int c = 0; c < headSize; c++) {
            group(tile + (long) c * BLOCK * FLOAT, BLOCK, bits, block + (long) c * rowBytes, scales + (long) c * HALF,
                    zeros + (long) c * HALF);
        }
    }

    static void values(long tile, int headSize, int bits, long block) {
        int rowBytes = rowBytes(bits, headSize);
        int groups = BlockLayout.groups(headSize);
        long scales = block + BlockLayout.valueScales(bits, headSize);
        long zeros = block + BlockLayout.valueZeros(bits, headSize);
        for (int t = 0; t < BLOCK; t++) {
            for (int g = 0; g < groups; g++) {
                long parameter = (long) (t * groups + g) * HALF;
                group(tile + (long) (t * headSize + g * GROUP) * FLOAT, Math.min(GROUP, headSize - g * GROUP), bits,
                        block + (long) t * rowBytes + g * GROUP * bits / 8, scales + parameter, zeros + parameter);
            }
        }
    }

    private static void group(long x, int count, int bits, long codes, long scale, long zero) {
        float z = zeroPoint(x, count);
        float s = scale(x, count, z, bits);
        ALL.set(JAVA_SHORT_UNALIGNED, scale, Float.floatToFloat16(s));
        ALL.set(JAVA_SHORT_UNALIGNED, zero, Float.floatToFloat16(z));
        float inverse = s == 0 ? 0 : 1 / s;
        if (bits == 1) {
            packBits(x, count, z, inverse, codes);
        } else {
            pack(x, count, z, inverse, bits, codes);
        }
    }

    private static float zeroPoint(long x, int count) {
        FloatVector minimum = FloatVector.broadcast(F, Float.POSITIVE_INFINITY);
        for (int i = 0; i < count; i += L) {
            minimum = Lanes.min(minimum, load(x + i * 4L));
        }
        return ScalarAttentionKernels.zeroPoint(minimum.reduceLanes(MIN));
    }

    private static float scale(long x, int count, float zero, int bits) {
        FloatVector maximum = FloatVector.broadcast(F, Float.NEGATIVE_INFINITY);
        for (int i = 0; i < count; i += L) {
            maximum = Lanes.max(maximum, load(x + i * 4L));
        }
        return ScalarAttentionKernels.scale(maximum.reduceLanes(MAX), zero, bits);
    }

    /** Codes of L elements. Clamped as floats, where a NaN falls to 0 because no comparison holds for it. */
    private static IntVector codes(long x, float zero, float inverse, int maxCode) {
        FloatVector code = load(x).sub(zero).mul(inverse).add(0.5f);
        FloatVector limit = FloatVector.broadcast(F, maxCode);
        FloatVector clamped = FloatVector.zero(F).blend(code, code.compare(GT, 0));
        return (IntVector) clamped.blend(limit, limit.compare(LT, clamped)).convert(F2I, 0);
    }

    private static void pack(long x, int count, float zero, float inverse, int bits, long codes) {
        int maxCode = BlockLayout.maxCode(bits);
        int perUnit = UNIT * 8 / bits;
        for (int first = 0; first < count; first += perUnit) {
            for (int part = 0; part < UNIT; part += L) {
                IntVector packed = IntVector.zero(I);
                for (int k = 0; k < perUnit / UNIT && first + k * UNIT < count; k++) {
                    IntVector code = codes(x + (first + k * UNIT + part) * 4L, zero, inverse, maxCode);
                    packed = packed.or(code.lanewise(LSHL, k * bits));
                }
                storeBytes(codes + first * bits / 8 + part, packed);
            }
        }
    }

    private static void packBits(long x, int count, float zero, float inverse, long codes) {
        long packed = 0;
        for (int i = 0; i < count; i += L) {
            packed |= codes(x + i * 4L, zero, inverse, 1).compare(GT, 0).toLong() << i;
        }
        ALL.set(JAVA_LONG_UNALIGNED, codes, packed);
    }

    static void splitKeys(long tile, int headSize, long hi, long lo, long loStride) {
        int[] words = WORDS.get();
        int rowBytes = rowBytes(4, BLOCK);
        long scales = hi + BlockLayout.keyScales(4, headSize);
        long zeros = hi + BlockLayout.keyZeros(4, headSize);
        for (int unit = 0; unit < headSize; unit += 2 * UNIT) {
            for (int first = unit; first < unit + UNIT; first += 4) {
                for (int k = 0; k < 8; k++) {
                    // Byte k / 2 of the word holds channel first + k / 2, and 16 channels further in its high nibble.
                    int c = first + k / 2 + k % 2 * UNIT;
                    if (c < headSize) {
                        splitChannel(tile + (long) c * BLOCK * FLOAT, hi + (long) c * rowBytes,
                                scales + (long) c * HALF, zeros + (long) c * HALF, words, 4 * k);
                    }
                }
                long target = lo + unit / 2 + first - unit;
                for (int t = 0; t < BLOCK; t++) {
                    ALL.set(JAVA_INT_UNALIGNED, target + t * loStride, words[t]);
                }
            }
        }
    }

    /** Stores the high nibbles of a channel; puts the low ones at bit {@code shift} of the words, clears those above. */
    private static void splitChannel(long x, long codes, long scale, long zero, int[] words, int shift) {
        float z = zeroPoint(x, BLOCK);
        float s = scale(x, BLOCK, z, 8);
        ALL.set(JAVA_SHORT_UNALIGNED, scale, Float.floatToFloat16(s));
        ALL.set(JAVA_SHORT_UNALIGNED, zero, Float.floatToFloat16(z));
        float inverse = s == 0 ? 0 : 1 / s;
        int keep = (1 << shift) - 1;
        for (int unit = 0; unit < BLOCK; unit += 2 * UNIT) {
            for (int part = 0; part < UNIT; part += L) {
                int t = unit + part;
                IntVector left = codes(x + t * 4L, z, inverse, 255);
                IntVector right = codes(x + (t + UNIT) * 4L, z, inverse, 255);
                storeBytes(codes + unit / 2 + part, left.lanewise(LSHR, 4).or(right.and(0xf0)));
                IntVector.fromArray(I, words, t).and(keep).or(left.and(15).lanewise(LSHL, shift)).intoArray(words, t);
                IntVector.fromArray(I, words, t + UNIT)
                        .and(keep)
                        .or(right.and(15).lanewise(LSHL, shift))
                        .intoArray(words, t + UNIT);
            }
        }
    }

    static void splitValues(long tile, int headSize, long hi, long lo, long loStride) {
        int rowBytes = rowBytes(4, headSize);
        int groups = BlockLayout.groups(headSize);
        long scales = hi + BlockLayout.valueScales(4, headSize);
        long zeros = hi + BlockLayout.valueZeros(4, headSize);
        for (int t = 0; t < BLOCK; t++) {
            for (int g = 0; g < groups; g++) {
                long parameter = (long) (t * groups + g) * HALF;
                int codes = g * GROUP / 2;
                splitGroup(tile + (long) (t * headSize + g * GROUP) * FLOAT, Math.min(GROUP, headSize - g * GROUP),
                        hi + (long) t * rowBytes + codes, lo + t * loStride + codes, scales + parameter,
                        zeros + parameter);
            }
        }
    }

    private static void splitGroup(long x, int count, long hi, long lo, long scale, long zero) {
        float z = zeroPoint(x, count);
        float s = scale(x, count, z, 8);
        ALL.set(JAVA_SHORT_UNALIGNED, scale, Float.floatToFloat16(s));
        ALL.set(JAVA_SHORT_UNALIGNED, zero, Float.floatToFloat16(z));
        float inverse = s == 0 ? 0 : 1 / s;
        for (int unit = 0; unit < count; unit += 2 * UNIT) {
            for (int part = 0; part < UNIT; part += L) {
                int c = unit + part;
                IntVector left = codes(x + c * 4L, z, inverse, 255);
                IntVector right = c + UNIT < count ? codes(x + (c + UNIT) * 4L, z, inverse, 255) : IntVector.zero(I);
                storeBytes(hi + unit / 2 + part, left.lanewise(LSHR, 4).or(right.and(0xf0)));
                storeBytes(lo + unit / 2 + part, left.and(15).or(right.and(15).lanewise(LSHL, 4)));
            }
        }
    }
}
