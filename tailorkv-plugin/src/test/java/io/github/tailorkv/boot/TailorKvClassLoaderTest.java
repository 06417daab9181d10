package io.github.tailorkv.boot;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;

import io.github.tailorkv.config.Settings;
import io.github.tailorkv.spi.KvCacheProvider;
import java.io.File;
import java.io.IOException;
import java.lang.classfile.ClassFile;
import java.lang.constant.ClassDesc;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Collections;
import java.util.jar.Attributes;
import java.util.jar.JarEntry;
import java.util.jar.JarOutputStream;
import java.util.jar.Manifest;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What an application may expect of its class loader, and what we expect of it. */
class TailorKvClassLoaderTest {
    private static final ClassLoader BUILTIN = ClassLoader.getSystemClassLoader();

    @TempDir
    private Path folder;

    @Test
    void definesClassesOfJarsAndFoldersInTheOrderOfThePath() throws Exception {
        Path jar = jar("one.jar", new Manifest(), "sample/InBoth.class", "sample/InJar.class");
        Path classes = Files.createDirectories(folder.resolve("class es"));
        write(classes, "sample/InBoth.class");
        write(classes, "sample/InFolder.class");
        try (var loader = loader(jar, folder.resolve("missing.jar"), classes)) {
            assertEquals(jar.toUri().toURL(), location(loader.loadClass("sample.InJar")));
            assertEquals(jar.toUri().toURL(), location(loader.loadClass("sample.InBoth")));
            assertEquals(classes.toUri().toURL(), location(loader.loadClass("sample.InFolder")));
            assertSame(loader, loader.loadClass("sample.InFolder").getClassLoader());
            assertThrows(ClassNotFoundException.class, () -> loader.loadClass("sample.Nowhere"));
        }
    }

    @Test
    void knowsManifests() throws Exception {
        Manifest first = new Manifest();
        first.getMainAttributes().put(Attributes.Name.CLASS_PATH, "second.jar");
        jar("second.jar", titled("second"), "second/InSecond.class");
        Manifest multiRelease = titled("multi");
        multiRelease.getMainAttributes().put(Attributes.Name.MULTI_RELEASE, "true");
        Path versions = jar("versions.jar", multiRelease, "multi/Versioned.class",
                "META-INF/versions/9/multi/OnlyFromNine.class");
        try (var loader = loader(jar("first.jar", first, "first/InFirst.class"), versions)) {
            assertEquals("second", loader.loadClass("second.InSecond").getPackage().getImplementationTitle());
            assertEquals("multi", loader.loadClass("multi.OnlyFromNine").getPackage().getImplementationTitle());
        }
    }

    @Test
    void findsEveryResourceOnce() throws Exception {
        try (var loader = loader(jar("one.jar", new Manifest(), "same/text.txt"),
                jar("two.jar", new Manifest(), "same/text.txt"))) {
            assertEquals(2, Collections.list(loader.getResources("same/text.txt")).size());
        }
        try (var same = new TailorKvClassLoader(System.getProperty("java.class.path"), BUILTIN)) {
            String ours = LoadHook.class.getName().replace('.', '/') + ".class";
            assertEquals(Collections.list(BUILTIN.getResources(ours)), Collections.list(same.getResources(ours)));
        }
    }

    /** The hook that Jlama calls, and the exception that may come out of it, must be those that an agent sees. */
    @Test
    void sharesWhatAnAgentMeets() throws Exception {
        try (var loader = new TailorKvClassLoader(System.getProperty("java.class.path"), BUILTIN)) {
            assertSame(LoadHook.class, loader.loadClass(LoadHook.class.getName()));
            assertSame(Settings.class, loader.loadClass(Settings.class.getName()));
            assertNotEquals(KvCacheProvider.class, loader.loadClass(KvCacheProvider.class.getName()));
            assertSame(String.class, loader.loadClass("java.lang.String"));
            assertSame(BUILTIN.loadClass("com.sun.tools.javac.Main"), loader.loadClass("com.sun.tools.javac.Main"));
        }
    }

    @Test
    void takesJarsOfAgents() throws Exception {
        try (var loader = loader()) {
            loader.appendToClassPathForInstrumentation(
                    jar("agent.jar", new Manifest(), "sample/Agent.class").toString());
            assertSame(loader, loader.loadClass("sample.Agent").getClassLoader());
        }
    }

    private static TailorKvClassLoader loader(Path... classPath) {
        return new TailorKvClassLoader(
                Arrays.stream(classPath).map(Path::toString).collect(Collectors.joining(File.pathSeparator)), BUILTIN);
    }

    private static java.net.URL location(Class<?> type) {
        return type.getProtectionDomain().getCodeSource().getLocation();
    }

    private static Manifest titled(String title) {
        Manifest manifest = new Manifest();
        manifest.getMainAttributes().put(Attributes.Name.IMPLEMENTATION_TITLE, title);
        return manifest;
    }

    private Path jar(String name, Manifest manifest, String... entries) throws IOException {
        manifest.getMainAttributes().put(Attributes.Name.MANIFEST_VERSION, "1.0");
        Path jar = folder.resolve(name);
        try (var out = new JarOutputStream(Files.newOutputStream(jar), manifest)) {
            for (String entry : entries) {
                out.putNextEntry(new JarEntry(entry));
                out.write(content(entry));
            }
        }
        return jar;
    }

    private static void write(Path root, String entry) throws IOException {
        Path file = root.resolve(entry);
        Files.createDirectories(file.getParent());
        Files.write(file, content(entry));
    }

    private static byte[] content(String entry) {
        String name = entry.replaceFirst("META-INF/versions/[0-9]+/", "").replace('/', '.');
        return name.endsWith(".class")
                ? ClassFile.of().build(ClassDesc.of(name.substring(0, name.length() - ".class".length())), b -> {})
                : name.getBytes(java.nio.charset.StandardCharsets.UTF_8);
    }
}
