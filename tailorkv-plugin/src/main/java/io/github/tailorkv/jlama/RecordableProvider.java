package io.github.tailorkv.jlama;

import io.github.tailorkv.config.Settings;
import io.github.tailorkv.spi.KvCacheProvider;
import io.github.tailorkv.spi.ModelCache;
import io.github.tailorkv.spi.ModelShape;
import io.github.tailorkv.spi.SessionCache;
import java.util.Optional;

/** Another provider, whose sessions can be recorded while they read a prompt. */
record RecordableProvider(KvCacheProvider provider) implements KvCacheProvider {

    @Override
    public String name() {
        return provider.name();
    }

    @Override
    public Optional<String> unsupported(ModelShape shape) {
        return provider.unsupported(shape);
    }

    @Override
    public ModelCache open(ModelShape shape, Settings settings) {
        ModelCache cache = provider.open(shape, settings);
        return new ModelCache() {
            @Override
            public SessionCache newSession() {
                return new RecordableSessionCache(cache.newSession(), shape.attention());
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
        };
    }
}
