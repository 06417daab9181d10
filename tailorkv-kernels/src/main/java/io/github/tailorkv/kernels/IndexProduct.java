package io.github.tailorkv.kernels;

import static io.github.tailorkv.kernels.BlockLayout.BLOCK;
import static io.github.tailorkv.kernels.BlockLayout.HALF;
import static io.github.tailorkv.kernels.BlockLayout.LINE;
import static io.github.tailorkv.kernels.BlockLayout.PANEL;
import static io.github.tailorkv.kernels.BlockLayout.UNIT;
import static io.github.tailorkv.kernels.BlockLayout.rowBytes;
import static io.github.tailorkv.kernels.Lanes.B;
import static io.github.tailorkv.kernels.Lanes.F;
import static io.github.tailorkv.kernels.Lanes.HALF_BITS;
import static io.github.tailorkv.kernels.Lanes.HALF_FACTOR;
import static io.github.tailorkv.kernels.Lanes.I;
import static io.github.tailorkv.kernels.Lanes.L;
import static io.github.tailorkv.kernels.Lanes.ORDER;
import static io.github.tailorkv.kernels.Lanes.S;
import static io.github.tailorkv.kernels.NativeMemory.ALL;
import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static jdk.incubator.vector.FloatVector.fromMemorySegment;
import static jdk.incubator.vector.VectorOperators.I2F;
import static jdk.incubator.vector.VectorOperators.LSHL;
import static jdk.incubator.vector.VectorOperators.LSHR;
import static jdk.incubator.vector.VectorOperators.LT;
import static jdk.incubator.vector.VectorOperators.S2I;
import static jdk.incubator.vector.VectorOperators.ZERO_EXTEND_B2I;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

import org.jspecify.annotations.Nullable;

import jdk.incubator.vector.ByteVector;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.ShortVector;

/**
 * Approximate scores from a few channels of an index panel, all its blocks in one call.
 *
 * <p>The arithmetic is that of {@link PackedProduct}: queries are multiplied by the scales first, the inner loop sees bare
 * codes, and the zero points make one number a block and query. What differs is the reach. A single block has so little
 * work with 16 channels that preparing it took longer than doing it; the parameters of a channel lie side by side for all
 * blocks of a panel, so here a vector prepares L blocks at once, and the codes of a channel are read in runs that the
 * hardware fetches ahead of their use. The longer the run the faster: with 16 channels of 64 a core reads 4 GB/s in runs of
 * 256 bytes, 6 in 512, 8 in 1,024, 10 in 2,048 and 23 without gaps.
 *
 * <p>Queries go through in fours, a last one or two or three of them with zeros beside them: the codes are widened and
 * converted once for all. Those of 4 bits, which retrieval lives on, have a class of their own, {@link NibbleProduct}.
 */
final class IndexProduct {

    private static final int ROWS = 4;
    /** Bytes of a row of scores of a block. */
    private static final int ROW = BLOCK * Float.BYTES;
    private IndexProduct() {}

    /** Memory of one thread. */
    private static final class Scratch {
        private static final ThreadLocal<Scratch> OF_THREAD = ThreadLocal.withInitial(Scratch::new);

        /** Queries times scales of L blocks, {@code [depth][ROWS][L]}. */
        private float[] a = new float[64 * ROWS * L];
        /** Bytes from the first channel of the panel to each that takes part. */
        private int[] offsets = new int[64];
        /** What the scores of each block begin with, {@code [ROWS][L]}. */
        private final float[] bias = new float[ROWS * L];
        /** The queries' part in the channels that take part, {@code [depth][ROWS]}; zeros where there are fewer rows. */
        private float[] queries = new float[64 * ROWS];
        /** What is added to all scores of a row. */
        private final float[] shifts = new float[ROWS];
        /** Scores of one block on their way to ranks. */
        private final MemorySegment scores = Arena.ofAuto().allocate(ROWS * (long) ROW, LINE);
        private final NibbleProduct nibbles = new NibbleProduct();
        /** Keeps the compiler from dropping loads whose values nobody needs. */
        @SuppressWarnings("unused")
        private int touched;

