package io.github.tailorkv.cache;

import java.lang.foreign.MemorySegment;
import org.jspecify.annotations.Nullable;

/**
 * Sealed blocks with a resident channel index, from which single tokens can be read back: what retrieval layers are made
 * of.
 */
interface IndexedBlocks extends SealedBlocks {

    /**
     * Scores of the tokens of the blocks {@code [from, to)} from a few channels of the index.
     *
     * @param channels the channels to use, ascending; null for all
     * @param rows query rows, {@code headSize} floats each, contiguous
     * @param scores room for {@code float[to - from][rows][64]}
     */
    void score(
            int from,
            int to,
            int head,
            int @Nullable [] channels,
            int channelCount,
            MemorySegment q,
            long qOffset,
            int rows,
            MemorySegment scores,
            long scoresOffset);

    /**
     * Reads tokens back and attends them.
     *
     * @param tokens positions of tokens in the session; those of {@code [first, first + count)} are meant, at most 64
     */
    void attendTokens(int[] tokens, int first, int count, int head, MemorySegment q, long qOffset, DecodeScratch work);

    /**
     * Adds the values of a block, at the precision of the resident part, under given weights.
     *
     * @param weights {@code float[rows][64]}
     */
    void accumulateCoarse(int block, int head, MemorySegment weights, long weightsOffset, DecodeScratch work);

    /** Largest magnitude of each channel of the keys of a head so far, {@code headSize} floats. */
    float[] keyMagnitude(int head);

    /** Width of the range of each channel of the keys of a head so far, {@code headSize} floats. */
    float[] keyRange(int head);
}
