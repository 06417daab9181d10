package io.github.tailorkv.cache;

import java.lang.foreign.MemorySegment;
import org.jspecify.annotations.Nullable;

/**
 * Sealed blocks with a resident channel index, from which single tokens can be read back: what retrieval layers are made
 * of.
 */
interface IndexedBlocks extends SealedBlocks {

    /**
     * Scores of the 64 tokens of a block from a few channels of the index.
     *
     * @param channels the channels to use, ascending; null for all
     * @param rows query rows, {@code headSize} floats each, contiguous
     * @param scores room for {@code float[rows][64]}
     */
    void score(
            int block,
            int head,
            int @Nullable [] channels,
            int channelCount,
            MemorySegment q,
            long qOffset,
            int rows,
            MemorySegment scores,
            long scoresOffset);

    /**
     * Reads one token back.
     *
     * @param token position of the token in the session
     * @param column where to put it in the tiles: column of the key tile and row of the value tile
     */
    void gather(int token, int head, MemorySegment tiles, long keys, long values, int column);

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

    /** Bytes that {@link #gather} reads, not counting what comes along in the same cache lines. */
    long tokenBytes();

    /** Largest magnitude of each channel of the keys of a head so far, {@code headSize} floats. */
    float[] keyMagnitude(int head);

    /** Width of the range of each channel of the keys of a head so far, {@code headSize} floats. */
    float[] keyRange(int head);
}