        private static Scratch of(int depth) {
            Scratch scratch = OF_THREAD.get();
            if (scratch.offsets.length < depth) {
                scratch.a = new float[depth * ROWS * L];
                scratch.offsets = new int[depth];
                scratch.queries = new float[depth * ROWS];
            }
            return scratch;
        }
    }

    /**
     * Scores of the blocks {@code [from, to)} of a panel.
     *
     * @param taken channels that take part, the first {@code depth} entries
     * @param s scores of block {@code from}, {@code float[to - from][rows][64]}
     */
    static void scores(
            long panel, int from, int to, int bits, int headSize, int[] taken, int depth,
            long q, long qStride, int rows, long s) {
        products(panel, from, to, bits, headSize, taken, depth, q, qStride, rows, null, s);
    }

    /**
     * Ranks of the blocks {@code [from, to)} of a panel: the largest score of a token in any row, less the row's
     * {@code logSums}.
     *
     * @param rank ranks of block {@code from}, {@code float[to - from][64]}
     */
    static void ranks(
            long panel, int from, int to, int bits, int headSize, int[] taken, int depth,
            long q, long qStride, int rows, float[] logSums, long rank) {
        products(panel, from, to, bits, headSize, taken, depth, q, qStride, rows, logSums, rank);
    }

    /** Scores, or with {@code logSums} ranks. */
    private static void products(
            long panel, int from, int to, int bits, int headSize, int[] taken, int depth,
            long q, long qStride, int rows, float @Nullable [] logSums, long target) {
        Scratch scratch = prepare(panel, from, to, bits, headSize, taken, depth);
        long scores = scratch.scores.address();
        for (int r = 0; r < rows; r += ROWS) {
            int count = Math.min(ROWS, rows - r);
            for (int i = 0; i < count; i++) {
                scratch.shifts[i] = logSums == null ? 0 : -logSums[r + i];
            }
            queries(scratch, taken, depth, q + r * qStride, qStride, count);
            for (int block = from; block < to; block++) {
                if (block == from || block % L == 0) {
                    int first = block / L * L;
                    if (bits == 4) {
                        scratch.nibbles.prepare(
                                panel, first, headSize, taken, depth, scratch.queries, scratch.shifts);
                    } else {
                        fold(scratch, panel, first, bits, headSize, taken, depth);
                    }
                }
                if (logSums == null) {
                    long row = (long) (block - from) * rows + r;
                    multiply(scratch, panel, block, bits, depth, count, target + row * ROW);
                } else {
                    long rank = target + (long) (block - from) * ROW;
                    if (bits == 4 && count == ROWS && r == 0) {
                        long codes = panel + (long) block * rowBytes(bits, BLOCK);
                        scratch.nibbles.largest(block % L, codes, scratch.offsets, depth, rank);
                    } else {
                        multiply(scratch, panel, block, bits, depth, count, scores);
                        largest(scores, count, r > 0, rank);
                    }
                }
            }
        }
    }

    private static Scratch prepare(long panel, int from, int to, int bits, int headSize, int[] taken, int depth) {
        Scratch scratch = Scratch.of(depth);
        int rowBytes = rowBytes(bits, BLOCK);
        int stride = BlockLayout.panelStride(bits);
        for (int i = 0; i < depth; i++) {
            scratch.offsets[i] = taken[i] * stride;
        }
        long scales = panel + BlockLayout.panelScales(bits, headSize) + (long) from * HALF;
        long zeros = panel + BlockLayout.panelZeros(bits, headSize) + (long) from * HALF;
        scratch.touched = touch(panel + (long) from * rowBytes, (to - from) * rowBytes, taken, depth, stride)
                + touch(scales, (to - from) * HALF, taken, depth, PANEL * HALF)
                + touch(zeros, (to - from) * HALF, taken, depth, PANEL * HALF);
        return scratch;
    }

    /** Writes {@code count} rows of scores of a block, whose L blocks are prepared. */
    private static void multiply(
            Scratch scratch, long panel, int block, int bits, int depth, int count, long target) {
        int rowBytes = rowBytes(bits, BLOCK);
        long codes = panel + (long) block * rowBytes;
        int lane = block % L;
        if (bits == 4) {
            scratch.nibbles.scores(lane, codes, scratch.offsets, depth, count, target);
        } else if (count == 1) {
            for (int column = 0; column < BLOCK; column += L) {
                oneRow(scratch, lane, depth, codes, bits, column, target);
            }
        } else if (bits == 2) {
            for (int stripe = 0; stripe < rowBytes; stripe += L) {
                crumbs(scratch, lane, depth, codes + stripe, count, target + (long) stripe * Float.BYTES);
            }
        } else {
            for (int column = 0; column < BLOCK; column += L) {
                codes(scratch, lane, depth, codes, bits, column, count, target);
            }
        }
    }

