package io.github.tailorkv.boot;

/**
 * Defines our classes that name Jlama's types, and nothing else, below a loader that sees Jlama. Everything else comes
 * from that loader.
 */
final class BridgeLoader extends ClassLoader {
    /** The package that is defined here, with the dot that ends it. */
    static final String BRIDGED = "io.github.tailorkv.jlama.";

    static {
        ClassLoader.registerAsParallelCapable();
    }

    private final Class<?> openKvBuffer;

    /**
     * @param host sees Jlama and the rest of TailorKV
     * @param openKvBuffer as defined by Jlama's loader: asked by name, {@code host} might answer with another
     */
    BridgeLoader(ClassLoader host, Class<?> openKvBuffer) {
        super("tailorkv-bridge", host);
        this.openKvBuffer = openKvBuffer;
    }

    @Override
    protected Class<?> loadClass(String name, boolean resolve) throws ClassNotFoundException {
        if (name.equals(openKvBuffer.getName())) {
            return openKvBuffer;
        }
        if (!name.startsWith(BRIDGED)) {
            return super.loadClass(name, resolve);
        }
        synchronized (getClassLoadingLock(name)) {
            Class<?> defined = findLoadedClass(name);
            return defined == null ? findClass(name) : defined;
        }
    }

    @Override
    protected Class<?> findClass(String name) throws ClassNotFoundException {
        byte[] bytes = InstallerLink.bytes(name);
        return defineClass(name, bytes, 0, bytes.length, LoadHook.class.getProtectionDomain());
    }
}
