package io.github.tailorkv.kernels;

import static io.github.tailorkv.kernels.BlockLayout.BLOCK;
import static io.github.tailorkv.kernels.BlockLayout.GROUP;
import static io.github.tailorkv.kernels.BlockLayout.HALF;
import static io.github.tailorkv.kernels.Lanes.B;
import static io.github.tailorkv.kernels.Lanes.F;
import static io.github.tailorkv.kernels.Lanes.HALF_BITS;
import static io.github.tailorkv.kernels.Lanes.HALF_FACTOR;
import static io.github.tailorkv.kernels.Lanes.I;
import static io.github.tailorkv.kernels.Lanes.L;
import static io.github.tailorkv.kernels.Lanes.ORDER;
import static io.github.tailorkv.kernels.Lanes.WIDE;
import static io.github.tailorkv.kernels.Lanes.scalar;
import static io.github.tailorkv.kernels.Lanes.store;
import static io.github.tailorkv.kernels.NativeMemory.ALL;
import static io.github.tailorkv.kernels.NibbleProduct.LOW_HALF;
import static java.lang.foreign.ValueLayout.JAVA_SHORT_UNALIGNED;
import static jdk.incubator.vector.FloatVector.fromMemorySegment;
import static jdk.incubator.vector.VectorOperators.ADD;
import static jdk.incubator.vector.VectorOperators.ASHR;
import static jdk.incubator.vector.VectorOperators.I2F;
import static jdk.incubator.vector.VectorOperators.LSHL;
import static jdk.incubator.vector.VectorOperators.ZERO_EXTEND_B2I;

import java.util.Arrays;

import jdk.incubator.vector.ByteVector;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;

/**
 * Scores and weighted sums of tokens straight from their records of 8 bits, wherever they lie; see {@link TokenRecords}.
 *
 * <p>An element is {@code zero + scale * code}, where both belong to a token and a group of 64 channels. So a group's part
 * of a score is {@code scale * (q . codes) + zero * sum(q)}, and its part of an output is
 * {@code sum_t (p_t scale_t) code_t + sum_t p_t zero_t}: parameters touch what is one number for a token or a row, and the
 * loops over channels see bare codes. Parameters, products and scaled weights lie in scratch memory, token by token; in an
 * array, for the compiler cuts a loop in two when it has to prove a long offset that grows with the token.
 *
 * <p>A loop runs over the tokens for a panel of four vectors of channels and up to four rows. The sixteen vectors that do
 * not depend on the token, of queries or of sums, stay in registers (where there are only 16, queries are read from the
 * stack, and two rows of sums are as many as fit). A panel with fewer vectors and a group with fewer rows run through the
 * same loop: what is missing is the first vector or the last row once more, which counts for nothing in a score, where
 * queries are multiplied by 0 or the result goes nowhere, and in a sum writes the same number twice.
 *
 * <p>An object is the memory of one thread.
 */
final class RecordProduct {

    private static final int PANEL = 4 * L;

    /** Where things lie in scratch memory: scales at 0, zero points, products or weights of four rows, one number a row. */
    private static final int ZEROS = BLOCK;
    private static final int ROWS = 2 * BLOCK;
    private static final int BIAS = 6 * BLOCK;
    /**
     * Vectors that add up to the products of four rows, {@code [2][64][4][L]}, where a group takes up to two panels: those of
     * the first, those of the second.
     */
    private static final int PARTS = BIAS + 4;
    private static final int PART = 4 * L;
    /** From a vector of the first panel to that of the second. */
    private static final int SECOND = BLOCK * PART;

    private static final ThreadLocal<RecordProduct> OF_THREAD = ThreadLocal.withInitial(RecordProduct::new);

    private final float[] scratch = new float[PARTS + 2 * SECOND];
    /** Scale and zero point of each record, both halves in one. */
    private final int[] fields = new int[BLOCK];

    private RecordProduct() {}

    // ---- scores

