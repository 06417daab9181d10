package io.github.tailorkv.bench;

import io.github.tailorkv.config.Settings;
import io.github.tailorkv.spi.ForwardingModelCache;
import io.github.tailorkv.spi.KvCacheProvider;
import io.github.tailorkv.spi.ModelCache;
import io.github.tailorkv.spi.ModelShape;
import io.github.tailorkv.spi.SessionCache;
import java.util.Optional;
import java.util.ServiceLoader;
import org.jspecify.annotations.Nullable;

/**
 * A provider that passes everything on to the plugin's own and only remembers the newest session: the way by which the
 * harness reaches a session's cache, through the public SPI alone.
 */
public final class SessionWatch implements KvCacheProvider {
    static final String NAME = "session-watch";
    private static final String WATCHED = "hybrid";

    private static volatile @Nullable ModelShape shape;
    private static volatile @Nullable SessionCache newest;

    /** The session that was opened last, null if none was. */
    static @Nullable SessionCache newest() {
        return newest;
    }

    /** The shape of the model that was opened last, null if none was. */
    static @Nullable ModelShape shape() {
        return shape;
    }

    @Override
    public String name() {
        return NAME;
    }

    @Override
    public Optional<String> unsupported(ModelShape model) {
        return watched().unsupported(model);
    }

    @Override
    public ModelCache open(ModelShape model, Settings settings) {
        ModelCache cache = watched().open(model, settings);
        shape = model;
        return new ForwardingModelCache(cache, session -> newest = session);
    }

    private static KvCacheProvider watched() {
        return ServiceLoader.load(KvCacheProvider.class, KvCacheProvider.class.getClassLoader())
                .stream()
                .map(ServiceLoader.Provider::get)
                .filter(provider -> provider.name().equals(WATCHED))
                .findFirst()
                .orElseThrow(() -> new IllegalStateException("the plugin has no provider " + WATCHED));
    }
}
