package io.github.tailorkv.kernels;

import static io.github.tailorkv.kernels.BlockLayout.BLOCK;
import static io.github.tailorkv.kernels.BlockLayout.FLOAT;
import static io.github.tailorkv.kernels.BlockLayout.GROUP;
import static io.github.tailorkv.kernels.BlockLayout.HALF;
import static io.github.tailorkv.kernels.BlockLayout.UNIT;
import static io.github.tailorkv.kernels.BlockLayout.rowBytes;
import static io.github.tailorkv.kernels.Lanes.B;
import static io.github.tailorkv.kernels.Lanes.F;
import static io.github.tailorkv.kernels.Lanes.I;
import static io.github.tailorkv.kernels.Lanes.L;
import static io.github.tailorkv.kernels.Lanes.ORDER;
import static io.github.tailorkv.kernels.NativeMemory.ALL;
import static java.lang.foreign.ValueLayout.JAVA_INT_UNALIGNED;
import static java.lang.foreign.ValueLayout.JAVA_LONG_UNALIGNED;
import static java.lang.foreign.ValueLayout.JAVA_SHORT_UNALIGNED;
import static jdk.incubator.vector.FloatVector.fromMemorySegment;
import static jdk.incubator.vector.VectorOperators.F2I;
import static jdk.incubator.vector.VectorOperators.GT;
import static jdk.incubator.vector.VectorOperators.I2B;
import static jdk.incubator.vector.VectorOperators.LSHL;
import static jdk.incubator.vector.VectorOperators.LSHR;
import static jdk.incubator.vector.VectorOperators.LT;
import static jdk.incubator.vector.VectorOperators.MAX;
import static jdk.incubator.vector.VectorOperators.MIN;

import jdk.incubator.vector.ByteVector;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import org.jspecify.annotations.Nullable;

/**
 * Quantizes F32 tiles into packed and progressive blocks. A group, 64 tokens of a channel or up to 64 channels of a token,
 * always lies contiguous in its tile and begins a unit of its row of codes, so keys and values share everything but the
 * low nibbles of progressive keys: those are stored by token while the tile runs by channel. They are transposed in words
 * of four bytes, that is of eight channels, through a row of 64 words in scratch memory.
 */
final class BlockQuantizer {

    /** Memory of one thread. */
    private static final class Scratch {
        private static final ThreadLocal<Scratch> OF_THREAD = ThreadLocal.withInitial(Scratch::new);

        /** Codes of the group at hand. */
        private final int[] codes = new int[BLOCK];
        /** Low nibbles of eight channels, a word for each token. */
        private final int[] words = new int[BLOCK];
    }

    private BlockQuantizer() {}

    static void keys(long tile, int headSize, int bits, long block) {
        keys(tile, null, headSize, bits, block, rowBytes(bits, BLOCK), block + BlockLayout.keyScales(bits, headSize),
                block + BlockLayout.keyZeros(bits, headSize), HALF);
    }

    /**
     * Into block {@code block} of a panel of {@code count} channels.
     *
     * @param channels channels of the tile that the panel holds; null for the first {@code count}
     */
    static void index(long tile, int @Nullable [] channels, int count, int bits, long panel, int block) {
        long field = (long) block * HALF;
        keys(tile, channels, count, bits, panel + (long) block * rowBytes(bits, BLOCK), BlockLayout.panelStride(bits),
                panel + BlockLayout.panelScales(bits, count) + field,
                panel + BlockLayout.panelZeros(bits, count) + field, (long) BlockLayout.PANEL * HALF);
    }

    /** Strides are the bytes from channel to channel. */
    private static void keys(
            long tile, int @Nullable [] channels, int count, int bits, long rows, long rowStride, long scales,
            long zeros,
            long fieldStride) {
        int[] codes = Scratch.OF_THREAD.get().codes;
        for (int i = 0; i < count; i++) {
            int c = channels == null ? i : channels[i];
            group(tile + (long) c * BLOCK * FLOAT, BLOCK, bits, rows + i * rowStride, scales + i * fieldStride,
                    zeros + i * fieldStride, codes);
        }
    }