    /** The largest of {@code rows} scores of each token of a block, and of what is there already if it is to be {@code kept}. */
    private static void largest(long scores, int rows, boolean kept, long rank) {
        long from = NativeMemory.base(scores);
        long to = NativeMemory.base(rank);
        for (int t = 0; t < ROW; t += Float.BYTES * L) {
            FloatVector best = fromMemorySegment(F, ALL, NativeMemory.at(from, t), ORDER);
            for (int r = 1; r < rows; r++) {
                FloatVector x = fromMemorySegment(F, ALL, NativeMemory.at(from, t + r * ROW), ORDER);
                best = best.blend(x, best.compare(LT, x));
            }
            if (kept) {
                FloatVector x = fromMemorySegment(F, ALL, NativeMemory.at(to, t), ORDER);
                best = best.blend(x, best.compare(LT, x));
            }
            best.intoMemorySegment(ALL, NativeMemory.at(to, t), ORDER);
        }
    }

    /**
     * Asks for {@code bytes} of each channel before the first is used. The channels are too many for the hardware to see that
     * each is read from one end to the other, and with arithmetic between them the misses would pass a few at a time. By
     * turns, because what it fetches ahead of one channel is on its way while the others are asked for.
     */
    private static int touch(long start, int bytes, int[] taken, int depth, int stride) {
        int sum = 0;
        long base = NativeMemory.base(start);
        for (int at = 0; at < bytes; at += LINE) {
            for (int i = 0; i < depth; i++) {
                sum += ALL.get(JAVA_BYTE, NativeMemory.at(base, taken[i] * stride + at));
            }
        }
        return sum;
    }

    /** Brings the queries of up to four rows together, channel by channel. */
    private static void queries(Scratch scratch, int[] taken, int depth, long q, long qStride, int rows) {
        float[] queries = scratch.queries;
        for (int i = 0; i < depth; i++) {
            for (int r = 0; r < ROWS; r++) {
                queries[i * ROWS + r] = r < rows ? Lanes.scalar(q + r * qStride + taken[i] * 4L) : 0;
            }
        }
    }

    /**
     * Products of all queries and scales, and the sums of queries times zero points, for the L blocks of the panel from
     * {@code first} on.
     */
    private static void fold(
            Scratch scratch, long panel, int first, int bits, int headSize, int[] taken, int depth) {
        float[] a = scratch.a;
        float[] bias = scratch.bias;
        float[] queries = scratch.queries;
        float[] shifts = scratch.shifts;
        long scaleBase = NativeMemory.base(panel + BlockLayout.panelScales(bits, headSize));
        long zeroBase = NativeMemory.base(panel + BlockLayout.panelZeros(bits, headSize));
        FloatVector bias0 = FloatVector.broadcast(F, shifts[0]);
        FloatVector bias1 = FloatVector.broadcast(F, shifts[1]);
        FloatVector bias2 = FloatVector.broadcast(F, shifts[2]);
        FloatVector bias3 = FloatVector.broadcast(F, shifts[3]);
        for (int i = 0; i < depth; i++) {
            int half = (taken[i] * PANEL + first) * HALF;
            FloatVector scale = ((IntVector) ShortVector
                    .fromMemorySegment(S, ALL, NativeMemory.at(scaleBase, half), ORDER).convertShape(S2I, I, 0))
                    .lanewise(LSHL, 13).and(HALF_BITS).reinterpretAsFloats().mul(HALF_FACTOR);
            FloatVector zero = ((IntVector) ShortVector
                    .fromMemorySegment(S, ALL, NativeMemory.at(zeroBase, half), ORDER).convertShape(S2I, I, 0))
                    .lanewise(LSHL, 13).and(HALF_BITS).reinterpretAsFloats().mul(HALF_FACTOR);
            int target = i * ROWS * L;
            FloatVector x = FloatVector.broadcast(F, queries[i * ROWS]);
            scale.mul(x).intoArray(a, target);
            bias0 = zero.fma(x, bias0);
            x = FloatVector.broadcast(F, queries[i * ROWS + 1]);
            scale.mul(x).intoArray(a, target + L);
            bias1 = zero.fma(x, bias1);
            x = FloatVector.broadcast(F, queries[i * ROWS + 2]);
            scale.mul(x).intoArray(a, target + 2 * L);
            bias2 = zero.fma(x, bias2);
            x = FloatVector.broadcast(F, queries[i * ROWS + 3]);
            scale.mul(x).intoArray(a, target + 3 * L);
            bias3 = zero.fma(x, bias3);
        }
        bias0.intoArray(bias, 0);
        bias1.intoArray(bias, L);
        bias2.intoArray(bias, 2 * L);
        bias3.intoArray(bias, 3 * L);
    }

