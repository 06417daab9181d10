package io.github.tailorkv.kernels;

import static io.github.tailorkv.kernels.BlockLayout.BLOCK;
import static io.github.tailorkv.kernels.Lanes.F;
import static io.github.tailorkv.kernels.Lanes.I;
import static io.github.tailorkv.kernels.Lanes.IOTA;
import static io.github.tailorkv.kernels.Lanes.L;
import static io.github.tailorkv.kernels.Lanes.ORDER;
import static io.github.tailorkv.kernels.NativeMemory.ALL;
import static io.github.tailorkv.kernels.NativeMemory.at;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT_UNALIGNED;
import static jdk.incubator.vector.FloatVector.fromMemorySegment;
import static jdk.incubator.vector.VectorOperators.ADD;
import static jdk.incubator.vector.VectorOperators.GE;
import static jdk.incubator.vector.VectorOperators.GT;
import static jdk.incubator.vector.VectorOperators.LT;
import static jdk.incubator.vector.VectorOperators.MAX;
import static jdk.incubator.vector.VectorOperators.MIN;

import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.VectorMask;

/** Passes over long rows of scores that choose the dominant tokens; any count, absolute addresses. */
final class ScoreSelection {

    /** Scores of one row of one block. */
    private static final int ROW = BLOCK * 4;
    private static final long BLOCK_BYTES = ROW;

    /** Between these no power has overflowed, and none that counts was too small. */
    private static final float LEAST_SUM = 0x1p-60f;
    private static final float LARGEST_SUM = 0x1p100f;

    /** Stretches that the tokens of a block fall into, by their position modulo it. */
    private static final int COLUMNS = BLOCK / 4;

    /** Survivors of a block up to which no branch asks how many there are; two or three are usual. */
    private static final int ALWAYS = 4;

    /** Guesses of a threshold by straight lines alone. */
    private static final int STRAIGHT = 9;

    private ScoreSelection() {}

    static void scale(long s, int count, float scale, float softCap) {
        int i = 0;
        if (softCap > 0) {
            i = count - count % L;
            softCap(s, i, scale, softCap);
        } else {
            for (; i + L <= count; i += L) {
                fromMemorySegment(F, ALL, s + i * 4L, ORDER).mul(scale).intoMemorySegment(ALL, s + i * 4L, ORDER);
            }
        }
        for (; i < count; i++) {
            float x = scale * ALL.get(JAVA_FLOAT_UNALIGNED, s + i * 4L);
            ALL.set(JAVA_FLOAT_UNALIGNED, s + i * 4L, softCap > 0 ? softCap * (float) Math.tanh(x / softCap) : x);
        }
    }

    /** With {@code tanh(x) = 1 - 2 / (e^2x + 1)}, which is 1 in single precision long before x = 20. */
    private static void softCap(long s, int count, float scale, float cap) {
        FloatVector limit = FloatVector.broadcast(F, 40);
        for (int i = 0; i < count; i += L) {
            FloatVector x = fromMemorySegment(F, ALL, s + i * 4L, ORDER).mul(scale).mul(2 / cap);
            x.blend(limit, limit.compare(LT, x)).intoMemorySegment(ALL, s + i * 4L, ORDER);
        }
        Lanes.exponentials(s, 0, 1, count, 0, s);
        for (int i = 0; i < count; i += L) {
            FloatVector power = fromMemorySegment(F, ALL, s + i * 4L, ORDER);
            FloatVector tanh = FloatVector.broadcast(F, -2).div(power.add(1)).add(1);
            tanh.mul(cap).intoMemorySegment(ALL, s + i * 4L, ORDER);
        }
    }

    /** {@link AttentionKernels#logSums}. */
    static void logSums(long s, int blocks, int rows, float weight, float[] logSums) {
        for (int r = 0; r < rows; r++) {
            logSums[r] = logSumExp(s + r * BLOCK_BYTES, rows * BLOCK_BYTES, blocks, weight);
        }
    }

