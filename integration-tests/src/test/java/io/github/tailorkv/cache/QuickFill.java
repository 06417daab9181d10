package io.github.tailorkv.cache;

import io.github.tailorkv.spi.SessionCache;
import java.lang.foreign.MemorySegment;

/** Fills a session without attending, so that a benchmark need not wait for the attention of a prompt it never reads. */
public final class QuickFill {
    private QuickFill() {}

    /** Appends tokens to one layer; shapes as in {@link SessionCache#attend}. */
    public static void append(
            SessionCache cache, int layer, int start, int n, MemorySegment q, MemorySegment k, MemorySegment v) {
        ((HybridSessionCache) cache).append(layer, start, n, q, k, v);
    }
}