    /** Four rows of scores of four times L tokens, whose codes of two bits share the same bytes. */
    private static void crumbs(
            Scratch scratch, int lane, int depth, long stripe, int rows, long s) {
        float[] a = scratch.a;
        float[] bias = scratch.bias;
        FloatVector sum00 = FloatVector.broadcast(F, bias[lane]);
        FloatVector sum01 = sum00;
        FloatVector sum02 = sum00;
        FloatVector sum03 = sum00;
        FloatVector sum10 = FloatVector.broadcast(F, bias[L + lane]);
        FloatVector sum11 = sum10;
        FloatVector sum12 = sum10;
        FloatVector sum13 = sum10;
        FloatVector sum20 = FloatVector.broadcast(F, bias[2 * L + lane]);
        FloatVector sum21 = sum20;
        FloatVector sum22 = sum20;
        FloatVector sum23 = sum20;
        FloatVector sum30 = FloatVector.broadcast(F, bias[3 * L + lane]);
        FloatVector sum31 = sum30;
        FloatVector sum32 = sum30;
        FloatVector sum33 = sum30;
        for (int i = 0; i < depth; i++) {
            IntVector bytes = (IntVector) ByteVector.fromMemorySegment(B, ALL, stripe + scratch.offsets[i], ORDER)
                    .convertShape(ZERO_EXTEND_B2I, I, 0);
            FloatVector code0 = (FloatVector) bytes.and(3).convert(I2F, 0);
            FloatVector code1 = (FloatVector) bytes.lanewise(LSHR, 2).and(3).convert(I2F, 0);
            FloatVector code2 = (FloatVector) bytes.lanewise(LSHR, 4).and(3).convert(I2F, 0);
            FloatVector code3 = (FloatVector) bytes.lanewise(LSHR, 6).convert(I2F, 0);
            int at = i * ROWS * L + lane;
            FloatVector x = FloatVector.broadcast(F, a[at]);
            sum00 = code0.fma(x, sum00);
            sum01 = code1.fma(x, sum01);
            sum02 = code2.fma(x, sum02);
            sum03 = code3.fma(x, sum03);
            x = FloatVector.broadcast(F, a[at + L]);
            sum10 = code0.fma(x, sum10);
            sum11 = code1.fma(x, sum11);
            sum12 = code2.fma(x, sum12);
            sum13 = code3.fma(x, sum13);
            x = FloatVector.broadcast(F, a[at + 2 * L]);
            sum20 = code0.fma(x, sum20);
            sum21 = code1.fma(x, sum21);
            sum22 = code2.fma(x, sum22);
            sum23 = code3.fma(x, sum23);
            x = FloatVector.broadcast(F, a[at + 3 * L]);
            sum30 = code0.fma(x, sum30);
            sum31 = code1.fma(x, sum31);
            sum32 = code2.fma(x, sum32);
            sum33 = code3.fma(x, sum33);
        }
        long row = BLOCK * (long) Float.BYTES;
        long next = UNIT * (long) Float.BYTES;
        sum00.intoMemorySegment(ALL, s, ORDER);
        sum01.intoMemorySegment(ALL, s + next, ORDER);
        sum02.intoMemorySegment(ALL, s + 2 * next, ORDER);
        sum03.intoMemorySegment(ALL, s + 3 * next, ORDER);
        sum10.intoMemorySegment(ALL, s + row, ORDER);
        sum11.intoMemorySegment(ALL, s + row + next, ORDER);
        sum12.intoMemorySegment(ALL, s + row + 2 * next, ORDER);
        sum13.intoMemorySegment(ALL, s + row + 3 * next, ORDER);
        if (rows > 2) {
            sum20.intoMemorySegment(ALL, s + 2 * row, ORDER);
            sum21.intoMemorySegment(ALL, s + 2 * row + next, ORDER);
            sum22.intoMemorySegment(ALL, s + 2 * row + 2 * next, ORDER);
            sum23.intoMemorySegment(ALL, s + 2 * row + 3 * next, ORDER);
        }
        if (rows > 3) {
            sum30.intoMemorySegment(ALL, s + 3 * row, ORDER);
            sum31.intoMemorySegment(ALL, s + 3 * row + next, ORDER);
            sum32.intoMemorySegment(ALL, s + 3 * row + 2 * next, ORDER);
            sum33.intoMemorySegment(ALL, s + 3 * row + 3 * next, ORDER);
        }
    }

