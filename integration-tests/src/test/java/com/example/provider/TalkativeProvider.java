package com.example.provider;

import io.github.tailorkv.config.Settings;
import io.github.tailorkv.spi.KvCacheProvider;
import io.github.tailorkv.spi.ModelCache;
import io.github.tailorkv.spi.ModelShape;
import java.util.Optional;
import java.util.ServiceLoader;

/** Says when it is asked for a cache, and leaves the work to the provider of the house. */
public final class TalkativeProvider implements KvCacheProvider {
    @Override
    public String name() {
        return "talkative";
    }

    @Override
    public Optional<String> unsupported(ModelShape shape) {
        return Optional.empty();
    }

    @Override
    public ModelCache open(ModelShape shape, Settings settings) {
        System.out.println("talkative provider: " + shape.layers() + " layers");
        return ServiceLoader.load(KvCacheProvider.class, KvCacheProvider.class.getClassLoader())
                .stream()
                .filter(provider -> provider.type() != TalkativeProvider.class)
                .map(ServiceLoader.Provider::get)
                .filter(provider -> provider.name().equals("hybrid"))
                .findFirst()
                .orElseThrow()
                .open(shape, settings);
    }
}