    /** Writes the scores of {@code count} records; strides are the bytes from row to row. */
    static void scores(
            long[] records, int count, int headSize, long q, long qStride, int rows, long s, long sStride) {
        RecordProduct memory = OF_THREAD.get();
        float[] scratch = memory.scratch;
        int groups = BlockLayout.groups(headSize);
        int fields = 2 * BlockLayout.recordCodes(8, headSize);
        for (int g = 0; g < groups; g++) {
            memory.parameters(records, count, fields + (long) g * HALF, groups * HALF);
            int first = g * GROUP;
            int end = Math.min(headSize, first + GROUP);
            for (int r = 0; r < rows; r += 4) {
                int last = Math.min(3, rows - r - 1);
                long queries = q + r * qStride;
                boolean inParts = !WIDE && last > 1;
                if (!inParts) {
                    Arrays.fill(scratch, ROWS, BIAS, 0);
                } else if (end - first <= PANEL) {
                    Arrays.fill(scratch, PARTS + SECOND, PARTS + SECOND + count * PART, 0);
                }
                for (int c = first; c < end; c += PANEL) {
                    int vectors = Math.min(4, (end - c) / L);
                    if (last > 1) {
                        int parts = c == first ? PARTS : PARTS + SECOND;
                        fourDots(records, count, c, vectors, queries + c * 4L, qStride, last, scratch, parts);
                    } else {
                        twoDots(records, count, c, vectors, queries + c * 4L, qStride, last, scratch);
                    }
                }
                if (inParts) {
                    sumParts(scratch, count);
                }
                for (int i = 0; i <= last; i++) {
                    float sum = sum(queries + i * qStride + first * 4L, end - first);
                    unfold(scratch, ROWS + i * BLOCK, count, sum, g == 0, s + (r + i) * sStride);
                }
            }
        }
    }

    /** Reads scale and zero point of a group, {@code distance} bytes apart, from each record; see {@link Lanes#halves}. */
    private void parameters(long[] records, int count, long scale, int distance) {
        for (int t = 0; t < count; t++) {
            long field = NativeMemory.base(records[t] + scale);
            fields[t] = (ALL.get(JAVA_SHORT_UNALIGNED, field) & LOW_HALF)
                    | (ALL.get(JAVA_SHORT_UNALIGNED, NativeMemory.at(field, distance)) << Short.SIZE);
        }
        for (int t = 0; t < count; t += L) {
            IntVector x = IntVector.fromArray(I, fields, t);
            x.lanewise(LSHL, Short.SIZE).lanewise(ASHR, 3).and(HALF_BITS).reinterpretAsFloats().mul(HALF_FACTOR)
                    .intoArray(scratch, t);
            x.lanewise(ASHR, 3).and(HALF_BITS).reinterpretAsFloats().mul(HALF_FACTOR).intoArray(scratch, ZEROS + t);
        }
    }

    private static float sum(long x, int count) {
        FloatVector sum = FloatVector.zero(F);
        for (int i = 0; i < count; i += L) {
            sum = sum.add(fromMemorySegment(F, ALL, x + i * 4L, ORDER));
        }
        return sum.reduceLanes(ADD);
    }

    /** Makes scores of products with codes. */
    private static void unfold(float[] scratch, int dots, int count, float sum, boolean first, long s) {
        int t = 0;
        for (; t + L <= count; t += L) {
            FloatVector x = FloatVector.fromArray(F, scratch, dots + t).mul(FloatVector.fromArray(F, scratch, t));
            x = FloatVector.fromArray(F, scratch, ZEROS + t).fma(FloatVector.broadcast(F, sum), x);
            if (!first) {
                x = x.add(fromMemorySegment(F, ALL, s + t * 4L, ORDER));
            }
            x.intoMemorySegment(ALL, s + t * 4L, ORDER);
        }
        for (; t < count; t++) {
            float x = scratch[dots + t] * scratch[t] + scratch[ZEROS + t] * sum;
            store(s + t * 4L, first ? x : x + scalar(s + t * 4L));
        }
    }

