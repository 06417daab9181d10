package io.github.tailorkv.kernels;

import static io.github.tailorkv.kernels.BlockLayout.BLOCK;
import static io.github.tailorkv.kernels.BlockLayout.FLOAT;
import static io.github.tailorkv.kernels.BlockLayout.GROUP;
import static io.github.tailorkv.kernels.BlockLayout.HALF;
import static io.github.tailorkv.kernels.BlockLayout.LINE;
import static io.github.tailorkv.kernels.BlockLayout.UNIT;
import static io.github.tailorkv.kernels.Lanes.B;
import static io.github.tailorkv.kernels.Lanes.F;
import static io.github.tailorkv.kernels.Lanes.I;
import static io.github.tailorkv.kernels.Lanes.L;
import static io.github.tailorkv.kernels.Lanes.ORDER;
import static io.github.tailorkv.kernels.Lanes.half;
import static io.github.tailorkv.kernels.NativeMemory.ALL;
import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static jdk.incubator.vector.VectorOperators.I2F;
import static jdk.incubator.vector.VectorOperators.LSHR;
import static jdk.incubator.vector.VectorOperators.ZERO_EXTEND_B2I;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

import jdk.incubator.vector.ByteVector;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;

/**
 * Writes token records, reads them back and brings them into the cache; {@link RecordProduct} computes with them.
 *
 * <p>Dominant tokens come from all over a session and are in no cache, so the loads come first and the arithmetic second:
 * one load a cache line, none of which waits for another, and a dozen misses pass at the same time. Reading record after
 * record has two or three under way, because the arithmetic between them fills the processor's window.
 */
final class TokenRecords {

    /** What records begin at multiples of, in every store of ours; elsewhere a last line may not be asked for. */
    private static final int ALIGNMENT = 8;

    private static final ThreadLocal<TokenRecords> OF_THREAD = ThreadLocal.withInitial(TokenRecords::new);

    private MemorySegment room = Arena.ofAuto().allocate(256 * FLOAT, 64);
    /** Keeps the compiler from dropping loads whose values nobody needs. */
    @SuppressWarnings("unused")
    private int touched;

    private TokenRecords() {}

    /** Memory of this thread for keys or values on their way to or from their records. */
    static long room(long bytes) {
        TokenRecords scratch = OF_THREAD.get();
        if (scratch.room.byteSize() < bytes) {
            scratch.room = Arena.ofAuto().allocate(bytes, 64);
        }
        return scratch.room.address();
    }

    static void pack(long keys, long values, int headSize, int bits, long records) {
        long key = room((long) headSize * FLOAT);
        int codes = BlockLayout.recordCodes(bits, headSize);
        int parameters = BlockLayout.recordParameters(bits, headSize);
        for (int t = 0; t < BLOCK; t++) {
            long record = records + (long) t * BlockLayout.recordBytes(bits, headSize);
            long value = values + (long) t * headSize * FLOAT;
            RowConversion.fromColumn(keys + t * (long) FLOAT, (long) BLOCK * FLOAT, headSize, key);
            if (bits == 16) {
                RowConversion.toBFloat16(key, record, headSize);
                RowConversion.toBFloat16(value, record + codes, headSize);
            } else {
                long fields = record + 2L * codes;
                BlockQuantizer.row(key, headSize, bits, record, fields);
                BlockQuantizer.row(value, headSize, bits, record + codes, fields + parameters);
            }
        }
    }

    static void load(long records, int bits, int headSize, long keys, long values) {
        long key = room((long) headSize * FLOAT);
        int bytes = BlockLayout.recordBytes(bits, headSize);
        for (int t = 0; t < BLOCK; t++) {
            long record = records + (long) t * bytes;
            readKey(record, bits, headSize, key);
            readValue(record, bits, headSize, values + (long) t * headSize * FLOAT);
            RowConversion.intoColumn(key, headSize, keys + t * (long) FLOAT, (long) BLOCK * FLOAT);
        }
    }

    static void readKeys(long[] records, int count, int bits, int headSize, long keys) {
        for (int i = 0; i < count; i++) {
            readKey(records[i], bits, headSize, keys + (long) i * headSize * FLOAT);
        }
    }