    static void values(long tile, int headSize, int bits, long block) {
        int[] codes = Scratch.OF_THREAD.get().codes;
        int rowBytes = rowBytes(bits, headSize);
        int groups = BlockLayout.groups(headSize);
        long scales = block + BlockLayout.valueScales(bits, headSize);
        long zeros = block + BlockLayout.valueZeros(bits, headSize);
        for (int t = 0; t < BLOCK; t++) {
            for (int g = 0; g < groups; g++) {
                long parameter = (long) (t * groups + g) * HALF;
                group(tile + (long) (t * headSize + g * GROUP) * FLOAT, Math.min(GROUP, headSize - g * GROUP), bits,
                        block + (long) t * rowBytes + g * GROUP * bits / 8, scales + parameter, zeros + parameter,
                        codes);
            }
        }
    }

    /** One vector of a token record. */
    static void row(long x, int headSize, int bits, long target, long parameters) {
        int[] codes = Scratch.OF_THREAD.get().codes;
        int groups = BlockLayout.groups(headSize);
        for (int g = 0; g < groups; g++) {
            group(x + (long) g * GROUP * FLOAT, Math.min(GROUP, headSize - g * GROUP), bits,
                    target + g * GROUP * bits / 8, parameters + (long) g * HALF,
                    parameters + (long) (groups + g) * HALF,
                    codes);
        }
    }

    private static void group(long x, int count, int bits, long target, long scale, long zero, int[] codes) {
        quantize(x, count, bits, scale, zero, codes);
        if (bits == 1) {
            packBits(codes, count, target);
        } else {
            pack(codes, count, bits, target);
        }
    }

    /** Codes of a group, its scale and zero point stored at the addresses given. */
    private static void quantize(long x, int count, int bits, long scale, long zero, int[] codes) {
        FloatVector minimum = FloatVector.broadcast(F, Float.POSITIVE_INFINITY);
        FloatVector maximum = FloatVector.broadcast(F, Float.NEGATIVE_INFINITY);
        for (int i = 0; i < count; i += L) {
            FloatVector value = fromMemorySegment(F, ALL, x + i * 4L, ORDER);
            minimum = minimum.blend(value, value.compare(LT, minimum));
            maximum = maximum.blend(value, maximum.compare(LT, value));
        }
        float z = ScalarAttentionKernels.zeroPoint(minimum.reduceLanes(MIN));
        float s = ScalarAttentionKernels.scale(maximum.reduceLanes(MAX), z, bits);
        ALL.set(JAVA_SHORT_UNALIGNED, scale, Float.floatToFloat16(s));
        ALL.set(JAVA_SHORT_UNALIGNED, zero, Float.floatToFloat16(z));
        round(x, count, z, s == 0 ? 0 : 1 / s, BlockLayout.maxCode(bits), codes);
    }

    /** Clamped as floats, where a NaN falls to 0 because no comparison holds for it. */
    private static void round(long x, int count, float zero, float inverse, int maxCode, int[] codes) {
        FloatVector limit = FloatVector.broadcast(F, maxCode);
        for (int i = 0; i < count; i += L) {
            FloatVector code = fromMemorySegment(F, ALL, x + i * 4L, ORDER).sub(zero).mul(inverse).add(0.5f);
            code = FloatVector.zero(F).blend(code, code.compare(GT, 0));
            code = code.blend(limit, limit.compare(LT, code));
            ((IntVector) code.convert(F2I, 0)).intoArray(codes, i);
        }
    }

