package io.github.tailorkv.cache;

import io.github.tailorkv.kernels.AttentionKernels;
import io.github.tailorkv.kernels.AttentionShape;
import io.github.tailorkv.kernels.BlockLayout;
import java.lang.foreign.MemorySegment;

/** Sealed blocks of exact layers of a host that works in BF16: tiles in that precision, nothing else lost. */
final class BFloat16Tiles implements SealedBlocks {

    private final AttentionKernels kernels;
    private final AttentionShape shape;
    private final BlockStore store;
    private final int tileNumbers;
    private final long headBytes;

    BFloat16Tiles(AttentionKernels kernels, AttentionShape shape) {
        this.kernels = kernels;
        this.shape = shape;
        tileNumbers = BlockLayout.BLOCK * shape.headSize();
        headBytes = 2L * tileNumbers * Short.BYTES;
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
        kernels.toBFloat16(tiles, keys, store.segment(block), at, tileNumbers);
        kernels.toBFloat16(tiles, values, store.segment(block), at + headBytes / 2, tileNumbers);
    }

    @Override
    public void load(int block, int head, MemorySegment tiles, long keys, long values) {
        long at = store.offset(block) + head * headBytes;
        kernels.fromBFloat16(store.segment(block), at, tiles, keys, tileNumbers);
        kernels.fromBFloat16(store.segment(block), at + headBytes / 2, tiles, values, tileNumbers);
    }

    @Override
    public void attend(int head, int from, int to, MemorySegment q, long qOffset, DecodeScratch work) {
        for (int block = from; block < to; block++) {
            load(block, head, work.memory, work.keys, work.values);
            work.attendTiles(work.memory, work.keys, work.values, BlockLayout.BLOCK, q, qOffset);
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

    @Override
    public String toString() {
        return "BF16 tiles of head size " + shape.headSize();
    }
}
