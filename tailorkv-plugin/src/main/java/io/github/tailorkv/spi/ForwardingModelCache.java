package io.github.tailorkv.spi;

import java.lang.foreign.MemorySegment;
import java.util.function.UnaryOperator;
import org.jspecify.annotations.Nullable;

/**
 * Another cache whose sessions somebody looks at or wraps.
 *
 * @param cache does all the work
 * @param sessions what becomes of a new session
 */
public record ForwardingModelCache(ModelCache cache, UnaryOperator<SessionCache> sessions) implements ModelCache {

    @Override
    public SessionCache newSession() {
        return sessions.apply(cache.newSession());
    }

    @Override
    public @Nullable MemorySegment lend(long bytes) {
        return cache.lend(bytes);
    }

    @Override
    public String backend() {
        return cache.backend();
    }

    @Override
    public String policy() {
        return cache.policy();
    }

    @Override
    public void close() {
        cache.close();
    }
}
