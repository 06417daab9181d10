package io.github.tailorkv.cache;

import java.lang.foreign.MemorySegment;

/**
 * The older tokens of one layer, in blocks of 64 that are full and no longer kept as F32 tiles. Blocks are added for all
 * KV heads at once; everything else works on one KV head, so that heads can run on several threads.
 */
interface SealedBlocks extends AutoCloseable {

    /** Blocks held. */
    int size();

    /** Makes room for {@code count} more blocks, to be filled by {@link #seal} for every head; none if it throws. */
    void add(int count);

    /** Stores the F32 tiles of one head as the head's part of a block. */
    void seal(int block, int head, MemorySegment tiles, long keys, long values);

    /** Restores F32 tiles from one head's part of a block. */
    void load(int block, int head, MemorySegment tiles, long keys, long values);

    /**
     * Attends the tokens of the blocks {@code [from, to)} of one head in one decode step.
     *
     * @param work scratch memory of the calling thread; its state and accumulator rows collect the result
     */
    void attend(int head, int from, int to, MemorySegment q, long qOffset, DecodeScratch work);

    /** Forgets all blocks from {@code blocks} on. */
    void truncate(int blocks);

    /** Bytes that attending one block of one KV head reads. */
    long blockBytes();

    /** Bytes in RAM. */
    long residentBytes();

    /** Bytes in the offload tier. */
    long offloadedBytes();

    @Override
    void close();
}
