package io.github.tailorkv.cache;

import io.github.tailorkv.spi.SessionCache;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/** Fills a session without attending, so that a benchmark need not wait for the attention of a prompt it never reads. */
public final class QuickFill {
    private QuickFill() {}

    /** Appends tokens to one layer; shapes as in {@link SessionCache#attend}. */
    public static void append(
            SessionCache cache, int layer, int start, int n, MemorySegment q, MemorySegment k, MemorySegment v) {
        if (cache instanceof HybridSessionCache hybrid) {
            hybrid.append(layer, start, n, q, k, v);
        } else {
            // On a GPU attending takes no time to speak of.
            cache.attend(layer, start, n, q, k, v, Arena.ofAuto().allocate(q.byteSize(), 64));
        }
    }
}