    private static void fourDots(
            long[] records, int count, long codes, int vectors, long q, long qStride, int last, float[] scratch,
            int parts) {
        long o1 = vectors > 1 ? L : 0;
        long o2 = vectors > 2 ? 2 * L : 0;
        long o3 = vectors > 3 ? 3 * L : 0;
        float f1 = vectors > 1 ? 1 : 0;
        float f2 = vectors > 2 ? 1 : 0;
        float f3 = vectors > 3 ? 1 : 0;
        long q1 = q + Math.min(1, last) * qStride;
        long q2 = q + Math.min(2, last) * qStride;
        long q3 = q + Math.min(3, last) * qStride;
        FloatVector q00 = fromMemorySegment(F, ALL, q, ORDER);
        FloatVector q01 = fromMemorySegment(F, ALL, q + 4 * o1, ORDER).mul(f1);
        FloatVector q02 = fromMemorySegment(F, ALL, q + 4 * o2, ORDER).mul(f2);
        FloatVector q03 = fromMemorySegment(F, ALL, q + 4 * o3, ORDER).mul(f3);
        FloatVector q10 = fromMemorySegment(F, ALL, q1, ORDER);
        FloatVector q11 = fromMemorySegment(F, ALL, q1 + 4 * o1, ORDER).mul(f1);
        FloatVector q12 = fromMemorySegment(F, ALL, q1 + 4 * o2, ORDER).mul(f2);
        FloatVector q13 = fromMemorySegment(F, ALL, q1 + 4 * o3, ORDER).mul(f3);
        FloatVector q20 = fromMemorySegment(F, ALL, q2, ORDER);
        FloatVector q21 = fromMemorySegment(F, ALL, q2 + 4 * o1, ORDER).mul(f1);
        FloatVector q22 = fromMemorySegment(F, ALL, q2 + 4 * o2, ORDER).mul(f2);
        FloatVector q23 = fromMemorySegment(F, ALL, q2 + 4 * o3, ORDER).mul(f3);
        FloatVector q30 = fromMemorySegment(F, ALL, q3, ORDER);
        FloatVector q31 = fromMemorySegment(F, ALL, q3 + 4 * o1, ORDER).mul(f1);
        FloatVector q32 = fromMemorySegment(F, ALL, q3 + 4 * o2, ORDER).mul(f2);
        FloatVector q33 = fromMemorySegment(F, ALL, q3 + 4 * o3, ORDER).mul(f3);
        for (int t = 0; t < count; t++) {
            long at = NativeMemory.base(records[t] + codes);
            FloatVector k0 = (FloatVector) ((IntVector) ByteVector.fromMemorySegment(B, ALL, at, ORDER)
                    .convertShape(ZERO_EXTEND_B2I, I, 0)).convert(I2F, 0);
            FloatVector k1 = (FloatVector) ((IntVector) ByteVector.fromMemorySegment(B, ALL, at + o1, ORDER)
                    .convertShape(ZERO_EXTEND_B2I, I, 0)).convert(I2F, 0);
            FloatVector k2 = (FloatVector) ((IntVector) ByteVector.fromMemorySegment(B, ALL, at + o2, ORDER)
                    .convertShape(ZERO_EXTEND_B2I, I, 0)).convert(I2F, 0);
            FloatVector k3 = (FloatVector) ((IntVector) ByteVector.fromMemorySegment(B, ALL, at + o3, ORDER)
                    .convertShape(ZERO_EXTEND_B2I, I, 0)).convert(I2F, 0);
            FloatVector s0 = k3.fma(q03, k2.fma(q02, k1.fma(q01, k0.mul(q00))));
            FloatVector s1 = k3.fma(q13, k2.fma(q12, k1.fma(q11, k0.mul(q10))));
            FloatVector s2 = k3.fma(q23, k2.fma(q22, k1.fma(q21, k0.mul(q20))));
            FloatVector s3 = k3.fma(q33, k2.fma(q32, k1.fma(q31, k0.mul(q30))));
            if (WIDE) {
                scratch[ROWS + t] += s0.reduceLanes(ADD);
                scratch[ROWS + BLOCK + t] += s1.reduceLanes(ADD);
                scratch[ROWS + 2 * BLOCK + t] += s2.reduceLanes(ADD);
                scratch[ROWS + 3 * BLOCK + t] += s3.reduceLanes(ADD);
            } else {
                int to = parts + t * PART;
                s0.intoArray(scratch, to);
                s1.intoArray(scratch, to + L);
                s2.intoArray(scratch, to + 2 * L);
                s3.intoArray(scratch, to + 3 * L);
            }
        }
    }

