package io.github.tailorkv.tools;

import java.io.File;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.net.URISyntaxException;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.jar.JarFile;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;

/**
 * The JVM that a model runs in. Jlama is not in our jar, and it needs a module that only the command line can add; so
 * {@code java -jar tailorkv.jar} starts a second JVM that has both, with the options of the first.
 */
final class JlamaProcess {
    private static final String PRESENT = "com.github.tjake.jlama.model.AbstractModel";
    private static final String VECTOR_MODULE = "jdk.incubator.vector";
    private static final String CHILD = "io.github.tailorkv.child";

    private JlamaProcess() {}

    /** Whether this JVM can run a model. */
    static boolean isHere() {
        return hasJlama() && ModuleLayer.boot().findModule(VECTOR_MODULE).isPresent();
    }

    private static boolean hasJlama() {
        try {
            Class.forName(PRESENT, false, JlamaProcess.class.getClassLoader());
            return true;
        } catch (ClassNotFoundException | LinkageError e) {
            return false;
        }
    }

    /**
     * Runs the same command line where Jlama is.
     *
     * @param jlama what the user gave as its place, if anything
     * @return the exit code
     */
    static int run(@Nullable String jlama, List<String> arguments)
            throws ToolException, IOException, InterruptedException {
        if (System.getProperty(CHILD) != null) {
            throw new ToolException(
                    "this Java lacks the module " + VECTOR_MODULE + ", which Jlama needs; use a JDK 25");
        }
        List<String> command = new ArrayList<>();
        command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
        command.addAll(ManagementFactory.getRuntimeMXBean().getInputArguments());
        command.add("--add-modules=" + VECTOR_MODULE);
        command.add("--enable-native-access=ALL-UNNAMED");
        command.add("-D" + CHILD + "=true");
        command.add("-cp");
        command.add(classPath(jlama));
        command.add(Main.class.getName());
        command.addAll(arguments);
        Process process = new ProcessBuilder(command).inheritIO().start();
        Thread end = new Thread(process::destroy, "tailorkv-end");
        Runtime.getRuntime().addShutdownHook(end);
        int code = process.waitFor();
        try {
            Runtime.getRuntime().removeShutdownHook(end);
        } catch (IllegalStateException e) {
            // this JVM is ending as well
        }
        return code;
    }

    private static String classPath(@Nullable String option) throws ToolException, IOException {
        String own = own();
        if (hasJlama()) {
            return own + File.pathSeparator + System.getProperty("java.class.path");
        }
        String place = option != null ? option : System.getenv("JLAMA_CLASSPATH");
        if (place == null || place.isBlank()) {
            throw new ToolException("Jlama 0.8.4 is not on the class path; add --jlama PATH with a folder that holds "
                    + "jlama-core and the jars it depends on (mvn dependency:copy-dependencies makes one in "
                    + "target/dependency), or set the environment variable JLAMA_CLASSPATH to it");
        }
        List<Path> jars = jars(place);
        if (jars.stream().noneMatch(JlamaProcess::holdsJlama)) {
            throw new ToolException("there is no Jlama in " + place + ": none of its " + jars.size()
                    + " jars holds " + PRESENT);
        }
        return own + File.pathSeparator
                + String.join(File.pathSeparator, jars.stream().map(Path::toString).toList());
    }

    private static String own() {
        try {
            return Path.of(JlamaProcess.class.getProtectionDomain().getCodeSource().getLocation().toURI()).toString();
        } catch (URISyntaxException e) {
            throw new IllegalStateException(e);
        }
    }

    private static List<Path> jars(String place) throws ToolException, IOException {
        List<Path> jars = new ArrayList<>();
        for (String part : place.split(File.pathSeparator, -1)) {
            String name = part.endsWith("*") ? part.substring(0, part.length() - 1) : part;
            Path path;
            try {
                path = Path.of(name);
            } catch (InvalidPathException e) {
                throw new ToolException(name + " is no path");
            }
            if (!Files.exists(path)) {
                throw new ToolException("there is no " + path + ", where Jlama should be");
            }
            if (Files.isDirectory(path)) {
                try (Stream<Path> files = Files.list(path)) {
                    files.filter(file -> file.toString().endsWith(".jar")).sorted().forEach(jars::add);
                }
            } else {
                jars.add(path);
            }
        }
        return jars;
    }

    private static boolean holdsJlama(Path jar) {
        try (JarFile file = new JarFile(jar.toFile())) {
            return file.getEntry(PRESENT.replace('.', '/') + ".class") != null;
        } catch (IOException e) {
            return false;
        }
    }
}
