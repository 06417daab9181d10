package io.github.tailorkv.kernels;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

class RecordListTest {

    private static final int HEAD_SIZE = 64;
    private static final int BYTES = BlockLayout.recordBytes(8, HEAD_SIZE);

    private final Arena arena = Arena.ofConfined();
    private final MemorySegment memory = arena.allocate(3L * BYTES);
    private final RecordList list = new RecordList();

    @BeforeEach
    void begin() {
        list.begin(8, HEAD_SIZE);
    }

    @AfterEach
    void close() {
        if (memory.scope().isAlive()) {
            arena.close();
        }
    }

    @Test
    void recordsLieWhereTheyWereSaidTo() {
        MemorySegment other = arena.allocate(BYTES);
        add(memory, 2L * BYTES);
        add(other, 0);
        add(memory, 0);
        assertEquals(3, list.count());
        assertEquals(memory.address() + 2L * BYTES, list.addresses[0]);
        assertEquals(other.address(), list.addresses[1]);
        assertEquals(memory.address(), list.addresses[2]);
        list.begin(4, HEAD_SIZE);
        assertEquals(0, list.count());
    }

    @Test
    void recordsOfTokensLieSideBySideFromTheOriginOn() {
        int[] tokens = {0, 7, 5, 6, 5, 1};
        list.add(memory, -5L * BYTES, tokens, 1, 5);
        assertEquals(4, list.count());
        for (int i = 0; i < 4; i++) {
            assertEquals(memory.address() + (tokens[1 + i] - 5L) * BYTES, list.addresses[i]);
        }
        assertThrows(IndexOutOfBoundsException.class, () -> list.add(memory, -5L * BYTES, tokens, 3, 6));
        assertEquals(4, list.count(), "all of them or none");
        list.add(memory, -5L * BYTES, tokens, 5, 5);
        assertEquals(4, list.count());
    }

    @Test
    void aRecordThatIsNotWhollyThereIsRefused() {
        add(memory, 0);
        assertThrows(IndexOutOfBoundsException.class, () -> add(memory, 2L * BYTES + 1));
        assertThrows(IndexOutOfBoundsException.class, () -> add(memory, -1));
        assertThrows(IndexOutOfBoundsException.class, () -> add(memory.asSlice(0, BYTES - 1), 0));
        assertEquals(1, list.count());
    }

    @Test
    void memoryThatIsRefusedChangesNothing() {
        add(memory, 0);
        MemorySegment heap = MemorySegment.ofArray(new long[BYTES]);
        assertThrows(IllegalArgumentException.class, () -> add(heap, 0));
        assertThrows(IndexOutOfBoundsException.class, () -> add(memory, 3L * BYTES));
        add(memory, BYTES);
        assertEquals(memory.address() + BYTES, list.addresses[1]);
        assertEquals(2, list.count());
    }

    @Test
    void noMemoryHoldsNoRecord() {
        add(memory, 0);
        list.begin(8, HEAD_SIZE);
        assertThrows(IndexOutOfBoundsException.class, () -> add(MemorySegment.NULL, 0));
        assertEquals(0, list.count());
    }

    @Test
    void thereAreNoMoreThanABlockHasTokens() {
        for (int i = 0; i < BlockLayout.BLOCK; i++) {
            add(memory, 0);
        }
        assertThrows(IndexOutOfBoundsException.class, () -> add(memory, 0));
        assertEquals(BlockLayout.BLOCK, list.count());
    }

    @Test
    void whetherMemoryIsThereIsAskedAnewEachTimeTheListIsBegun() {
        add(memory, 0);
        arena.close();
        list.begin(8, HEAD_SIZE);
        assertThrows(IllegalStateException.class, () -> add(memory, 0));
    }

    private void add(MemorySegment from, long offset) {
        list.add(from, offset, new int[1], 0, 1);
    }
}
