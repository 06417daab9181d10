package io.github.tailorkv.jlama;

import com.github.tjake.jlama.model.AbstractModel;
import io.github.tailorkv.config.SettingsException;
import io.github.tailorkv.spi.KvCacheProvider;
import java.lang.System.Logger;
import java.lang.System.Logger.Level;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.ServiceConfigurationError;
import java.util.ServiceLoader;
import java.util.stream.Stream;

/**
 * The registered {@link KvCacheProvider}s. They are looked for with our own loader, with Jlama's, which in a fat jar is
 * the application's, and with the thread's; a loader that knows the interface under another identity is passed over, for
 * nothing it finds could be used.
 */
final class Providers {
    private static final Logger LOG = System.getLogger("io.github.tailorkv");

    private Providers() {}

    /**
     * The provider of that name.
     *
     * @throws SettingsException if there is none
     */
    static KvCacheProvider named(String name) {
        Map<String, KvCacheProvider> found = new LinkedHashMap<>();
        Stream.of(
                Providers.class.getClassLoader(), AbstractModel.class.getClassLoader(),
                Thread.currentThread().getContextClassLoader())
                .filter(Providers::knowsInterface)
                .distinct()
                .forEach(loader -> collect(loader, found));
        KvCacheProvider chosen = found.get(name);
        if (chosen == null) {
            throw new SettingsException(
                    "tailorkv.provider=" + name + " is not registered; registered are "
                            + String.join(", ", found.keySet()));
        }
        return chosen;
    }

    private static boolean knowsInterface(ClassLoader loader) {
        try {
            return loader != null && loader.loadClass(KvCacheProvider.class.getName()) == KvCacheProvider.class;
        } catch (ClassNotFoundException e) {
            return false;
        }
    }

    private static void collect(ClassLoader loader, Map<String, KvCacheProvider> found) {
        Iterator<ServiceLoader.Provider<KvCacheProvider>> candidates = ServiceLoader.load(KvCacheProvider.class, loader)
                .stream().iterator();
        while (true) {
            try {
                if (!candidates.hasNext()) {
                    return;
                }
                KvCacheProvider provider = candidates.next().get();
                found.putIfAbsent(provider.name(), provider);
            } catch (ServiceConfigurationError | LinkageError e) {
                LOG.log(Level.WARNING, "A registered KV cache provider cannot be used: " + e.getMessage());
            }
        }
    }
}
