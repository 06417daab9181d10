package io.github.tailorkv.cache;

import io.github.tailorkv.kernels.AttentionKernels;
import io.github.tailorkv.kernels.BlockLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/**
 * Finds the k largest of n scores without sorting them.
 *
 * <p>The scores are cut into stretches, blocks or quarters of them. Each of the k stretches with the largest maxima holds at least one score as large
 * as the k-th largest maximum, so that value is a lower bound of the k-th largest score; what lies below it is never
 * looked at again. The survivors, a few times k, are partitioned by quickselect. Equal scores are taken in the order of
 * their positions.
 */
final class TopTokens {

    /** Stretches of a block where blocks are too few to be stretches. */
    private static final int PARTS = 4;

    private final AttentionKernels kernels;
    private float[] maxima = new float[64];
    private int[] survivors = new int[1024];
    private float[] survivorScores = new float[1024];

    TopTokens(AttentionKernels kernels) {
        this.kernels = kernels;
    }

    /**
     * Writes the positions of the {@code k} largest scores to {@code chosen}, ascending; minus infinity is never chosen.
     *
     * @param scores {@code float[blocks][64]}
     * @param blockMaxima the largest score of each block
     * @return how many were written, fewer than k where there are fewer
     */
    int select(MemorySegment scores, long offset, int blocks, float[] blockMaxima, int k, int[] chosen) {
        int count = blocks * BlockLayout.BLOCK;
        if (k <= 0 || count == 0) {
            return 0;
        }
        float bound = lowerBound(scores, offset, blocks, blockMaxima, k);
        if (survivors.length < count) {
            survivors = new int[count + count / 4];
            survivorScores = new float[count + count / 4];
        }
        // Minus infinity marks what must not be chosen; the smallest finite number keeps it out.
        float threshold = Math.max(bound, -Float.MAX_VALUE);
        int left = kernels.indicesAtLeast(scores, offset, count, threshold, 0, survivors, 0);
        if (left <= k) {
            System.arraycopy(survivors, 0, chosen, 0, left);
            return left;
        }
        for (int i = 0; i < left; i++) {
            survivorScores[i] = at(scores, offset, survivors[i]);
        }
        float last = kthLargest(survivorScores, left, k);
        int above = 0;
        for (int i = 0; i < left; i++) {
            if (at(scores, offset, survivors[i]) > last) {
                above++;
            }
        }
        int ties = k - above;
        int written = 0;
        for (int i = 0; i < left; i++) {
            float score = at(scores, offset, survivors[i]);
            if (score > last || (score == last && ties-- > 0)) {
                chosen[written++] = survivors[i];
            }
        }
        return written;
    }

    private static float at(MemorySegment scores, long offset, int index) {
        return scores.get(ValueLayout.JAVA_FLOAT, offset + 4L * index);
    }

    private float lowerBound(MemorySegment scores, long offset, int blocks, float[] blockMaxima, int k) {
        int stretches = blocks >= k ? blocks : blocks * PARTS;
        if (stretches < k) {
            return Float.NEGATIVE_INFINITY;
        }
        if (maxima.length < stretches) {
            maxima = new float[stretches + stretches / 4];
        }
        if (stretches == blocks) {
            System.arraycopy(blockMaxima, 0, maxima, 0, blocks);
        } else {
            int part = BlockLayout.BLOCK / PARTS;
            for (int i = 0; i < stretches; i++) {
                maxima[i] = kernels.max(scores, offset + 4L * i * part, part);
            }
        }
        return kthLargest(maxima, stretches, k);
    }

    /** Quickselect with the median of three as pivot; reorders {@code values}. */
    static float kthLargest(float[] values, int count, int k) {
        int low = 0;
        int high = count - 1;
        int target = k - 1;
        while (low < high) {
            float a = values[low];
            float b = values[(low + high) >>> 1];
            float c = values[high];
            float pivot = Math.max(Math.min(a, b), Math.min(Math.max(a, b), c));
            int i = low;
            int j = high;
            while (i <= j) {
                while (values[i] > pivot) {
                    i++;
                }
                while (values[j] < pivot) {
                    j--;
                }
                if (i <= j) {
                    float swap = values[i];
                    values[i++] = values[j];
                    values[j--] = swap;
                }
            }
            if (target <= j) {
                high = j;
            } else if (target >= i) {
                low = i;
            } else {
                return values[target];
            }
        }
        return values[target];
    }

    /**
     * Writes the {@code k} channels of the largest weight to {@code chosen}, ascending.
     *
     * @return how many were written
     */
    int selectChannels(float[] weights, int count, int k, int[] chosen) {
        if (k >= count) {
            for (int c = 0; c < count; c++) {
                chosen[c] = c;
            }
            return count;
        }
        if (maxima.length < count) {
            maxima = new float[count];
        }
        System.arraycopy(weights, 0, maxima, 0, count);
        float last = kthLargest(maxima, count, k);
        int above = 0;
        for (int c = 0; c < count; c++) {
            if (weights[c] > last) {
                above++;
            }
        }
        int ties = k - above;
        int written = 0;
        for (int c = 0; c < count; c++) {
            if (weights[c] > last || (weights[c] == last && ties-- > 0)) {
                chosen[written++] = c;
            }
        }
        return written;
    }
}
