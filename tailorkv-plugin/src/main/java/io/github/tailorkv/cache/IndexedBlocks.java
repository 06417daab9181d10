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
     * Reads tokens back into the scratch tiles.
     *
     * @param tokens positions of tokens in the session; those of {@code [first, first + count)} are meant, at most 64
     */
    void gather(int[] tokens, int first, int count, int head, DecodeScratch work);

    /** Attends the {@code count} tokens that {@link #gather} read last. */
    void attendGathered(int count, MemorySegment q, long qOffset, DecodeScratch work);

    /**
     * Adds the values of a block, at the precision of the resident part, under given weights.
     *
     * @param weights {@code float[rows][64]}
     */
    void accumulateCoarse(int block, int head, MemorySegment weights, long weightsOffset, DecodeScratch work);

    /** Bytes of the channel index of one block and KV head, all channels. */
    long indexBytes();

    /** Bytes that {@link #accumulateCoarse} reads. */
    long coarseBytes();

    /** Bytes that {@link #gather} reads of one token, not counting what comes along in the same cache lines. */
    long tokenBytes();

    /** Largest magnitude of each channel of the keys of a head so far, {@code headSize} floats. */
    float[] keyMagnitude(int head);

    /** Width of the range of each channel of the keys of a head so far, {@code headSize} floats. */
    float[] keyRange(int head);
}