    /**
     * The shift only has to keep the powers within the range of a float, and the first block, where the sinks are, has a
     * score near the largest: looking for the largest itself is left for sums that show it is needed.
     */
    private static float logSumExp(long row, long stride, int blocks, float weight) {
        float shift = largest(row, stride, 1);
        float sum = Lanes.roughExponentials(row, stride, 1, shift)
                + weight * Lanes.roughExponentials(row + stride, stride, blocks - 1, shift);
        if (!(sum > LEAST_SUM && sum < LARGEST_SUM)) {
            float maximum = largest(row, stride, blocks);
            shift = maximum == Float.NEGATIVE_INFINITY ? 0 : maximum;
            sum = Lanes.exponentials(row, stride, 1, BLOCK, shift, 0)
                    + weight * Lanes.exponentials(row + stride, stride, blocks - 1, BLOCK, shift, 0);
        }
        return shift + (float) Math.log(sum);
    }

    private static float largest(long row, long stride, int blocks) {
        FloatVector largest = FloatVector.broadcast(F, Float.NEGATIVE_INFINITY);
        for (int b = 0; b < blocks; b++) {
            for (int t = 0; t < BLOCK; t += L) {
                FloatVector x = fromMemorySegment(F, ALL, row + b * stride + t * 4L, ORDER);
                largest = largest.blend(x, largest.compare(LT, x));
            }
        }
        return largest.reduceLanes(MAX);
    }

    /** {@link AttentionKernels#rank}. */
    static void rank(long s, int blocks, int rows, float[] logSums, long rank) {
        for (int b = 0; b < blocks; b++) {
            for (int t = 0; t < BLOCK; t += L) {
                long row = s + BLOCK_BYTES * rows * b + t * 4L;
                FloatVector best = fromMemorySegment(F, ALL, row, ORDER).sub(logSums[0]);
                for (int r = 1; r < rows; r++) {
                    FloatVector share = fromMemorySegment(F, ALL, row + r * BLOCK_BYTES, ORDER).sub(logSums[r]);
                    best = best.blend(share, best.compare(LT, share));
                }
                best.intoMemorySegment(ALL, rank + b * BLOCK_BYTES + t * 4L, ORDER);
            }
        }
    }

    /** {@link AttentionKernels#stretchMaxima}. */
    static void stretchMaxima(long rank, int blocks, int stretch, float[] maxima) {
        for (int first = 0, at = 0; first < blocks; first += stretch, at += COLUMNS) {
            int end = Math.min(blocks, first + stretch);
            for (int column = 0; column < COLUMNS; column += L) {
                FloatVector largest = FloatVector.broadcast(F, Float.NEGATIVE_INFINITY);
                for (int b = first; b < end; b++) {
                    long row = NativeMemory.base(rank + b * BLOCK_BYTES);
                    for (int t = 4 * column; t < ROW; t += 4 * COLUMNS) {
                        FloatVector x = fromMemorySegment(F, ALL, at(row, t), ORDER);
                        largest = largest.blend(x, largest.compare(LT, x));
                    }
                }
                largest.intoArray(maxima, at + column);
            }
        }
    }

    static float max(long s, int count) {
        FloatVector first = FloatVector.broadcast(F, Float.NEGATIVE_INFINITY);
        FloatVector second = first;
        int i = 0;
        for (; i + 2 * L <= count; i += 2 * L) {
            FloatVector x = fromMemorySegment(F, ALL, s + i * 4L, ORDER);
            first = first.blend(x, first.compare(LT, x));
            x = fromMemorySegment(F, ALL, s + (i + L) * 4L, ORDER);
            second = second.blend(x, second.compare(LT, x));
        }
        float maximum = Math.max(first.reduceLanes(MAX), second.reduceLanes(MAX));
        for (; i < count; i++) {
            float x = ALL.get(JAVA_FLOAT_UNALIGNED, s + i * 4L);
            maximum = x > maximum ? x : maximum;
        }
        return maximum;
    }

