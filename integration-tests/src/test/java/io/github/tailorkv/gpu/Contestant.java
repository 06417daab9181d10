package io.github.tailorkv.gpu;

import io.github.tailorkv.config.Settings;
import io.github.tailorkv.kernels.AttentionShape;
import io.github.tailorkv.spi.KvCacheProvider;
import io.github.tailorkv.spi.ModelCache;
import io.github.tailorkv.spi.ModelShape;
import io.github.tailorkv.spi.SessionCache;
import java.util.Optional;
import java.util.Properties;
import java.util.ServiceLoader;

/** A session of the plugin's own provider under some settings. */
record Contestant(ModelCache model, SessionCache session) implements AutoCloseable {

    /** Opens a session from words such as {@code policy=retrieve}. */
    static Contestant open(AttentionShape shape, int layers, int contextLength, String... words) {
        Properties properties = new Properties();
        properties.setProperty("tailorkv.enabled", "true");
        for (String word : words) {
            int equals = word.indexOf('=');
            properties.setProperty("tailorkv." + word.substring(0, equals), word.substring(equals + 1));
        }
        int threads = Runtime.getRuntime().availableProcessors();
        ModelCache model = provider()
                .open(
                        new ModelShape("test", layers, shape, contextLength, false, threads, Optional.empty()),
                        Settings.from(properties));
        try {
            return new Contestant(model, model.newSession());
        } catch (RuntimeException e) {
            model.close();
            throw e;
        }
    }

    private static KvCacheProvider provider() {
        return ServiceLoader.load(KvCacheProvider.class)
                .stream()
                .map(ServiceLoader.Provider::get)
                .filter(provider -> provider.name().equals("hybrid"))
                .findFirst()
                .orElseThrow();
    }

    @Override
    public void close() {
        session.close();
        model.close();
    }
}
