package io.github.tailorkv.cache;

import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;

class GrowingBufferTest {

    /** The workspace that owns it goes on with the next session, whatever became of the one that asked for too much. */
    @Test
    void growthThatFailsLeavesNoMemoryThatWasFreed() {
        try (GrowingBuffer buffer = new GrowingBuffer()) {
            buffer.atLeast(1000);
            assertThrows(OutOfMemoryError.class, () -> buffer.atLeast(1L << 60));
            assertTrue(buffer.atLeast(1000).scope().isAlive());
        }
    }
}
