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
    private static final int COLUMNS = BlockLayout.BLOCK / 4;

    private final AttentionKernels kernels;
    private float[] maxima = new float[0];
    private int[] survivors = new int[1024];
    private float[] survivorScores = new float[1024];
    private int left;

    TopTokens(AttentionKernels kernels) {
        this.kernels = kernels;
    }

    /**
     * Writes the positions of the {@code k} largest scores to {@code chosen}, ascending; minus infinity is never chosen.
     *
     * @param scores {@code float[blocks][64]}
     * @return how many were written, fewer than k where there are fewer
     */
    int select(MemorySegment scores, long offset, int blocks, int k, int[] chosen) {
        begin(blocks);
        if (k <= 0 || blocks == 0) {
            return 0;
        }
        // Minus infinity marks what must not be chosen; the smallest finite number keeps it out.
        add(scores, offset, blocks, Math.max(-Float.MAX_VALUE, lowerBound(scores, offset, blocks, k)), 0);
        return keep(k, chosen);
    }

    // ---- the same in parts, where a bound is known before the scores are -------------------------------------------

    /** Begins a choice among the tokens of {@code blocks} blocks. */
    void begin(int blocks) {
        int count = blocks * BlockLayout.BLOCK;
        if (survivors.length < count) {
            survivors = new int[count + count / 4];
            survivorScores = new float[count + count / 4];
        }
        left = 0;
    }

    /**
     * Takes the tokens whose scores reach a bound.
     *
     * @param scores of the next blocks, {@code float[blocks][64]}
     * @param first position of the first of them
     */
    void add(MemorySegment scores, long offset, int blocks, float bound, int first) {
        left = kernels.atLeast(
                scores, offset, blocks * BlockLayout.BLOCK, bound, first, survivors, survivorScores, left);
    }

    /** Tokens taken so far. */
    int size() {
        return left;
    }

    /**
     * Writes the positions of the {@code k} largest scores that were taken to {@code chosen}, ascending.
     *
     * @return how many were written, fewer than k where there are fewer
     */
    int keep(int k, int[] chosen) {
        int written = kernels.keepLargest(survivorScores, survivors, left, k);
        System.arraycopy(survivors, 0, chosen, 0, written);
        return written;
    }

    /** No more than the k-th largest score; minus infinity where there are too few stretches to say. */
    private float lowerBound(MemorySegment scores, long offset, int blocks, int k) {
        int perStretch = Math.max(1, blocks * COLUMNS / (STRETCHES * k));
        int stretches = (blocks + perStretch - 1) / perStretch * COLUMNS;
        if (stretches < k) {
            return Float.NEGATIVE_INFINITY;
        }
        if (maxima.length < stretches) {
            maxima = new float[stretches + stretches / 4];
        }
        kernels.stretchMaxima(scores, offset, blocks, perStretch, maxima);
        return kernels.threshold(maxima, stretches, k, k + k / SLACK);
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
