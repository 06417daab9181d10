package io.github.tailorkv.cache;

import java.lang.foreign.MemorySegment;
import java.util.Arrays;

/**
 * The F32 tiles of a session: exact keys and values of one block of 64 tokens of all KV heads of one layer, used for the
 * newest tokens of every layer and for all tokens of exact layers. Tiles that a layer has sealed serve the next layer, so
 * that a prefill chunk needs its exact copy in one layer at a time only.
 */
final class TilePool implements AutoCloseable {

    private final BlockStore store;
    private int[] free = new int[16];
    private int freeCount;

    TilePool(long tileBytes) {
        store = new BlockStore(tileBytes, BlockStore.RAM);
    }

    int take() {
        return freeCount > 0 ? free[--freeCount] : store.add();
    }

    void give(int tile) {
        if (freeCount == free.length) {
            free = Arrays.copyOf(free, 2 * freeCount);
        }
        free[freeCount++] = tile;
    }

    MemorySegment segment(int tile) {
        return store.segment(tile);
    }

    long offset(int tile) {
        return store.offset(tile);
    }

    /** Bytes allocated for tiles that no layer uses now. */
    long spareBytes(long tileBytes) {
        return store.bytes() - (store.size() - freeCount) * tileBytes;
    }

    @Override
    public void close() {
        store.close();
    }
}