    /** {@link AttentionKernels#atLeast}. */
    static int atLeast(
            long s, int count, float threshold, int first, int[] positions, float[] values, int next) {
        int whole = count - count % BLOCK;
        int end = Lanes.WIDE
                ? atLeastByVector(s, whole, threshold, first, positions, values, next)
                : atLeastByBlock(s, whole, threshold, first, positions, values, next);
        for (int i = whole; i < count; i++) {
            float x = ALL.get(JAVA_FLOAT_UNALIGNED, s + i * 4L);
            if (x >= threshold) {
                positions[end] = first + i;
                values[end++] = x;
            }
        }
        return end;
    }

    /** Every third vector of 16 has survivors, which no processor foresees, and compresses in one instruction. */
    private static int atLeastByVector(
            long s, int count, float threshold, int first, int[] positions, float[] values, int begin) {
        int next = begin;
        for (int i = 0; i < count; i += L) {
            FloatVector x = fromMemorySegment(F, ALL, s + i * 4L, ORDER);
            VectorMask<Float> found = x.compare(GE, threshold);
            x.compress(found).intoArray(values, next);
            IOTA.add(first + i).compress(found.cast(I)).intoArray(positions, next);
            next += found.trueCount();
        }
        return next;
    }

    /**
     * Where compressing takes a dozen instructions: one word of bits a block, from which {@link #ALWAYS} survivors are taken
     * whether they are there or not, for the same reason.
     */
    private static int atLeastByBlock(
            long s, int count, float threshold, int first, int[] positions, float[] values, int begin) {
        int room = Math.min(positions.length, values.length) - ALWAYS;
        int next = begin;
        for (int i = 0; i < count; i += BLOCK) {
            long row = NativeMemory.base(s + i * 4L);
            long found = 0;
            for (int t = 0; t < BLOCK; t += L) {
                found |= fromMemorySegment(F, ALL, at(row, t * 4), ORDER).compare(GE, threshold).toLong() << t;
            }
            int end = next + Long.bitCount(found);
            int always = next <= room ? ALWAYS : 0;
            for (int j = 0; j < always; j++) {
                int t = Long.numberOfTrailingZeros(found) & (BLOCK - 1);
                positions[next + j] = first + i + t;
                values[next + j] = ALL.get(JAVA_FLOAT_UNALIGNED, at(row, t * 4));
                found &= found - 1;
            }
            for (next += always; next < end; next++) {
                int t = Long.numberOfTrailingZeros(found);
                positions[next] = first + i + t;
                values[next] = ALL.get(JAVA_FLOAT_UNALIGNED, at(row, t * 4));
                found &= found - 1;
            }
            next = end;
        }
        return next;
    }

    /**
     * By counting how many values reach a guess, which is all vectors and no branch to predict, unlike a partition. A guess
     * is where a straight line between two counts would be right; the end that stays a second time counts half as much
     * (Dowell and Jarratt, BIT 11, 1971), without which one end hardly moves where values have a long tail. That takes about
     * seven counts. Should it take more than {@link #STRAIGHT}, every second one halves what is left instead, in the order of
     * floats, which is that of their bits, so that no distribution takes more than a hundred.
     */
    static float threshold(float[] values, int count, int k, int most) {
        int low = ordered(Float.NEGATIVE_INFINITY);
        int high = ordered(Float.POSITIVE_INFINITY);
        float left = least(values, count);
        float right = largest(values, count);
        float wanted = 0.5f * (k + most);
        float tooMany = count - wanted;
        float tooFew = wanted;
        int moved = 0;
        for (int step = 1; low < high; step++) {
            float guess = left + (right - left) * tooMany / (tooMany + tooFew);
            int middle = ordered(guess);
            if ((step > STRAIGHT && step % 2 == 0) || !(middle > low && middle <= high)) {
                middle = (int) (((long) low + high + 1) >> 1);
                guess = unordered(middle);
            }
            int reach = countAtLeast(values, count, guess);
            if (reach >= k && reach <= most) {
                return guess;
            }
            if (reach > k) {
                low = middle;
                left = guess;
                tooMany = reach - wanted;
                tooFew = moved > 0 ? 0.5f * tooFew : tooFew;
                moved = 1;
            } else {
                high = middle - 1;
                right = guess;
                tooFew = wanted - reach;
                tooMany = moved < 0 ? 0.5f * tooMany : tooMany;
                moved = -1;
            }
        }
        return unordered(low);
    }

