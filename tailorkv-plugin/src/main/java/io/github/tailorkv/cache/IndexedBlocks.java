package io.github.tailorkv.cache;

import java.lang.foreign.MemorySegment;
import org.jspecify.annotations.Nullable;

/**
 * Sealed blocks with a resident channel index, from which single tokens can be read back: what retrieval layers are made
 * of.
 */
interface IndexedBlocks extends SealedBlocks {

    /**
     * Scores of the tokens of the blocks {@code [from, to)} from a few channels of the index. Channels are counted in it.
     *
     * @param critical the channels to use, of which the first {@code criticalCount} count, ascending; null for all
     * @param q queries, row r at {@code qOffset + r * qStride}, as many floats as the index has channels
     * @param rows query rows
     * @param scores room for {@code float[to - from][rows][64]}
     */
    void score(
            int from,
            int to,
            int head,
            int @Nullable [] critical,
            int criticalCount,
            MemorySegment q,
            long qOffset,
            long qStride,
            int rows,
            MemorySegment scores,
            long scoresOffset);

    /**
     * Fetches tokens for {@link #attendGathered}, into the scratch tiles or, as they are, into the cache.
     *
     * @param tokens positions of tokens in the session; those of {@code [first, first + count)} are meant, at most 64
     */
    void gather(int[] tokens, int first, int count, int head, DecodeScratch work);

    /** Attends the {@code count} tokens that {@link #gather} fetched last. */
    void attendGathered(int count, MemorySegment q, long qOffset, DecodeScratch work);

    /**
     * Adds the values of a block, at the precision of the resident part, under given weights.
     *
     * @param weights {@code float[rows][64]}
     */
    void accumulateCoarse(int block, int head, MemorySegment weights, long weightsOffset, DecodeScratch work);

    /** Bytes of the index of one block and KV head, all its channels. */
    long indexBytes();

    /** Bytes that {@link #accumulateCoarse} reads. */
    long coarseBytes();

    /** Bytes that {@link #gather} fetches of one token, not counting what comes along in the same cache lines. */
    long tokenBytes();

    /** Channels of the keys of a head that the index holds, ascending. */
    int[] indexedChannels(int head);

    /** Largest magnitude of the keys of a head so far in each channel of the index. */
    float[] keyMagnitude(int head);

    /** Width of the range of the keys of a head so far in each channel of the index. */
    float[] keyRange(int head);
}
