package io.github.tailorkv.cache;

import io.github.tailorkv.kernels.AttentionKernels;
import io.github.tailorkv.kernels.AttentionShape;
import io.github.tailorkv.kernels.BlockLayout;
import java.lang.foreign.MemorySegment;

/**
 * Sealed blocks of a quantized layer: keys per channel, values per token, uniform codes of 1, 2, 4 or 8 bits with f16
 * scale and zero point for 64 numbers (TailorKV, section 3.2). Decode steps compute on the codes.
 */
final class PackedBlocks implements SealedBlocks {

    private final AttentionKernels kernels;
    private final int headSize;
    private final int bits;
    private final int heads;
    private final int keyBytes;
    private final long headBytes;
    private final BlockStore store;

    PackedBlocks(AttentionKernels kernels, AttentionShape shape, int bits) {
        this.kernels = kernels;
        this.headSize = shape.headSize();
        this.bits = bits;
        heads = shape.kvHeads();
        keyBytes = BlockLayout.packedKeyBytes(bits, headSize);
        headBytes = (long) keyBytes + BlockLayout.packedValueBytes(bits, headSize);
        store = new BlockStore(shape.kvHeads() * headBytes, BlockStore.RAM);
    }

    @Override
    public int size() {
        return store.size();
    }

    @Override
    public void add(int count) {
        store.add(count);
    }

    @Override
    public void seal(int block, int head, MemorySegment tiles, long keys, long values) {
        long at = store.offset(block) + head * headBytes;
        kernels.quantizeKeys(tiles, keys, headSize, bits, store.segment(block), at);
        kernels.quantizeValues(tiles, values, headSize, bits, store.segment(block), at + keyBytes);
    }

    @Override
    public void load(int block, int head, MemorySegment tiles, long keys, long values) {
        long at = store.offset(block) + head * headBytes;
        kernels.unpackKeys(store.segment(block), at, bits, false, headSize, tiles, keys);
        kernels.unpackValues(store.segment(block), at + keyBytes, bits, false, headSize, tiles, values);
    }

    @Override
    public void attend(int head, int from, int to, MemorySegment q, long qOffset, DecodeScratch work) {
        try {
            attendBlocks(head, from, to, q, qOffset, work);
        } catch (RuntimeException | Error e) {
            // The thread's next product may be another session's, and this one freed while it reads.
            kernels.expect(MemorySegment.NULL, 0, 0);
            throw e;
        }
    }

    private void attendBlocks(int head, int from, int to, MemorySegment q, long qOffset, DecodeScratch work) {
        for (int block = from; block < to; block++) {
            long at = store.offset(block) + head * headBytes;
            MemorySegment codes = store.segment(block);
            kernels.expect(codes, at + keyBytes, headBytes - keyBytes);
            kernels.packedScores(
                    codes, at, bits, false, headSize, null, 0, q, qOffset, work.rowBytes, work.rows, work.memory,
                    work.scores);
            work.softmax(BlockLayout.BLOCK);
            expectKeysAfter(block, head, to);
            kernels.packedAccumulate(
                    codes,
                    at + keyBytes,
                    bits,
                    false,
                    headSize,
                    work.memory,
                    work.scores,
                    work.rows,
                    BlockLayout.BLOCK,
                    work.memory,
                    work.acc);
        }
    }

    /** Whoever attends one block only goes on with its next head, then with the next block. */
    private void expectKeysAfter(int block, int head, int to) {
        boolean next = block + 1 < to;
        if (!next && head + 1 < heads) {
            kernels.expect(store.segment(block), store.offset(block) + (head + 1) * headBytes, keyBytes);
        } else if (block + 1 < store.size()) {
            long at = store.offset(block + 1) + (next ? head * headBytes : 0);
            kernels.expect(store.segment(block + 1), at, keyBytes);
        }
    }

    @Override
    public void truncate(int blocks) {
        store.truncate(blocks);
    }

    @Override
    public long blockBytes() {
        return headBytes;
    }

    @Override
    public long residentBytes() {
        return store.bytes();
    }

    @Override
    public long offloadedBytes() {
        return 0;
    }

    @Override
    public void close() {
        store.close();
    }
}
