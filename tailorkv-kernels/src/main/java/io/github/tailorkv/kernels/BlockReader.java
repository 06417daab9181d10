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
import static io.github.tailorkv.kernels.Lanes.half;
import static io.github.tailorkv.kernels.Lanes.store;
import static io.github.tailorkv.kernels.NativeMemory.ALL;
import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_INT_UNALIGNED;
import static java.lang.foreign.ValueLayout.JAVA_LONG_UNALIGNED;
import static jdk.incubator.vector.VectorOperators.I2F;
import static jdk.incubator.vector.VectorOperators.LSHL;
import static jdk.incubator.vector.VectorOperators.LSHR;
import static jdk.incubator.vector.VectorOperators.ZERO_EXTEND_B2I;

import jdk.incubator.vector.ByteVector;
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
                IntVector packed = (IntVector) ByteVector
                        .fromMemorySegment(B, ALL, codes + first * bits / 8 + part, ORDER)
                        .convertShape(ZERO_EXTEND_B2I, I, 0);
                for (int k = 0; k < perUnit / UNIT && first + k * UNIT < count; k++) {
                    FloatVector x = (FloatVector) packed.lanewise(LSHR, k * bits).and(mask).convert(I2F, 0);
                    x.fma(factor, offset).intoMemorySegment(ALL, target + (first + k * UNIT + part) * 4L, ORDER);
                }
            }
        }
    }

    private static void unpackBits(long codes, int count, float scale, float zero, long target) {
        FloatVector unset = FloatVector.broadcast(F, zero);
        FloatVector set = FloatVector.broadcast(F, zero + scale);
        long packed = ALL.get(JAVA_LONG_UNALIGNED, codes);
        for (int i = 0; i < count; i += L) {
            FloatVector x = unset.blend(set, VectorMask.fromLong(F, packed >>> i));
            x.intoMemorySegment(ALL, target + i * 4L, ORDER);
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
                IntVector packed = (IntVector) ByteVector.fromMemorySegment(B, ALL, codes + unit / 2 + part, ORDER)
                        .convertShape(ZERO_EXTEND_B2I, I, 0);
                IntVector left = packed.lanewise(LSHL, 4).and(0xf0);
                left = left.or(IntVector.fromArray(I, words, t).lanewise(LSHR, shift).and(15));
                FloatVector leftNumbers = (FloatVector) left.convert(I2F, 0);
                leftNumbers.fma(factor, offset).intoMemorySegment(ALL, target + t * 4L, ORDER);
                IntVector right = packed.and(0xf0);
                right = right.or(IntVector.fromArray(I, words, t + UNIT).lanewise(LSHR, shift).and(15));
                FloatVector rightNumbers = (FloatVector) right.convert(I2F, 0);
                rightNumbers.fma(factor, offset).intoMemorySegment(ALL, target + (t + UNIT) * 4L, ORDER);
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
                IntVector high = (IntVector) ByteVector.fromMemorySegment(B, ALL, codes + unit / 2 + part, ORDER)
                        .convertShape(ZERO_EXTEND_B2I, I, 0);
                IntVector low = (IntVector) ByteVector.fromMemorySegment(B, ALL, lo + unit / 2 + part, ORDER)
                        .convertShape(ZERO_EXTEND_B2I, I, 0);
                IntVector left = high.lanewise(LSHL, 4).and(0xf0).or(low.and(15));
                FloatVector leftNumbers = (FloatVector) left.convert(I2F, 0);
                leftNumbers.fma(factor, offset).intoMemorySegment(ALL, target + c * 4L, ORDER);
                if (c + UNIT < headSize) {
                    IntVector right = high.and(0xf0).or(low.lanewise(LSHR, 4));
                    FloatVector rightNumbers = (FloatVector) right.convert(I2F, 0);
                    rightNumbers.fma(factor, offset).intoMemorySegment(ALL, target + (c + UNIT) * 4L, ORDER);
                }
            }
        }
    }

    /**
     * One token of a progressive key block into a column of a tile. Codes come one byte from each row of the block and
     * numbers go one to each row of the tile, so both pass through scratch memory; what lies between is done in vectors.
     */
    static void key(long hi, int token, long lo, int headSize, long tile, int column) {
        Column scratch = Column.of(headSize);
        byte[] codes = scratch.codes;
        float[] numbers = scratch.numbers;
        int rowBytes = rowBytes(4, BLOCK);
        long source = hi + BlockLayout.codeByte(4, token);
        for (int c = 0; c < headSize; c++) {
            codes[c] = ALL.get(JAVA_BYTE, source + (long) c * rowBytes);
        }
        int shift = BlockLayout.codeShift(4, token);
        float[] parameters = scratch.parameters;
        Lanes.halves(hi + BlockLayout.keyScales(4, headSize), headSize, parameters, 0);
        Lanes.halves(hi + BlockLayout.keyZeros(4, headSize), headSize, parameters, headSize);
        for (int c = 0; c < headSize; c += L) {
            long lowByte = lo + BlockLayout.codeByte(4, c);
            IntVector high = (IntVector) ByteVector.fromArray(B, codes, c).convertShape(ZERO_EXTEND_B2I, I, 0);
            IntVector low = (IntVector) ByteVector.fromMemorySegment(B, ALL, lowByte, ORDER)
                    .convertShape(ZERO_EXTEND_B2I, I, 0);
            low = low.lanewise(LSHR, BlockLayout.codeShift(4, c)).and(15);
            IntVector code = high.lanewise(LSHR, shift).and(15).lanewise(LSHL, 4).or(low);
            FloatVector scale = FloatVector.fromArray(F, parameters, c);
            FloatVector zero = FloatVector.fromArray(F, parameters, headSize + c);
            ((FloatVector) code.convert(I2F, 0)).fma(scale, zero).intoArray(numbers, c);
        }
        long target = tile + column * 4L;
        for (int c = 0; c < headSize; c++) {
            store(target + (long) c * BLOCK * FLOAT, numbers[c]);
        }
    }

    /** Memory of one thread for one token's keys. */
    private static final class Column {
        private static final ThreadLocal<Column> OF_THREAD = ThreadLocal.withInitial(() -> new Column(256));

        private final byte[] codes;
        private final float[] numbers;
        private final float[] parameters;

        private Column(int headSize) {
            codes = new byte[headSize];
            numbers = new float[headSize];
            parameters = new float[2 * headSize];
        }

        private static Column of(int headSize) {
            Column column = OF_THREAD.get();
            if (column.codes.length < headSize) {
                column = new Column(headSize);
                OF_THREAD.set(column);
            }
            return column;
        }
    }
}
