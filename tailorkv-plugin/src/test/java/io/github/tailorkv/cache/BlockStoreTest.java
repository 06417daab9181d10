package io.github.tailorkv.cache;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.foreign.ValueLayout;
import org.junit.jupiter.api.Test;

class BlockStoreTest {

    private static final int PARTS = 3;
    private static final long PART_BYTES = 128;

    @Test
    void partsDoNotOverlapWhileTheStoreGrowsAndShrinks() {
        try (BlockStore store = new BlockStore(PARTS, PART_BYTES, 2, BlockStore.RAM)) {
            int[] sizes = {1, 2, 7, 100, 5, 6, 60, 0, 9};
            int written = 0;
            for (int size : sizes) {
                if (size < store.size()) {
                    store.truncate(size);
                } else {
                    store.add(size - store.size());
                }
                written = Math.min(written, size);
                for (; written < size; written++) {
                    for (int part = 0; part < PARTS; part++) {
                        fill(store, written, part);
                    }
                }
                for (int index = 0; index < size; index++) {
                    for (int part = 0; part < PARTS; part++) {
                        check(store, index, part);
                    }
                }
            }
        }
    }

    @Test
    void aPartOfNeighboursInAChunkLiesSideBySide() {
        try (BlockStore store = new BlockStore(PARTS, PART_BYTES, BlockStore.RAM)) {
            store.add(10);
            store.add(20);
            assertEquals((10 + 20) * (PARTS * PART_BYTES), store.bytes());
            int neighbours = 0;
            for (int index = 1; index < store.size(); index++) {
                if (store.segment(index).equals(store.segment(index - 1))) {
                    neighbours++;
                    for (int part = 0; part < PARTS; part++) {
                        assertEquals(store.offset(index - 1, part) + PART_BYTES, store.offset(index, part));
                    }
                }
            }
            assertEquals(store.size() - 2, neighbours, "two chunks");
            for (int index = 0; index < store.size(); index++) {
                assertEquals(index < 10 ? 0 : 10, store.chunkBegin(index));
                assertEquals(index < 10 ? 10 : 30, store.chunkEnd(index));
            }
        }
    }

    @Test
    void withoutPartsEntriesFollowEachOther() {
        try (BlockStore store = new BlockStore(PART_BYTES, BlockStore.RAM)) {
            store.add(3);
            for (int index = 0; index < 3; index++) {
                assertEquals(index * PART_BYTES, store.offset(index));
                assertEquals(store.offset(index), store.offset(index, 0));
            }
            assertTrue(store.segment(0).byteSize() >= 3 * PART_BYTES);
        }
    }

    private static void fill(BlockStore store, int index, int part) {
        store.segment(index)
                .asSlice(store.offset(index, part), PART_BYTES)
                .fill((byte) value(index, part));
    }

    private static void check(BlockStore store, int index, int part) {
        for (int i = 0; i < PART_BYTES; i++) {
            byte found = store.segment(index).get(ValueLayout.JAVA_BYTE, store.offset(index, part) + i);
            assertEquals((byte) value(index, part), found, "entry " + index + ", part " + part);
        }
    }

    private static int value(int index, int part) {
        return 1 + index * PARTS + part;
    }
}
