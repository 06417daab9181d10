package io.github.tailorkv.boot;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertSame;

import io.github.tailorkv.kernels.AttentionShape;
import java.io.File;
import java.io.IOException;
import java.lang.invoke.MethodHandle;
import java.lang.invoke.MethodHandles;
import java.lang.reflect.Method;
import java.net.URI;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** Jlama and TailorKV in every constellation of class loaders: the installer sees the Jlama it was found for. */
class InstallerLinkTest {
    private static final ClassLoader PLATFORM = ClassLoader.getPlatformClassLoader();

    private final Set<URI> ours = new LinkedHashSet<>();
    private final Set<URI> jlamas = new LinkedHashSet<>();
    private final List<URLClassLoader> loaders = new ArrayList<>();

    @BeforeEach
    void divideTheClassPath() throws Exception {
        for (Class<?> type : List.of(LoadHook.class, AttentionShape.class)) {
            ours.add(type.getProtectionDomain().getCodeSource().getLocation().toURI());
        }
        for (String entry : System.getProperty("java.class.path").split(File.pathSeparator, -1)) {
            jlamas.add(Path.of(entry).toUri());
        }
        jlamas.removeAll(ours);
    }

    @AfterEach
    void closeLoaders() throws IOException {
        for (URLClassLoader loader : loaders) {
            loader.close();
        }
    }

    @Test
    void bothInOneLoader() throws Exception {
        jlamas.addAll(ours);
        ClassLoader both = loader(jlamas, PLATFORM);
        assertSame(both, linked(both, both));
    }

    @Test
    void jlamaBelow() throws Exception {
        ClassLoader upper = loader(ours, PLATFORM);
        ClassLoader lower = loader(jlamas, upper);
        ClassLoader bridge = linked(upper, lower);
        assertEquals(BridgeLoader.class.getName(), bridge.getClass().getName());
        assertSame(lower, bridge.getParent());
    }

    @Test
    void jlamaAbove() throws Exception {
        ClassLoader upper = loader(jlamas, PLATFORM);
        ClassLoader lower = loader(ours, upper);
        assertSame(lower, linked(lower, upper));
    }

    /** As web containers load: from the application first, so that it finds our class of Jlama's package in its own jar. */
    @Test
    void jlamaAboveALoaderThatAsksItselfFirst() throws Exception {
        ClassLoader upper = loader(jlamas, PLATFORM);
        ClassLoader lower = keep(new ChildFirst(urls(ours), upper));
        ClassLoader bridge = linked(lower, upper);
        assertEquals(BridgeLoader.class.getName(), bridge.getClass().getName());
        assertSame(lower, bridge.getParent());
    }

    @Test
    void twoOfJlamaBelow() throws Exception {
        ClassLoader upper = loader(ours, PLATFORM);
        ClassLoader one = linked(upper, loader(jlamas, upper));
        ClassLoader other = linked(upper, loader(jlamas, upper));
        assertEquals(2, Set.of(one, other).size());
    }

    /** The loader of the installer that a hook in {@code home} finds for a model of {@code jlama}. */
    private static ClassLoader linked(ClassLoader home, ClassLoader jlama) throws Exception {
        Class<?> abstractModel = jlama.loadClass("com.github.tjake.jlama.model.AbstractModel");
        Method to = home.loadClass(InstallerLink.class.getName()).getDeclaredMethod("to", Class.class);
        to.setAccessible(true);
        Object link = to.invoke(null, abstractModel);
        Method install = link.getClass().getDeclaredMethod("install");
        install.setAccessible(true);
        ClassLoader linked = MethodHandles.lookup().revealDirect((MethodHandle) install.invoke(link))
                .getDeclaringClass()
                .getClassLoader();
        assertSame(abstractModel, linked.loadClass(abstractModel.getName()));
        assertSame(jlama, linked.loadClass("com.github.tjake.jlama.tensor.OpenKvBuffer").getClassLoader());
        assertSame(home.loadClass(LoadHook.class.getName()), linked.loadClass(LoadHook.class.getName()));
        return linked;
    }

    private ClassLoader loader(Set<URI> classPath, ClassLoader parent) throws IOException {
        return keep(new URLClassLoader(urls(classPath), parent));
    }

    private static URL[] urls(Set<URI> classPath) throws IOException {
        URL[] urls = new URL[classPath.size()];
        int i = 0;
        for (URI entry : classPath) {
            urls[i++] = entry.toURL();
        }
        return urls;
    }

    private ClassLoader keep(URLClassLoader loader) {
        loaders.add(loader);
        return loader;
    }

    private static final class ChildFirst extends URLClassLoader {
        ChildFirst(URL[] urls, ClassLoader parent) {
            super(urls, parent);
        }

        @Override
        protected Class<?> loadClass(String name, boolean resolve) throws ClassNotFoundException {
            synchronized (getClassLoadingLock(name)) {
                Class<?> loaded = findLoadedClass(name);
                if (loaded != null) {
                    return loaded;
                }
                try {
                    return findClass(name);
                } catch (ClassNotFoundException e) {
                    return super.loadClass(name, resolve);
                }
            }
        }
    }
}