    /** In a loop of its own: behind multiplications that it has to wait for, summing lanes would fill the processor's window. */
    private static void sumParts(float[] scratch, int count) {
        for (int t = 0; t < count; t++) {
            int at = PARTS + t * PART;
            scratch[ROWS + t] = FloatVector.fromArray(F, scratch, at)
                    .add(FloatVector.fromArray(F, scratch, at + SECOND)).reduceLanes(ADD);
            scratch[ROWS + BLOCK + t] = FloatVector.fromArray(F, scratch, at + L)
                    .add(FloatVector.fromArray(F, scratch, at + SECOND + L)).reduceLanes(ADD);
            scratch[ROWS + 2 * BLOCK + t] = FloatVector.fromArray(F, scratch, at + 2 * L)
                    .add(FloatVector.fromArray(F, scratch, at + SECOND + 2 * L)).reduceLanes(ADD);
            scratch[ROWS + 3 * BLOCK + t] = FloatVector.fromArray(F, scratch, at + 3 * L)
                    .add(FloatVector.fromArray(F, scratch, at + SECOND + 3 * L)).reduceLanes(ADD);
        }
    }

    private static void twoDots(
            long[] records, int count, long codes, int vectors, long q, long qStride, int last, float[] scratch) {
        long o1 = vectors > 1 ? L : 0;
        long o2 = vectors > 2 ? 2 * L : 0;
        long o3 = vectors > 3 ? 3 * L : 0;
        float f1 = vectors > 1 ? 1 : 0;
        float f2 = vectors > 2 ? 1 : 0;
        float f3 = vectors > 3 ? 1 : 0;
        long q1 = q + Math.min(1, last) * qStride;
        FloatVector q00 = fromMemorySegment(F, ALL, q, ORDER);
        FloatVector q01 = fromMemorySegment(F, ALL, q + 4 * o1, ORDER).mul(f1);
        FloatVector q02 = fromMemorySegment(F, ALL, q + 4 * o2, ORDER).mul(f2);
        FloatVector q03 = fromMemorySegment(F, ALL, q + 4 * o3, ORDER).mul(f3);
        FloatVector q10 = fromMemorySegment(F, ALL, q1, ORDER);
        FloatVector q11 = fromMemorySegment(F, ALL, q1 + 4 * o1, ORDER).mul(f1);
        FloatVector q12 = fromMemorySegment(F, ALL, q1 + 4 * o2, ORDER).mul(f2);
        FloatVector q13 = fromMemorySegment(F, ALL, q1 + 4 * o3, ORDER).mul(f3);
        for (int t = 0; t < count; t++) {
            long at = NativeMemory.base(records[t] + codes);
            FloatVector k0 = (FloatVector) ((IntVector) ByteVector.fromMemorySegment(B, ALL, at, ORDER)
                    .convertShape(ZERO_EXTEND_B2I, I, 0)).convert(I2F, 0);
            FloatVector k1 = (FloatVector) ((IntVector) ByteVector.fromMemorySegment(B, ALL, at + o1, ORDER)
                    .convertShape(ZERO_EXTEND_B2I, I, 0)).convert(I2F, 0);
            FloatVector k2 = (FloatVector) ((IntVector) ByteVector.fromMemorySegment(B, ALL, at + o2, ORDER)
                    .convertShape(ZERO_EXTEND_B2I, I, 0)).convert(I2F, 0);
            FloatVector k3 = (FloatVector) ((IntVector) ByteVector.fromMemorySegment(B, ALL, at + o3, ORDER)
                    .convertShape(ZERO_EXTEND_B2I, I, 0)).convert(I2F, 0);
            float s0 = k3.fma(q03, k2.fma(q02, k1.fma(q01, k0.mul(q00)))).reduceLanes(ADD);
            float s1 = k3.fma(q13, k2.fma(q12, k1.fma(q11, k0.mul(q10)))).reduceLanes(ADD);
            scratch[ROWS + t] += s0;
            scratch[ROWS + BLOCK + t] += s1;
        }
    }