    static void readValues(long[] records, int count, int bits, int headSize, long values) {
        for (int i = 0; i < count; i++) {
            readValue(records[i], bits, headSize, values + (long) i * headSize * FLOAT);
        }
    }

    private static void readKey(long record, int bits, int headSize, long key) {
        if (bits == 16) {
            RowConversion.fromBFloat16(record, key, headSize);
        } else {
            unpack(record, record + 2L * BlockLayout.recordCodes(bits, headSize), bits, headSize, key);
        }
    }

    private static void readValue(long record, int bits, int headSize, long value) {
        int codes = BlockLayout.recordCodes(bits, headSize);
        if (bits == 16) {
            RowConversion.fromBFloat16(record + codes, value, headSize);
        } else {
            long fields = record + 2L * codes + BlockLayout.recordParameters(bits, headSize);
            unpack(record + codes, fields, bits, headSize, value);
        }
    }

    /**
     * Three lines of one record after the other, which are what most records have: the loop is a few instructions a load, so
     * that many of them fit into the processor's window and wait at the same time, and what is side by side comes together.
     */
    static void touch(long[] records, int count, int bytes) {
        int sum = 0;
        int last = bytes - 1;
        int lines = (bytes + 2 * LINE - 1 - ALIGNMENT) / LINE;
        for (int line = 0; line < lines; line += 3) {
            int first = Math.min(line * LINE, last);
            int second = Math.min(first + LINE, last);
            int third = Math.min(second + LINE, last);
            for (int i = 0; i < count; i++) {
                long record = NativeMemory.base(records[i]);
                sum += ALL.get(JAVA_BYTE, NativeMemory.at(record, first))
                        + ALL.get(JAVA_BYTE, NativeMemory.at(record, second))
                        + ALL.get(JAVA_BYTE, NativeMemory.at(record, third));
            }
        }
        OF_THREAD.get().touched = sum;
    }

    private static void unpack(long codes, long fields, int bits, int headSize, long target) {
        int groups = BlockLayout.groups(headSize);
        for (int g = 0; g < groups; g++) {
            int first = g * GROUP;
            float scale = half(fields + (long) g * HALF);
            float zero = half(fields + (long) (groups + g) * HALF);
            int end = Math.min(headSize, first + GROUP);
            if (bits == 8) {
                bytes(codes + first, scale, zero, end - first, target + (long) first * FLOAT);
            } else {
                nibbles(codes + first / 2, scale, zero, end - first, target + (long) first * FLOAT);
            }
        }
    }

    private static void bytes(long codes, float scale, float zero, int count, long target) {
        FloatVector factor = FloatVector.broadcast(F, scale);
        FloatVector offset = FloatVector.broadcast(F, zero);
        for (int c = 0; c < count; c += L) {
            FloatVector code = (FloatVector) ((IntVector) ByteVector.fromMemorySegment(B, ALL, codes + c, ORDER)
                    .convertShape(ZERO_EXTEND_B2I, I, 0)).convert(I2F, 0);
            code.fma(factor, offset).intoMemorySegment(ALL, target + c * 4L, ORDER);
        }
    }

    private static void nibbles(long codes, float scale, float zero, int count, long target) {
        FloatVector factor = FloatVector.broadcast(F, scale);
        FloatVector offset = FloatVector.broadcast(F, zero);
        for (int unit = 0; unit < count; unit += 2 * UNIT) {
            for (int part = 0; part < UNIT; part += L) {
                int c = unit + part;
                IntVector both = (IntVector) ByteVector.fromMemorySegment(B, ALL, codes + unit / 2 + part, ORDER)
                        .convertShape(ZERO_EXTEND_B2I, I, 0);
                ((FloatVector) both.and(15).convert(I2F, 0)).fma(factor, offset)
                        .intoMemorySegment(ALL, target + c * 4L, ORDER);
                if (c + UNIT < count) {
                    ((FloatVector) both.lanewise(LSHR, 4).convert(I2F, 0)).fma(factor, offset)
                            .intoMemorySegment(ALL, target + (c + UNIT) * 4L, ORDER);
                }
            }
        }
    }
}
