package io.github.tailorkv.jlama;

import io.github.tailorkv.config.Settings;
import io.github.tailorkv.spi.ForwardingModelCache;
import io.github.tailorkv.spi.KvCacheProvider;
import io.github.tailorkv.spi.ModelCache;
import io.github.tailorkv.spi.ModelShape;
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
        return new ForwardingModelCache(
                provider.open(shape, settings),
                session -> new RecordableSessionCache(session, shape.attention()));
    }
}
