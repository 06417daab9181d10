package io.github.tailorkv.boot;

import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.lang.System.Logger.Level;
import java.lang.invoke.MethodHandle;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.MethodType;
import java.util.LinkedHashSet;
import java.util.Objects;
import java.util.Set;
import java.util.UUID;
import org.jspecify.annotations.Nullable;

/**
 * The installer for one Jlama, by method handles because its class may exist several times in a JVM. The classes that
 * name Jlama's types, the package {@code io.github.tailorkv.jlama}, must be defined where those very types are seen, and
 * that depends on the application:
 *
 * <ul>
 *   <li>one class path: the loader that defines Jlama finds the package by itself;
 *   <li>Jlama in a child of the loader that has our jar (an agent beside a Spring Boot jar): the package as found by the
 *       parent sees no Jlama, so a {@link BridgeLoader} below the child defines it once more;
 *   <li>our jar in a child of the loader that has Jlama (a web application over a shared library): our own loader sees
 *       both.
 * </ul>
 *
 * <p>{@code OpenKvBuffer} widens a package-private constructor of Jlama, and package-private means same name <em>and</em>
 * same loader: it is always defined by Jlama's own loader, before anything refers to it.
 */
record InstallerLink(MethodHandle install, MethodHandle closeSession) {
    private static final String INSTALLER = BridgeLoader.BRIDGED + "Installer";
    private static final String KV_BUFFER_CACHE = "com.github.tjake.jlama.tensor.KvBufferCache";
    private static final String OPEN_KV_BUFFER = "com.github.tjake.jlama.tensor.OpenKvBuffer";

    /**
     * Finds the installer, or defines it where it has to be.
     *
     * @param abstractModel the class {@code AbstractModel} of that Jlama
     * @throws IllegalStateException if no class loader sees both Jlama and us; the message is for the user
     */
    static InstallerLink to(Class<?> abstractModel) {
        ClassLoader jlama = abstractModel.getClassLoader();
        try {
            Class<?> openKvBuffer = openKvBuffer(jlama);
            Set<@Nullable ClassLoader> hosts = new LinkedHashSet<>();
            hosts.add(jlama);
            hosts.add(LoadHook.class.getClassLoader());
            for (ClassLoader host : hosts) {
                if (sees(host, abstractModel) && sees(host, LoadHook.class)) {
                    Class<?> installer = Class.forName(INSTALLER, false, host);
                    ClassLoader definer = installer.getClassLoader();
                    boolean bridged = !sees(definer, abstractModel) || !sees(definer, openKvBuffer);
                    if (bridged) {
                        installer = new BridgeLoader(host, openKvBuffer).loadClass(INSTALLER);
                    }
                    System.getLogger("io.github.tailorkv").log(Level.DEBUG,
                            "Jlama in {0}, installer in {1}", jlama, installer.getClassLoader());
                    return link(installer, abstractModel);
                }
            }
        } catch (ReflectiveOperationException e) {
            throw new IllegalStateException("it cannot be linked to Jlama in " + jlama + " (" + e + ")", e);
        }
        throw new IllegalStateException("no class loader finds both Jlama (in " + jlama + ") and TailorKV (in "
                + LoadHook.class.getClassLoader() + ")");
    }

    private static InstallerLink link(Class<?> installer, Class<?> abstractModel) throws ReflectiveOperationException {
        MethodHandles.Lookup lookup = MethodHandles.publicLookup();
        MethodHandle closeSession = lookup.findStatic(
                installer, "closeSession", MethodType.methodType(void.class, abstractModel, UUID.class));
        return new InstallerLink(
                lookup.findStatic(installer, "install", MethodType.methodType(void.class, Object.class, File.class)),
                closeSession.asType(MethodType.methodType(void.class, Object.class, UUID.class)));
    }

    private static Class<?> openKvBuffer(@Nullable ClassLoader jlama) throws ReflectiveOperationException {
        Class<?> neighbour = Class.forName(KV_BUFFER_CACHE, false, jlama);
        MethodHandles.Lookup inside = MethodHandles.privateLookupIn(neighbour, MethodHandles.lookup());
        try {
            return inside.defineClass(bytes(OPEN_KV_BUFFER));
        } catch (LinkageError defined) {
            Class<?> existing = Class.forName(OPEN_KV_BUFFER, false, jlama);
            if (!Objects.equals(existing.getClassLoader(), jlama)) {
                throw defined;
            }
            return existing;
        }
    }

    private static boolean sees(@Nullable ClassLoader loader, Class<?> type) {
        try {
            return Class.forName(type.getName(), false, loader) == type;
        } catch (ClassNotFoundException | LinkageError e) {
            return false;
        }
    }

    /** The class file of one of our classes, as our own jar has it. */
    static byte[] bytes(String className) throws ClassNotFoundException {
        try (InputStream file = LoadHook.class.getResourceAsStream("/" + className.replace('.', '/') + ".class")) {
            if (file == null) {
                throw new ClassNotFoundException(className);
            }
            return file.readAllBytes();
        } catch (IOException e) {
            throw new ClassNotFoundException(className, e);
        }
    }
}
