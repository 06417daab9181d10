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
import static io.github.tailorkv.kernels.Lanes.bits;
import static io.github.tailorkv.kernels.Lanes.bytes;
import static io.github.tailorkv.kernels.Lanes.half;
import static io.github.tailorkv.kernels.Lanes.store;
import static io.github.tailorkv.kernels.Lanes.toFloat;
import static io.github.tailorkv.kernels.NativeMemory.ALL;
import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_INT_UNALIGNED;
import static java.lang.foreign.ValueLayout.JAVA_LONG_UNALIGNED;
import static jdk.incubator.vector.VectorOperators.LSHL;
import static jdk.incubator.vector.VectorOperators.LSHR;

import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.VectorMask;

/**
 * Reads packed and progressive blocks back into F32 tiles, whole or one token at a time. The counterpart of
 * {@link BlockQuantizer}, with the same transposition in words of eight channels where progressive keys meet their low
 * nibbles.
 */
final class BlockReader {

    private static final ThreadLocal<int[]> WORDS = ThreadLocal.withInitial(() -> new int[BLOCK]);

    private BlockReader() {}

    static void unpackKeys(long block, int bits, boolean refined, int headSize, long tile) {
        int rowBytes = rowBytes(bits, BLOCK);
        long scales = block + BlockLayout.keyScales(bits, headSize);
        long zeros = block + BlockLayout.keyZeros(bits, headSize);
        for (int c = 0; c < headSize; c++) {
            unpack(block + (long) c * rowBytes, BLOCK, bits, refined, half(scales + (long) c * HALF),
                    half(zeros + (long) c * HALF), tile + (long) c * BLOCK * FLOAT);
        }
    }

    static void unpackValues(long block, int bits, boolean refined, int headSize, long tile) {
        int rowBytes = rowBytes(bits, headSize);
        int groups = BlockLayout.groups(headSize);
        long scales = block + BlockLayout.valueScales(bits, headSize);
        long zeros = block + BlockLayout.valueZeros(bits, headSize);
        for (int t = 0; t < BLOCK; t++) {
            for (int g = 0; g < groups; g++) {
                long parameter = (long) (t * groups + g) * HALF;
                unpack(block + (long) t * rowBytes + g * GROUP * bits / 8, Math.min(GROUP, headSize - g * GROUP), bits,
                        refined, half(scales + parameter), half(zeros + parameter),
                        tile + (long) (t * headSize + g * GROUP) * FLOAT);
            }
        }
    }

    private static void unpack(
            long codes, int count, int bits, boolean refined, float scale, float zero, long target) {
        float s = refined ? 16 * scale : scale;
        float z = refined ? zero + 7.5f * scale : zero;
        if (bits == 1) {
            unpackBits(codes, count, s, z, target);
            return;
        }
        FloatVector offset = FloatVector.broadcast(F, z);
        FloatVector factor = FloatVector.broadcast(F, s);
        int mask = BlockLayout.maxCode(bits);
        int perUnit = UNIT * 8 / bits;
        for (int first = 0; first < count; first += perUnit) {
            for (int part = 0; part < UNIT; part += L) {
                IntVector packed = bytes(codes + first * bits / 8 + part);
                for (int k = 0; k < perUnit / UNIT && first + k * UNIT < count; k++) {
                    FloatVector x = toFloat(bits(packed, k * bits, mask)).fma(factor, offset);
                    store(target + (first + k * UNIT + part) * 4L, x);
                }
            }
        }
    }

    private static void unpackBits(long codes, int count, float scale, float zero, long target) {
        FloatVector unset = FloatVector.broadcast(F, zero);
        FloatVector set = FloatVector.broadcast(F, zero + scale);
        long packed = ALL.get(JAVA_LONG_UNALIGNED, codes);
        for (int i = 0; i < count; i += L) {
            store(target + i * 4L, unset.blend(set, VectorMask.fromLong(F, packed >>> i)));
        }
    }