    private static void pack(int[] codes, int count, int bits, long target) {
        int perUnit = UNIT * 8 / bits;
        for (int first = 0; first < count; first += perUnit) {
            for (int part = 0; part < UNIT; part += L) {
                IntVector packed = IntVector.zero(I);
                for (int k = 0; k < perUnit / UNIT && first + k * UNIT < count; k++) {
                    IntVector code = IntVector.fromArray(I, codes, first + k * UNIT + part);
                    packed = packed.or(code.lanewise(LSHL, k * bits));
                }
                ((ByteVector) packed.convertShape(I2B, B, 0))
                        .intoMemorySegment(ALL, target + first * bits / 8 + part, ORDER);
            }
        }
    }

    private static void packBits(int[] codes, int count, long target) {
        long packed = 0;
        for (int i = 0; i < count; i += L) {
            packed |= IntVector.fromArray(I, codes, i).compare(GT, 0).toLong() << i;
        }
        ALL.set(JAVA_LONG_UNALIGNED, target, packed);
    }

    static void splitKeys(long tile, int headSize, long hi, long lo, long loStride) {
        Scratch scratch = Scratch.OF_THREAD.get();
        int[] words = scratch.words;
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
                                scales + (long) c * HALF, zeros + (long) c * HALF, scratch, 4 * k);
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
    private static void splitChannel(long x, long target, long scale, long zero, Scratch scratch, int shift) {
        int[] codes = scratch.codes;
        int[] words = scratch.words;
        quantize(x, BLOCK, 8, scale, zero, codes);
        packHigh(codes, BLOCK, target);
        int keep = (1 << shift) - 1;
        for (int t = 0; t < BLOCK; t += L) {
            IntVector low = IntVector.fromArray(I, codes, t).and(15).lanewise(LSHL, shift);
            IntVector.fromArray(I, words, t).and(keep).or(low).intoArray(words, t);
        }
    }

    /** The high nibbles of 8-bit codes, packed as codes of four bits. */
    private static void packHigh(int[] codes, int count, long target) {
        for (int unit = 0; unit < count; unit += 2 * UNIT) {
            for (int e = unit; e < unit + UNIT; e += L) {
                IntVector packed = IntVector.fromArray(I, codes, e).lanewise(LSHR, 4);
                if (e + UNIT < count) {
                    packed = packed.or(IntVector.fromArray(I, codes, e + UNIT).and(0xf0));
                }
                ((ByteVector) packed.convertShape(I2B, B, 0))
                        .intoMemorySegment(ALL, target + unit / 2 + e - unit, ORDER);
            }
        }
    }

    /** The low nibbles. */
    private static void packLow(int[] codes, int count, long target) {
        for (int unit = 0; unit < count; unit += 2 * UNIT) {
            for (int e = unit; e < unit + UNIT; e += L) {
                IntVector packed = IntVector.fromArray(I, codes, e).and(15);
                if (e + UNIT < count) {
                    packed = packed.or(IntVector.fromArray(I, codes, e + UNIT).lanewise(LSHL, 4).and(0xf0));
                }
                ((ByteVector) packed.convertShape(I2B, B, 0))
                        .intoMemorySegment(ALL, target + unit / 2 + e - unit, ORDER);
            }
        }
    }

    static void splitValues(long tile, int headSize, long hi, long lo, long loStride) {
        int[] codes = Scratch.OF_THREAD.get().codes;
        int rowBytes = rowBytes(4, headSize);
        int groups = BlockLayout.groups(headSize);
        long scales = hi + BlockLayout.valueScales(4, headSize);
        long zeros = hi + BlockLayout.valueZeros(4, headSize);
        for (int t = 0; t < BLOCK; t++) {
            for (int g = 0; g < groups; g++) {
                long parameter = (long) (t * groups + g) * HALF;
                int count = Math.min(GROUP, headSize - g * GROUP);
                quantize(tile + (long) (t * headSize + g * GROUP) * FLOAT, count, 8, scales + parameter,
                        zeros + parameter, codes);
                packHigh(codes, count, hi + (long) t * rowBytes + g * GROUP / 2);
                packLow(codes, count, lo + t * loStride + g * GROUP / 2);
            }
        }
    }
}
