package io.github.tailorkv.jlama;

import com.github.tjake.jlama.model.AbstractModel;

/** One way to keep the KV cache of a {@link LoadedModel}: a provider under settings. */
public final class CacheVariant implements AutoCloseable {
    private final AbstractModel model;
    private final TailorKvBufferCache cache;
    private final String backend;

    CacheVariant(AbstractModel model, TailorKvBufferCache cache, String backend) {
        this.model = model;
        this.cache = cache;
        this.backend = backend;
    }

    /** Starts an empty session. */
    public TokenSession start() {
        return new TokenSession(model, cache);
    }

    /** Where the attention runs. */
    public String backend() {
        return backend;
    }

    /** Frees the sessions that are not closed. */
    @Override
    public void close() {
        cache.close();
    }
}
