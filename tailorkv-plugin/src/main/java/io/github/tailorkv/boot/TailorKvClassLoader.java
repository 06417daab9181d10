package io.github.tailorkv.boot;

import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.net.JarURLConnection;
import java.net.MalformedURLException;
import java.net.URI;
import java.net.URL;
import java.net.URLClassLoader;
import java.net.URLConnection;
import java.security.CodeSigner;
import java.security.CodeSource;
import java.util.jar.Manifest;
import org.jspecify.annotations.Nullable;

/**
 * The application's class loader, for {@code -Djava.system.class.loader=io.github.tailorkv.boot.TailorKvClassLoader}: the
 * way in that needs no agent, only our jar anywhere on the class path.
 *
 * <p>It defines what is on the class path in the place of the JDK's own application loader, and in its order, and weaves
 * one call into Jlama on the way, see {@link ModelSupportWeaver}. Classes of the JDK come from the platform loader. The
 * JDK's application loader, which has defined this very class, stays beside it, not above, and is asked for one thing:
 * {@code boot} and what it shares with the rest of us, for an agent and the woven call have to meet the same classes.
 *
 * <p>With another class loader than its own the JVM does without its archive of application classes, and says so on
 * standard output; {@code -Xlog:cds=error} silences that.
 *
 * <p>An instance exists before the JVM is fully started, so the constructor does next to nothing; settings are read when
 * the first class of the application is asked for.
 */
public final class TailorKvClassLoader extends URLClassLoader {
    private static final String BOOT = "io.github.tailorkv.boot.";
    private static final String CONFIG = "io.github.tailorkv.config.";

    static {
        ClassLoader.registerAsParallelCapable();
    }

    private final ClassLoader builtin;

    /**
     * Called by the JVM.
     *
     * @param builtin the JDK's application class loader
     */
    public TailorKvClassLoader(ClassLoader builtin) {
        this(System.getProperty("java.class.path", ""), builtin);
    }

    TailorKvClassLoader(String classPath, ClassLoader builtin) {
        super(urls(classPath), builtin.getParent());
        this.builtin = builtin;
    }

    private static URL[] urls(String classPath) {
        String[] entries = classPath.split(File.pathSeparator, -1);
        URL[] urls = new URL[entries.length];
        for (int i = 0; i < entries.length; i++) {
            urls[i] = url(entries[i]);
        }
        return urls;
    }

    private static URL url(String entry) {
        try {
            return new File(entry).getAbsoluteFile().toURI().toURL();
        } catch (MalformedURLException e) {
            throw new IllegalArgumentException(entry, e);
        }
    }

    /** Called by the JVM when an agent adds a jar to the class path. */
    void appendToClassPathForInstrumentation(String entry) {
        addURL(url(entry));
    }

    @Override
    protected Class<?> loadClass(String name, boolean resolve) throws ClassNotFoundException {
        return name.startsWith(BOOT) || name.startsWith(CONFIG) ? builtin.loadClass(name)
                : super.loadClass(name, resolve);
    }

    @Override
    protected Class<?> findClass(String name) throws ClassNotFoundException {
        boolean weave = Start.REQUESTED && name.equals(ModelSupportWeaver.CLASS);
        Class<?> woven = weave ? defineWoven(name) : null;
        return woven == null ? super.findClass(name) : woven;
    }

    private @Nullable Class<?> defineWoven(String name) {
        String path = name.replace('.', '/') + ".class";
        URL url = findResource(path);
        if (url == null) {
            return null;
        }
        try {
            URLConnection connection = url.openConnection();
            connection.setUseCaches(false);
            byte[] woven;
            CodeSource source;
            Manifest manifest = null;
            try (InputStream file = connection.getInputStream()) {
                woven = ModelSupportWeaver.weave(file.readAllBytes(), this);
                if (connection instanceof JarURLConnection jar) {
                    manifest = jar.getManifest();
                    source = new CodeSource(jar.getJarFileURL(), jar.getJarEntry().getCodeSigners());
                } else {
                    String root = url.toString();
                    root = root.substring(0, root.length() - path.length());
                    source = new CodeSource(URI.create(root).toURL(), (CodeSigner[]) null);
                }
            }
            if (woven == null) {
                return null;
            }
            definePackageOnce(name.substring(0, name.lastIndexOf('.')), manifest, source.getLocation());
            return defineClass(name, woven, 0, woven.length, source);
        } catch (IOException e) {
            Activation.say("Jlama stays stock: " + url + " cannot be read (" + e + ")");
            return null;
        }
    }

    private void definePackageOnce(String packageName, @Nullable Manifest manifest, URL location) {
        if (getDefinedPackage(packageName) != null) {
            return;
        }
        try {
            if (manifest == null) {
                definePackage(packageName, null, null, null, null, null, null, null);
            } else {
                definePackage(packageName, manifest, location);
            }
        } catch (IllegalArgumentException e) {
            // another thread was faster with another class of the package
        }
    }

    /** Asked once, when the JVM is far enough to print a line and to exit. */
    private static final class Start {
        static final boolean REQUESTED = Activation.requestedOrExit();
    }
}
