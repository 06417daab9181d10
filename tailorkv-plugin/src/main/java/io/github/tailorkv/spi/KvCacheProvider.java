package io.github.tailorkv.spi;

import io.github.tailorkv.config.Settings;
import java.util.Optional;

/**
 * Replaces the KV cache and the attention of a model. Providers are found with {@link java.util.ServiceLoader} and chosen
 * by the property {@code tailorkv.provider}; the one of this project is called {@code hybrid}.
 *
 * <p>The interface names no type of the host, so a provider needs nothing but this package to compile against.
 */
public interface KvCacheProvider {

    /** The name by which {@code tailorkv.provider} chooses this provider. */
    String name();

    /** Why this provider cannot serve a model, in one line; empty if it can. */
    Optional<String> unsupported(ModelShape shape);

    /**
     * Opens the cache of one loaded model.
     *
     * @throws io.github.tailorkv.config.SettingsException if the settings do not fit the model
     */
    ModelCache open(ModelShape shape, Settings settings);
}
