package io.github.tailorkv.spi;

import java.util.function.UnaryOperator;

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