    // ---- sums

    /** Adds the weighted values of {@code count} records to the sums; strides are the bytes from row to row. */
    static void accumulate(
            long[] records, int count, int headSize, long p, long pStride, int rows, long sums, long sumStride) {
        RecordProduct memory = OF_THREAD.get();
        float[] scratch = memory.scratch;
        int groups = BlockLayout.groups(headSize);
        int codes = BlockLayout.recordCodes(8, headSize);
        int fields = 2 * codes + BlockLayout.recordParameters(8, headSize);
        for (int g = 0; g < groups; g++) {
            memory.parameters(records, count, fields + (long) g * HALF, groups * HALF);
            int first = g * GROUP;
            int end = Math.min(headSize, first + GROUP);
            for (int r = 0; r < rows;) {
                boolean four = WIDE && rows - r > 2;
                int last = Math.min(four ? 3 : 1, rows - r - 1);
                for (int i = 0; i <= last; i++) {
                    scratch[BIAS + i] = fold(p + (r + i) * pStride, count, scratch, ROWS + i * BLOCK);
                }
                for (int c = first; c < end; c += PANEL) {
                    int vectors = Math.min(4, (end - c) / L);
                    long target = sums + r * sumStride + c * 4L;
                    if (four) {
                        fourSums(records, count, codes + c, vectors, last, scratch, target, sumStride);
                    } else {
                        twoSums(records, count, codes + c, vectors, last, scratch, target, sumStride);
                    }
                }
                r += last + 1;
            }
        }
    }

    /** Multiplies a row of weights by the scales and returns its product with the zero points. */
    private static float fold(long p, int count, float[] scratch, int weights) {
        FloatVector sum = FloatVector.zero(F);
        int t = 0;
        for (; t + L <= count; t += L) {
            FloatVector x = fromMemorySegment(F, ALL, p + t * 4L, ORDER);
            x.mul(FloatVector.fromArray(F, scratch, t)).intoArray(scratch, weights + t);
            sum = x.fma(FloatVector.fromArray(F, scratch, ZEROS + t), sum);
        }
        float bias = sum.reduceLanes(ADD);
        for (; t < count; t++) {
            float x = scalar(p + t * 4L);
            scratch[weights + t] = x * scratch[t];
            bias += x * scratch[ZEROS + t];
        }
        return bias;
    }

