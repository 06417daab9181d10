package io.github.tailorkv.kernels;

import java.lang.foreign.MemorySegment;
import java.util.Objects;

/**
 * What a thread will read next, to be fetched into its cache while it computes. The Vector API has no prefetch, but a load
 * whose value nobody waits for is one: spread over a loop that keeps the arithmetic units busy, such loads are done before
 * they are in anybody's way. All of them at once, before or after the loop, would hold up the processor as the misses
 * themselves do.
 *
 * <p>An expectation is taken up by the next product of the thread, whichever that is. If an error comes between, whoever
 * expects something takes it back: memory that is gone by then is noticed, memory that another thread frees while it is
 * read is not.
 */
final class Ahead {

    static final ThreadLocal<Ahead> OF_THREAD = ThreadLocal.withInitial(Ahead::new);

    private MemorySegment memory = MemorySegment.NULL;
    private long offset;
    private long bytes;
    /** Keeps the compiler from dropping loads whose values nobody needs. */
    @SuppressWarnings("unused")
    private int touched;

    private Ahead() {}

    void expect(MemorySegment newMemory, long newOffset, long newBytes) {
        Objects.checkFromIndexSize(newOffset, newBytes, newMemory.byteSize());
        // Even the first byte is there to be read only if there is one.
        memory = newBytes == 0 ? MemorySegment.NULL : newMemory;
        offset = newOffset;
        bytes = newBytes;
    }

    /** Address expected next, 0 if none; whoever asks fetches it. */
    long take() {
        MemorySegment expected = memory;
        memory = MemorySegment.NULL;
        return expected.address() == 0 || !expected.isNative() || !expected.scope().isAlive()
                ? 0
                : expected.address() + offset;
    }

    /** Bytes of what {@link #take} returned. */
    long bytes() {
        return bytes;
    }

    void touched(int values) {
        touched = values;
    }
}
