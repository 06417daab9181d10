package io.github.tailorkv.kernels;

import static io.github.tailorkv.kernels.Lanes.F;
import static io.github.tailorkv.kernels.Lanes.I;
import static io.github.tailorkv.kernels.Lanes.L;
import static io.github.tailorkv.kernels.Lanes.ORDER;
import static io.github.tailorkv.kernels.Lanes.S;
import static io.github.tailorkv.kernels.Lanes.scalar;
import static io.github.tailorkv.kernels.Lanes.store;
import static io.github.tailorkv.kernels.NativeMemory.ALL;
import static java.lang.foreign.ValueLayout.JAVA_SHORT_UNALIGNED;
import static jdk.incubator.vector.FloatVector.fromMemorySegment;
import static jdk.incubator.vector.VectorOperators.I2S;
import static jdk.incubator.vector.VectorOperators.LSHL;
import static jdk.incubator.vector.VectorOperators.LSHR;
import static jdk.incubator.vector.VectorOperators.NE;
import static jdk.incubator.vector.VectorOperators.ZERO_EXTEND_S2I;

import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.ShortVector;

/** Conversions of plain rows of numbers: BF16 and rotary embedding; any count, absolute addresses. */
final class RowConversion {

    private RowConversion() {}

    /** Adding just under half of the last kept bit rounds to nearest; the odd bit breaks ties to even. */
    static void toBFloat16(long source, long target, int count) {
        int i = 0;
        for (; i + L <= count; i += L) {
            FloatVector x = fromMemorySegment(F, ALL, source + i * 4L, ORDER);
            IntVector word = x.reinterpretAsInts();
            IntVector rounded = word.add(word.lanewise(LSHR, 16).and(1)).add(0x7fff);
            IntVector kept = rounded.blend(word.or(0x400000), x.compare(NE, x).cast(I)).lanewise(LSHR, 16);
            ((ShortVector) kept.convertShape(I2S, S, 0)).intoMemorySegment(ALL, target + i * 2L, ORDER);
        }
        for (; i < count; i++) {
            int word = Float.floatToRawIntBits(scalar(source + i * 4L));
            int rounded = word + 0x7fff + ((word >>> 16) & 1);
            boolean number = (word & 0x7fffffff) <= 0x7f800000;
            ALL.set(JAVA_SHORT_UNALIGNED, target + i * 2L, (short) ((number ? rounded : word | 0x400000) >>> 16));
        }
    }

    static void fromBFloat16(long source, long target, int count) {
        int i = 0;
        for (; i + L <= count; i += L) {
            IntVector word = (IntVector) ShortVector.fromMemorySegment(S, ALL, source + i * 2L, ORDER)
                    .convertShape(ZERO_EXTEND_S2I, I, 0);
            word.lanewise(LSHL, 16).intoMemorySegment(ALL, target + i * 4L, ORDER);
        }
        for (; i < count; i++) {
            store(target + i * 4L, Float.intBitsToFloat(ALL.get(JAVA_SHORT_UNALIGNED, source + i * 2L) << 16));
        }
    }

    /** Scatters a row into a column of a matrix whose rows are {@code stride} bytes apart. */
    static void intoColumn(long row, int count, long column, long stride) {
        for (int i = 0; i < count; i++) {
            store(column + i * stride, scalar(row + i * 4L));
        }
    }

    /** The opposite of {@link #intoColumn}. */
    static void fromColumn(long column, long stride, int count, long row) {
        for (int i = 0; i < count; i++) {
            store(row + i * 4L, scalar(column + i * stride));
        }
    }

    static void rotate(long x, int heads, int headSize, long table) {
        int half = headSize / 2;
        for (int h = 0; h < heads; h++) {
            long first = x + (long) h * headSize * 4;
            long second = first + half * 4L;
            int i = 0;
            for (; i + L <= half; i += L) {
                FloatVector cosine = fromMemorySegment(F, ALL, table + i * 4L, ORDER);
                FloatVector sine = fromMemorySegment(F, ALL, table + (half + i) * 4L, ORDER);
                FloatVector a = fromMemorySegment(F, ALL, first + i * 4L, ORDER);
                FloatVector b = fromMemorySegment(F, ALL, second + i * 4L, ORDER);
                a.mul(cosine).sub(b.mul(sine)).intoMemorySegment(ALL, first + i * 4L, ORDER);
                b.mul(cosine).add(a.mul(sine)).intoMemorySegment(ALL, second + i * 4L, ORDER);
            }
            for (; i < half; i++) {
                float cosine = scalar(table + i * 4L);
                float sine = scalar(table + (half + i) * 4L);
                float a = scalar(first + i * 4L);
                float b = scalar(second + i * 4L);
                store(first + i * 4L, a * cosine - b * sine);
                store(second + i * 4L, b * cosine + a * sine);
            }
        }
    }
}