    private static void fourSums(
            long[] records, int count, long codes, int vectors, int last, float[] scratch, long c, long cStride) {
        long o1 = vectors > 1 ? L : 0;
        long o2 = vectors > 2 ? 2 * L : 0;
        long o3 = vectors > 3 ? 3 * L : 0;
        int r1 = Math.min(1, last);
        long c1 = c + r1 * cStride;
        int w1 = ROWS + r1 * BLOCK;
        int r2 = Math.min(2, last);
        long c2 = c + r2 * cStride;
        int w2 = ROWS + r2 * BLOCK;
        int r3 = Math.min(3, last);
        long c3 = c + r3 * cStride;
        int w3 = ROWS + r3 * BLOCK;
        FloatVector x = FloatVector.broadcast(F, scratch[BIAS]);
        FloatVector c00 = fromMemorySegment(F, ALL, c, ORDER).add(x);
        FloatVector c01 = fromMemorySegment(F, ALL, c + 4 * o1, ORDER).add(x);
        FloatVector c02 = fromMemorySegment(F, ALL, c + 4 * o2, ORDER).add(x);
        FloatVector c03 = fromMemorySegment(F, ALL, c + 4 * o3, ORDER).add(x);
        x = FloatVector.broadcast(F, scratch[BIAS + r1]);
        FloatVector c10 = fromMemorySegment(F, ALL, c1, ORDER).add(x);
        FloatVector c11 = fromMemorySegment(F, ALL, c1 + 4 * o1, ORDER).add(x);
        FloatVector c12 = fromMemorySegment(F, ALL, c1 + 4 * o2, ORDER).add(x);
        FloatVector c13 = fromMemorySegment(F, ALL, c1 + 4 * o3, ORDER).add(x);
        x = FloatVector.broadcast(F, scratch[BIAS + r2]);
        FloatVector c20 = fromMemorySegment(F, ALL, c2, ORDER).add(x);
        FloatVector c21 = fromMemorySegment(F, ALL, c2 + 4 * o1, ORDER).add(x);
        FloatVector c22 = fromMemorySegment(F, ALL, c2 + 4 * o2, ORDER).add(x);
        FloatVector c23 = fromMemorySegment(F, ALL, c2 + 4 * o3, ORDER).add(x);
        x = FloatVector.broadcast(F, scratch[BIAS + r3]);
        FloatVector c30 = fromMemorySegment(F, ALL, c3, ORDER).add(x);
        FloatVector c31 = fromMemorySegment(F, ALL, c3 + 4 * o1, ORDER).add(x);
        FloatVector c32 = fromMemorySegment(F, ALL, c3 + 4 * o2, ORDER).add(x);
        FloatVector c33 = fromMemorySegment(F, ALL, c3 + 4 * o3, ORDER).add(x);
        for (int t = 0; t < count; t++) {
            long at = NativeMemory.base(records[t] + codes);
            FloatVector v0 = (FloatVector) ((IntVector) ByteVector.fromMemorySegment(B, ALL, at, ORDER)
                    .convertShape(ZERO_EXTEND_B2I, I, 0)).convert(I2F, 0);
            FloatVector v1 = (FloatVector) ((IntVector) ByteVector.fromMemorySegment(B, ALL, at + o1, ORDER)
                    .convertShape(ZERO_EXTEND_B2I, I, 0)).convert(I2F, 0);
            FloatVector v2 = (FloatVector) ((IntVector) ByteVector.fromMemorySegment(B, ALL, at + o2, ORDER)
                    .convertShape(ZERO_EXTEND_B2I, I, 0)).convert(I2F, 0);
            FloatVector v3 = (FloatVector) ((IntVector) ByteVector.fromMemorySegment(B, ALL, at + o3, ORDER)
                    .convertShape(ZERO_EXTEND_B2I, I, 0)).convert(I2F, 0);
            x = FloatVector.broadcast(F, scratch[ROWS + t]);
            c00 = v0.fma(x, c00);
            c01 = v1.fma(x, c01);
            c02 = v2.fma(x, c02);
            c03 = v3.fma(x, c03);
            x = FloatVector.broadcast(F, scratch[w1 + t]);
            c10 = v0.fma(x, c10);
            c11 = v1.fma(x, c11);
            c12 = v2.fma(x, c12);
            c13 = v3.fma(x, c13);
            x = FloatVector.broadcast(F, scratch[w2 + t]);
            c20 = v0.fma(x, c20);
            c21 = v1.fma(x, c21);
            c22 = v2.fma(x, c22);
            c23 = v3.fma(x, c23);
            x = FloatVector.broadcast(F, scratch[w3 + t]);
            c30 = v0.fma(x, c30);
            c31 = v1.fma(x, c31);
            c32 = v2.fma(x, c32);
            c33 = v3.fma(x, c33);
        }
        c00.intoMemorySegment(ALL, c, ORDER);
        c01.intoMemorySegment(ALL, c + 4 * o1, ORDER);
        c02.intoMemorySegment(ALL, c + 4 * o2, ORDER);
        c03.intoMemorySegment(ALL, c + 4 * o3, ORDER);
        c10.intoMemorySegment(ALL, c1, ORDER);
        c11.intoMemorySegment(ALL, c1 + 4 * o1, ORDER);
        c12.intoMemorySegment(ALL, c1 + 4 * o2, ORDER);
        c13.intoMemorySegment(ALL, c1 + 4 * o3, ORDER);
        c20.intoMemorySegment(ALL, c2, ORDER);
        c21.intoMemorySegment(ALL, c2 + 4 * o1, ORDER);
        c22.intoMemorySegment(ALL, c2 + 4 * o2, ORDER);
        c23.intoMemorySegment(ALL, c2 + 4 * o3, ORDER);
        c30.intoMemorySegment(ALL, c3, ORDER);
        c31.intoMemorySegment(ALL, c3 + 4 * o1, ORDER);
        c32.intoMemorySegment(ALL, c3 + 4 * o2, ORDER);
        c33.intoMemorySegment(ALL, c3 + 4 * o3, ORDER);
    }