    static int keepLargest(float[] values, int[] positions, int count, int k) {
        if (count <= k) {
            return count;
        }
        float last = threshold(values, count, k, k);
        return countAtLeast(values, count, last) == k
                ? keep(values, positions, count, last)
                : keepFirst(values, positions, count, k, last);
    }

    /** In place: what is written lies no further than what was read. */
    private static int keep(float[] values, int[] positions, int count, float last) {
        int next = 0;
        int i = 0;
        for (; i + L <= count; i += L) {
            VectorMask<Float> found = FloatVector.fromArray(F, values, i).compare(GE, last);
            IntVector.fromArray(I, positions, i).compress(found.cast(I)).intoArray(positions, next);
            next += found.trueCount();
        }
        for (; i < count; i++) {
            if (values[i] >= last) {
                positions[next++] = positions[i];
            }
        }
        return next;
    }

    /** What is above {@code last} and as many of its equals as there is room for; every number is written, most of them twice. */
    private static int keepFirst(float[] values, int[] positions, int count, int k, float last) {
        int ties = k;
        for (int i = 0; i < count; i++) {
            ties -= values[i] > last ? 1 : 0;
        }
        int next = 0;
        for (int i = 0; i < count; i++) {
            int equal = values[i] == last ? 1 : 0;
            positions[next] = positions[i];
            next += values[i] > last ? 1 : Math.min(equal, Math.max(ties, 0));
            ties -= equal;
        }
        return next;
    }

    /** Integers in the order of floats, each its own inverse's argument. */
    private static int ordered(float x) {
        int bits = Float.floatToRawIntBits(x);
        return bits ^ ((bits >> 31) & Integer.MAX_VALUE);
    }

    private static float unordered(int order) {
        return Float.intBitsToFloat(order ^ ((order >> 31) & Integer.MAX_VALUE));
    }

    private static int countAtLeast(float[] values, int count, float threshold) {
        IntVector one = IntVector.broadcast(I, 1);
        IntVector first = IntVector.zero(I);
        IntVector second = first;
        int i = 0;
        for (; i + 2 * L <= count; i += 2 * L) {
            first = first.blend(first.add(one), FloatVector.fromArray(F, values, i).compare(GE, threshold).cast(I));
            second = second.blend(
                    second.add(one), FloatVector.fromArray(F, values, i + L).compare(GE, threshold).cast(I));
        }
        int reach = first.add(second).reduceLanes(ADD);
        for (; i < count; i++) {
            reach += values[i] >= threshold ? 1 : 0;
        }
        return reach;
    }

    /** The least number of whole vectors that is finite; infinite if none is. */
    private static float least(float[] values, int count) {
        FloatVector least = FloatVector.broadcast(F, Float.POSITIVE_INFINITY);
        for (int i = 0; i + L <= count; i += L) {
            FloatVector x = FloatVector.fromArray(F, values, i);
            least = least.blend(x, x.compare(LT, least).and(x.compare(GT, Float.NEGATIVE_INFINITY)));
        }
        return least.reduceLanes(MIN);
    }

    /** The largest number of whole vectors that is finite; infinite if none is. */
    private static float largest(float[] values, int count) {
        FloatVector largest = FloatVector.broadcast(F, Float.NEGATIVE_INFINITY);
        for (int i = 0; i + L <= count; i += L) {
            FloatVector x = FloatVector.fromArray(F, values, i);
            largest = largest.blend(x, x.compare(GT, largest).and(x.compare(LT, Float.POSITIVE_INFINITY)));
        }
        return largest.reduceLanes(MAX);
    }
}