    /** Four rows of scores of L tokens, codes of any precision. */
    private static void codes(
            Scratch scratch, int lane, int depth, long codes, int bits, int column, int rows, long s) {
        float[] a = scratch.a;
        float[] bias = scratch.bias;
        long stripe = codes + BlockLayout.codeByte(bits, column);
        int shift = BlockLayout.codeShift(bits, column);
        int mask = BlockLayout.maxCode(bits);
        FloatVector sum0 = FloatVector.broadcast(F, bias[lane]);
        FloatVector sum1 = FloatVector.broadcast(F, bias[L + lane]);
        FloatVector sum2 = FloatVector.broadcast(F, bias[2 * L + lane]);
        FloatVector sum3 = FloatVector.broadcast(F, bias[3 * L + lane]);
        for (int i = 0; i < depth; i++) {
            IntVector bytes = (IntVector) ByteVector.fromMemorySegment(B, ALL, stripe + scratch.offsets[i], ORDER)
                    .convertShape(ZERO_EXTEND_B2I, I, 0);
            FloatVector code = (FloatVector) bytes.lanewise(LSHR, shift).and(mask).convert(I2F, 0);
            int at = i * ROWS * L + lane;
            sum0 = code.fma(FloatVector.broadcast(F, a[at]), sum0);
            sum1 = code.fma(FloatVector.broadcast(F, a[at + L]), sum1);
            sum2 = code.fma(FloatVector.broadcast(F, a[at + 2 * L]), sum2);
            sum3 = code.fma(FloatVector.broadcast(F, a[at + 3 * L]), sum3);
        }
        long row = BLOCK * (long) Float.BYTES;
        long target = s + column * (long) Float.BYTES;
        sum0.intoMemorySegment(ALL, target, ORDER);
        sum1.intoMemorySegment(ALL, target + row, ORDER);
        if (rows > 2) {
            sum2.intoMemorySegment(ALL, target + 2 * row, ORDER);
        }
        if (rows > 3) {
            sum3.intoMemorySegment(ALL, target + 3 * row, ORDER);
        }
    }

    private static void oneRow(
            Scratch scratch, int lane, int depth, long codes, int bits, int column, long s) {
        float[] a = scratch.a;
        long stripe = codes + BlockLayout.codeByte(bits, column);
        int shift = BlockLayout.codeShift(bits, column);
        int mask = BlockLayout.maxCode(bits);
        FloatVector sum = FloatVector.broadcast(F, scratch.bias[lane]);
        for (int i = 0; i < depth; i++) {
            IntVector bytes = (IntVector) ByteVector.fromMemorySegment(B, ALL, stripe + scratch.offsets[i], ORDER)
                    .convertShape(ZERO_EXTEND_B2I, I, 0);
            FloatVector code = (FloatVector) bytes.lanewise(LSHR, shift).and(mask).convert(I2F, 0);
            sum = code.fma(FloatVector.broadcast(F, a[i * ROWS * L + lane]), sum);
        }
        sum.intoMemorySegment(ALL, s + column * (long) Float.BYTES, ORDER);
    }
}