    static void joinKeys(long hi, long lo, long loStride, int headSize, long tile) {
        int[] words = WORDS.get();
        int rowBytes = rowBytes(4, BLOCK);
        long scales = hi + BlockLayout.keyScales(4, headSize);
        long zeros = hi + BlockLayout.keyZeros(4, headSize);
        for (int unit = 0; unit < headSize; unit += 2 * UNIT) {
            for (int first = unit; first < unit + UNIT; first += 4) {
                long source = lo + unit / 2 + first - unit;
                for (int t = 0; t < BLOCK; t++) {
                    words[t] = ALL.get(JAVA_INT_UNALIGNED, source + t * loStride);
                }
                for (int k = 0; k < 8; k++) {
                    int c = first + k / 2 + k % 2 * UNIT;
                    if (c < headSize) {
                        joinChannel(hi + (long) c * rowBytes, words, 4 * k, half(scales + (long) c * HALF),
                                half(zeros + (long) c * HALF), tile + (long) c * BLOCK * FLOAT);
                    }
                }
            }
        }
    }

    /** One channel, its low nibbles at bit {@code shift} of the words. */
    private static void joinChannel(long codes, int[] words, int shift, float scale, float zero, long target) {
        FloatVector offset = FloatVector.broadcast(F, zero);
        FloatVector factor = FloatVector.broadcast(F, scale);
        for (int unit = 0; unit < BLOCK; unit += 2 * UNIT) {
            for (int part = 0; part < UNIT; part += L) {
                int t = unit + part;
                IntVector packed = bytes(codes + unit / 2 + part);
                IntVector left = packed.lanewise(LSHL, 4).and(0xf0);
                left = left.or(bits(IntVector.fromArray(I, words, t), shift, 15));
                store(target + t * 4L, toFloat(left).fma(factor, offset));
                IntVector right = packed.and(0xf0);
                right = right.or(bits(IntVector.fromArray(I, words, t + UNIT), shift, 15));
                store(target + (t + UNIT) * 4L, toFloat(right).fma(factor, offset));
            }
        }
    }

    static void joinValues(long hi, long lo, long loStride, int headSize, long tile) {
        for (int t = 0; t < BLOCK; t++) {
            value(hi, t, lo + t * loStride, headSize, tile + (long) t * headSize * FLOAT);
        }
    }

    /** One token of a progressive value block. */
    static void value(long hi, int token, long lo, int headSize, long target) {
        int groups = BlockLayout.groups(headSize);
        long codes = hi + (long) token * rowBytes(4, headSize);
        long scales = hi + BlockLayout.valueScales(4, headSize) + (long) token * groups * HALF;
        long zeros = hi + BlockLayout.valueZeros(4, headSize) + (long) token * groups * HALF;
        for (int unit = 0; unit < headSize; unit += 2 * UNIT) {
            long group = (long) (unit / GROUP) * HALF;
            FloatVector factor = FloatVector.broadcast(F, half(scales + group));
            FloatVector offset = FloatVector.broadcast(F, half(zeros + group));
            for (int part = 0; part < UNIT; part += L) {
                int c = unit + part;
                IntVector high = bytes(codes + unit / 2 + part);
                IntVector low = bytes(lo + unit / 2 + part);
                IntVector left = high.lanewise(LSHL, 4).and(0xf0).or(low.and(15));
                store(target + c * 4L, toFloat(left).fma(factor, offset));
                if (c + UNIT < headSize) {
                    IntVector right = high.and(0xf0).or(low.lanewise(LSHR, 4));
                    store(target + (c + UNIT) * 4L, toFloat(right).fma(factor, offset));
                }
            }
        }
    }

    /**
     * One token of a progressive key block into a column of a tile. Source and target are both a byte or a number per
     * row, so there is nothing for a vector to load or store.
     */
    static void key(long hi, int token, long lo, int headSize, long tile, int column) {
        int rowBytes = rowBytes(4, BLOCK);
        long codes = hi + BlockLayout.codeByte(4, token);
        int shift = BlockLayout.codeShift(4, token);
        long scales = hi + BlockLayout.keyScales(4, headSize);
        long zeros = hi + BlockLayout.keyZeros(4, headSize);
        long target = tile + column * 4L;
        for (int unit = 0; unit < headSize; unit += 2 * UNIT) {
            for (int k = 0; k < UNIT; k++) {
                int low = ALL.get(JAVA_BYTE, lo + unit / 2 + k);
                for (int c = unit + k; c < Math.min(unit + 2 * UNIT, headSize); c += UNIT) {
                    int high = ALL.get(JAVA_BYTE, codes + (long) c * rowBytes) >> shift;
                    float code = ((high & 15) << 4) | (low & 15);
                    float x = Math.fma(code, half(scales + (long) c * HALF), half(zeros + (long) c * HALF));
                    store(target + (long) c * BLOCK * FLOAT, x);
                    low >>= 4;
                }
            }
        }
    }
}
