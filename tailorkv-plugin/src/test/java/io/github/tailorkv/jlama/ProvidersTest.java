package io.github.tailorkv.jlama;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.tailorkv.cache.HybridCacheProvider;
import io.github.tailorkv.config.Settings;
import io.github.tailorkv.config.SettingsException;
import io.github.tailorkv.spi.KvCacheProvider;
import io.github.tailorkv.spi.ModelCache;
import io.github.tailorkv.spi.ModelShape;
import java.io.IOException;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Optional;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class ProvidersTest {
    @TempDir
    Path folder;

    private final ClassLoader before = Thread.currentThread().getContextClassLoader();

    /** A provider that only the application's loader knows. */
    public static final class Registered implements KvCacheProvider {
        @Override
        public String name() {
            return "registered";
        }

        @Override
        public Optional<String> unsupported(ModelShape shape) {
            return Optional.empty();
        }

        @Override
        public ModelCache open(ModelShape shape, Settings settings) {
            throw new UnsupportedOperationException();
        }
    }

    @BeforeEach
    void registerInTheThreadsLoader() throws IOException {
        Path services = Files.createDirectories(folder.resolve("META-INF/services"));
        Files.writeString(
                services.resolve(KvCacheProvider.class.getName()),
                "no.such.Provider\n" + ProvidersTest.class.getName() + "\n" + Registered.class.getName() + "\n");
        Thread.currentThread().setContextClassLoader(new URLClassLoader(new URL[] {folder.toUri().toURL()}, before));
    }

    @AfterEach
    void restore() throws IOException {
        ((URLClassLoader) Thread.currentThread().getContextClassLoader()).close();
        Thread.currentThread().setContextClassLoader(before);
    }

    @Test
    void areFoundByName() {
        assertInstanceOf(HybridCacheProvider.class, Providers.named("hybrid"));
        assertInstanceOf(Registered.class, Providers.named("registered"));
    }

    @Test
    void brokenRegistrationsAreToldAndPassedOver() {
        try (LogLines log = new LogLines()) {
            Providers.named("registered");
            assertEquals(2, log.lines().size(), log.lines()::toString);
            assertTrue(log.lines().getFirst().contains("no.such.Provider"), log.lines()::toString);
            assertTrue(log.lines().getLast().contains("not a subtype"), log.lines()::toString);
        }
    }

    @Test
    void unknownNameIsAnErrorThatListsTheKnown() {
        var e = assertThrows(SettingsException.class, () -> Providers.named("hybird"));
        assertTrue(e.toString().contains("tailorkv.provider=hybird"), e.toString());
        assertTrue(e.toString().matches(".* registered are hybrid,.* registered"), e.toString());
    }

    /** Such a loader cannot give a provider that could be used: what it finds implements another interface. */
    @Test
    void loaderThatDoesNotKnowTheInterfaceIsPassedOver() {
        Thread thread = Thread.currentThread();
        ClassLoader registering = thread.getContextClassLoader();
        thread.setContextClassLoader(new ClassLoader(null) {
        });
        try {
            assertInstanceOf(HybridCacheProvider.class, Providers.named("hybrid"));
        } finally {
            thread.setContextClassLoader(registering);
        }
    }
}