    private static void twoSums(
            long[] records, int count, long codes, int vectors, int last, float[] scratch, long c, long cStride) {
        long o1 = vectors > 1 ? L : 0;
        long o2 = vectors > 2 ? 2 * L : 0;
        long o3 = vectors > 3 ? 3 * L : 0;
        int r1 = Math.min(1, last);
        long c1 = c + r1 * cStride;
        int w1 = ROWS + r1 * BLOCK;
        FloatVector x = FloatVector.broadcast(F, scratch[BIAS]);
        FloatVector c00 = fromMemorySegment(F, ALL, c, ORDER).add(x);
        FloatVector c01 = fromMemorySegment(F, ALL, c + 4 * o1, ORDER).add(x);
        FloatVector c02 = fromMemorySegment(F, ALL, c + 4 * o2, ORDER).add(x);
        FloatVector c03 = fromMemorySegment(F, ALL, c + 4 * o3, ORDER).add(x);
        x = FloatVector.broadcast(F, scratch[BIAS + r1]);
        FloatVector c10 = fromMemorySegment(F, ALL, c1, ORDER).add(x);
        FloatVector c11 = fromMemorySegment(F, ALL, c1 + 4 * o1, ORDER).add(x);
        FloatVector c12 = fromMemorySegment(F, ALL, c1 + 4 * o2, ORDER).add(x);
        FloatVector c13 = fromMemorySegment(F, ALL, c1 + 4 * o3, ORDER).add(x);
        for (int t = 0; t < count; t++) {
            long at = NativeMemory.base(records[t] + codes);
            FloatVector v0 = (FloatVector) ((IntVector) ByteVector.fromMemorySegment(B, ALL, at, ORDER)
                    .convertShape(ZERO_EXTEND_B2I, I, 0)).convert(I2F, 0);
            FloatVector v1 = (FloatVector) ((IntVector) ByteVector.fromMemorySegment(B, ALL, at + o1, ORDER)
                    .convertShape(ZERO_EXTEND_B2I, I, 0)).convert(I2F, 0);
            FloatVector v2 = (FloatVector) ((IntVector) ByteVector.fromMemorySegment(B, ALL, at + o2, ORDER)
                    .convertShape(ZERO_EXTEND_B2I, I, 0)).convert(I2F, 0);
            FloatVector v3 = (FloatVector) ((IntVector) ByteVector.fromMemorySegment(B, ALL, at + o3, ORDER)
                    .convertShape(ZERO_EXTEND_B2I, I, 0)).convert(I2F, 0);
            x = FloatVector.broadcast(F, scratch[ROWS + t]);
            c00 = v0.fma(x, c00);
            c01 = v1.fma(x, c01);
            c02 = v2.fma(x, c02);
            c03 = v3.fma(x, c03);
            x = FloatVector.broadcast(F, scratch[w1 + t]);
            c10 = v0.fma(x, c10);
            c11 = v1.fma(x, c11);
            c12 = v2.fma(x, c12);
            c13 = v3.fma(x, c13);
        }
        c00.intoMemorySegment(ALL, c, ORDER);
        c01.intoMemorySegment(ALL, c + 4 * o1, ORDER);
        c02.intoMemorySegment(ALL, c + 4 * o2, ORDER);
        c03.intoMemorySegment(ALL, c + 4 * o3, ORDER);
        c10.intoMemorySegment(ALL, c1, ORDER);
        c11.intoMemorySegment(ALL, c1 + 4 * o1, ORDER);
        c12.intoMemorySegment(ALL, c1 + 4 * o2, ORDER);
        c13.intoMemorySegment(ALL, c1 + 4 * o3, ORDER);
    }
}
