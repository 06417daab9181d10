package io.github.tailorkv.cache;

import io.github.tailorkv.kernels.AttentionKernels;
import io.github.tailorkv.kernels.BlockLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;

/**
 * Finds the k largest of n scores without sorting them.
 *
 * <p>The scores are cut into stretches, several times k of them. Each of the k stretches with the largest maxima holds at
 * least one score as large as the k-th largest maximum, so that value is a lower bound of the k-th largest score; what lies
 * below it is never looked at again. The survivors, little more than k, are parted by a threshold. Equal scores are
 * taken in the order of their positions.
 */
final class TopTokens {

    /** Stretches for each token to choose: with as many, one score in five that passes the bound is not chosen. */
    private static final int STRETCHES = 4;
    /** Stretches that the tokens of a block fall into, by their position modulo it. */
    static final int COLUMNS = BlockLayout.BLOCK / 4;

    private final AttentionKernels kernels;
    private int[] channels = {0};
    private int[] survivors = new int[1024];
    private float[] survivorScores = new float[1024];

    TopTokens(AttentionKernels kernels) {
        this.kernels = kernels;
    }

    /** Blocks to a group of sixteen stretches, for {@link AttentionKernels#rank}. */
    static int blocksPerStretch(int blocks, int k) {
        return Math.max(1, blocks * COLUMNS / (STRETCHES * Math.max(1, k)));
    }

    /** Stretches that {@code blocks} blocks fall into. */
    static int stretches(int blocks, int blocksPerStretch) {
        return (blocks + blocksPerStretch - 1) / blocksPerStretch * COLUMNS;
    }

    /**
     * Writes the positions of the {@code k} largest scores to {@code chosen}, ascending; minus infinity is never chosen.
     *
     * @param scores {@code float[blocks][64]}
     * @param stretchMaxima the largest score of each stretch, in any order
     * @return how many were written, fewer than k where there are fewer
     */
    int select(MemorySegment scores, long offset, int blocks, float[] stretchMaxima, int stretches, int k,
            int[] chosen) {
        int count = blocks * BlockLayout.BLOCK;
        if (k <= 0 || count == 0) {
            return 0;
        }
        float bound = stretches < k ? Float.NEGATIVE_INFINITY : kernels.threshold(stretchMaxima, stretches, k);
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
            survivorScores[i] = scores.get(ValueLayout.JAVA_FLOAT, offset + 4L * survivors[i]);
        }
        float last = kernels.threshold(survivorScores, left, k);
        return take(survivorScores, left, last, k, survivors, chosen);
    }

    /** Takes what is above {@code last} and, until there are {@code k}, what equals it. */
    private static int take(float[] scores, int count, float last, int k, int[] positions, int[] chosen) {
        int above = 0;
        for (int i = 0; i < count; i++) {
            above += scores[i] > last ? 1 : 0;
        }
        int ties = k - above;
        int written = 0;
        for (int i = 0; i < count && written < k; i++) {
            if (scores[i] > last || (scores[i] == last && ties-- > 0)) {
                chosen[written++] = positions[i];
            }
        }
        return written;
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
        float last = kernels.threshold(weights, count, k);
        return take(weights, count, last, k, allChannels(count), chosen);
    }

    private int[] allChannels(int count) {
        while (channels.length < count) {
            channels = Arrays.copyOf(channels, 2 * channels.length);
            for (int c = channels.length / 2; c < channels.length; c++) {
                channels[c] = c;
            }
        }
        return channels;
    }
}
