package io.github.tailorkv.cache;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/** Scratch memory that grows to the largest size ever asked for; growing loses what was in it. */
final class GrowingBuffer implements AutoCloseable {

    private Arena arena = Arena.ofShared();
    private MemorySegment memory = MemorySegment.NULL;

    /** Memory of at least {@code bytes} bytes, aligned to cache lines. */
    @SuppressWarnings("MustBeClosedChecker") // closed when it is outgrown or by close()
    MemorySegment atLeast(long bytes) {
        if (memory.byteSize() < bytes) {
            // First, so that a buffer whose growth fails holds nothing, and not memory that was freed.
            memory = MemorySegment.NULL;
            arena.close();
            arena = Arena.ofShared();
            memory = arena.allocate(bytes + bytes / 8 + 64, 64);
        }
        return memory;
    }

    @Override
    public void close() {
        arena.close();
    }
}
