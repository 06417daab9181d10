package io.github.tailorkv.cache;

import io.github.tailorkv.kernels.AttentionKernels;
import io.github.tailorkv.kernels.BlockLayout;
import java.lang.foreign.MemorySegment;

/**
 * Finds the k largest of n scores without sorting them.
 *
 * <p>The scores are cut into stretches, several times k of them. Each of the k stretches with the largest maxima holds at
 * least one score as large as the k-th largest maximum, so that value is a lower bound of the k-th largest score; what lies
 * below it is never looked at again. Among the survivors, little more than k, the choice is exact. Equal scores are taken
 * in the order of their positions.
 */
final class TopTokens {

    /** Stretches for each token to choose: with as many, one score in five that passes the bound is not chosen. */
    private static final int STRETCHES = 4;
    /** The bound may let this part of k more survive than it has to, for that spares a few passes over the maxima. */
    private static final int SLACK = 16;
    /** Stretches that the tokens of a block fall into, by their position modulo it. */
    static final int COLUMNS = BlockLayout.BLOCK / 4;

    private final AttentionKernels kernels;
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
        // Minus infinity marks what must not be chosen; the smallest finite number keeps it out.
        float bound = -Float.MAX_VALUE;
        if (stretches >= k) {
            bound = Math.max(bound, kernels.threshold(stretchMaxima, stretches, k, k + k / SLACK));
        }
        if (survivors.length < count) {
            survivors = new int[count + count / 4];
            survivorScores = new float[count + count / 4];
        }
        int left = kernels.atLeast(scores, offset, count, bound, survivors, survivorScores);
        int written = kernels.keepLargest(survivorScores, survivors, left, k);
        System.arraycopy(survivors, 0, chosen, 0, written);
        return written;
    }

    /**
     * Writes the {@code k} channels of the largest weight to {@code chosen}, ascending.
     *
     * @param chosen room for {@code count}
     * @return how many were written
     */
    int selectChannels(float[] weights, int count, int k, int[] chosen) {
        for (int c = 0; c < count; c++) {
            chosen[c] = c;
        }
        return kernels.keepLargest(weights, chosen, count, k);
    }
}
