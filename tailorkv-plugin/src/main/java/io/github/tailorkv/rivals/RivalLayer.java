package io.github.tailorkv.rivals;

import java.lang.foreign.MemorySegment;

/** What a rival keeps of one layer. Rows of q, k, v and out as in {@link io.github.tailorkv.spi.SessionCache}. */
interface RivalLayer {

    /** Tokens so far, whether they are still there or not. */
    int length();

    /** Bytes held, beside or instead of those of the whole prompt; 0 where the prompt is gone. */
    long bytes(long promptBytes);

    /** Forgets all tokens from {@code newLength} on. */
    void truncate(int newLength);

    /** Takes note of {@code n} tokens of a prompt that is attended elsewhere. */
    void append(MemorySegment q, MemorySegment k, MemorySegment v, int n);

    /** Appends {@code n} tokens once decoding has started, and attends from each. */
    void decode(MemorySegment q, MemorySegment k, MemorySegment v, MemorySegment out, int n);
}
