package com.github.tjake.jlama.tensor;

import java.util.UUID;

/**
 * A {@link KvBufferCache.KvBuffer} that code outside Jlama can extend.
 *
 * <p>It stands in Jlama's package because the constructor of {@code KvBuffer} is package-private; for the same reason the
 * loader that defines this class must be the one that defines {@link KvBufferCache}. It adds nothing else: all of the
 * buffer's behaviour is replaced in {@code io.github.tailorkv.jlama}.
 */
public abstract class OpenKvBuffer extends KvBufferCache.KvBuffer {
    /** Jlama's own page size; no page is ever allocated, the constructor only divides by it. */
    private static final int PAGE_BYTES = 1 << 23;

    /**
     * @param cache the cache that the buffer belongs to
     * @param session id of the session
     */
    protected OpenKvBuffer(KvBufferCache cache, UUID session) {
        cache.super(session, PAGE_BYTES, false);
    }
}
