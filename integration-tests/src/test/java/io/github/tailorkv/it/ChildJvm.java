package io.github.tailorkv.it;

import static org.junit.jupiter.api.Assertions.fail;

import java.io.File;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;
import java.util.function.Predicate;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/**
 * A JVM of its own, of the JDK that this test runs on, with the flags that Jlama needs. It starts in a folder of its own,
 * which is its temp folder too, so that a test sees what it leaves behind.
 */
final class ChildJvm {
    /** The jar under test. */
    static final Path TAILORKV = path("built.tailorkv.jar");
    /** A small real model. */
    static final Path MODEL = path("reference.model");

    /** The classes of this module. */
    static final Path TEST_CLASSES = path("test.classes");

    private static final List<String> NOT_JLAMA = List.of("tailorkv", "junit", "opentest4j", "apiguardian", "surefire",
            "jmh", "jopt-simple", "commons-math3", "jspecify", "spring-boot-loader", "langchain4j");

    private final Path folder;
    private final List<String> options = new ArrayList<>();
    private final Map<String, String> properties = new TreeMap<>();
    private final List<Path> classPath = new ArrayList<>();
    private Duration limit = Duration.ofMinutes(3);

    /** @param folder an empty folder to start in */
    ChildJvm(Path folder) {
        this.folder = folder;
        option("--add-modules=jdk.incubator.vector", "--enable-native-access=ALL-UNNAMED", "-Xmx1g");
        property("java.io.tmpdir", folder);
    }

    /** What a JVM printed, and its exit status. */
    record Ended(int status, List<String> out, List<String> err) {
        /** The rest of the one line of standard output that starts so. */
        String after(String start) {
            List<String> lines = out.stream().filter(line -> line.startsWith(start)).toList();
            return lines.size() == 1 ? lines.get(0).substring(start.length())
                    : fail("not one line starts with \"" + start + "\"\n" + this);
        }

        /** The lines of standard error that have this in them. */
        List<String> errWith(String part) {
            return err.stream().filter(line -> line.contains(part)).toList();
        }

        /** Itself, if the JVM ended with status 0. */
        Ended successful() {
            return status == 0 ? this : fail("" + this);
        }

        @Override
        public String toString() {
            return "exit status " + status + "\n-- out\n" + String.join("\n", out) + "\n-- err\n"
                    + String.join("\n", err);
        }
    }

    ChildJvm option(String... more) {
        options.addAll(Arrays.asList(more));
        return this;
    }

    ChildJvm agent() {
        return option("-javaagent:" + TAILORKV);
    }

    ChildJvm systemClassLoader() {
        return property("java.system.class.loader", "io.github.tailorkv.boot.TailorKvClassLoader");
    }

    ChildJvm property(String name, Object value) {
        properties.put(name, value.toString());
        return this;
    }

    ChildJvm enabled() {
        return property("tailorkv.enabled", true);
    }

    ChildJvm classPath(Path... more) {
        return classPath(Arrays.asList(more));
    }

    ChildJvm classPath(List<Path> more) {
        classPath.addAll(more);
        return this;
    }

    ChildJvm limit(Duration duration) {
        limit = duration;
        return this;
    }

    /** Runs a main class to its end; {@code "-jar"} with the jar as first argument does as well. */
    Ended run(String mainClass, Object... arguments) throws IOException, InterruptedException {
        try (Running running = start(mainClass, arguments)) {
            return running.await();
        }
    }

    /** As {@link #run}, to talk to it meanwhile. */
    Running start(String mainClass, Object... arguments) throws IOException {
        List<String> command = new ArrayList<>();
        command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
        command.addAll(options);
        properties.forEach((name, value) -> command.add("-D" + name + "=" + value));
        if (!classPath.isEmpty()) {
            command.add("-cp");
            command.add(classPath.stream().map(Path::toString).collect(Collectors.joining(File.pathSeparator)));
        }
        command.add(mainClass);
        Stream.of(arguments).map(Object::toString).forEach(command::add);
        Path out = folder.resolve("child.out");
        Path err = folder.resolve("child.err");
        ProcessBuilder builder = new ProcessBuilder(command)
                .directory(folder.toFile())
                .redirectOutput(out.toFile())
                .redirectError(err.toFile());
        builder.environment().keySet().removeAll(List.of("JDK_JAVA_OPTIONS", "JAVA_TOOL_OPTIONS", "CLASSPATH"));
        return new Running(builder.start(), out, err, Instant.now().plus(limit));
    }

    /** A JVM that may still run; closing it ends it. */
    record Running(Process process, Path out, Path err, Instant deadline) implements AutoCloseable {
        Ended await() throws IOException, InterruptedException {
            boolean ended = process.waitFor(Instant.now().until(deadline, ChronoUnit.MILLIS), TimeUnit.MILLISECONDS);
            return ended ? soFar(process.exitValue()) : fail("not over in time\n" + soFar(-1));
        }

        /** Waits for a line of standard output. */
        void awaitOutput(String line) throws IOException, InterruptedException {
            awaitOutput(line::equals);
        }

        /** Waits for a line of standard output of some kind. */
        void awaitOutput(Predicate<String> kind) throws IOException, InterruptedException {
            while (lines(out).stream().noneMatch(kind)) {
                if (!process.isAlive() || Instant.now().isAfter(deadline)) {
                    fail("the line that is waited for does not come\n" + soFar(-1));
                }
                Thread.sleep(20);
            }
        }

        private Ended soFar(int status) throws IOException {
            return new Ended(status, lines(out), lines(err));
        }

        @Override
        public void close() {
            process.destroyForcibly();
        }
    }

    private static List<String> lines(Path file) throws IOException {
        return new String(Files.readAllBytes(file), StandardCharsets.UTF_8).lines().toList();
    }

    /** Jlama and what it needs, as Maven resolved it: this JVM's class path without us and without what tests need. */
    static List<Path> jlama() {
        return classPathOfThisJvm()
                .filter(Files::isRegularFile)
                .filter(jar -> NOT_JLAMA.stream().noneMatch(jar.getFileName().toString()::startsWith))
                .toList();
    }

    /** The one jar of this JVM's class path whose name starts so. */
    static Path library(String name) {
        List<Path> found = classPathOfThisJvm().filter(jar -> jar.getFileName().toString().startsWith(name)).toList();
        return found.size() == 1 ? found.get(0)
                : fail("not one jar on the class path is called " + name + "...: " + found);
    }

    private static Stream<Path> classPathOfThisJvm() {
        return Stream.of(System.getProperty("java.class.path").split(File.pathSeparator)).map(Path::of);
    }

    private static Path path(String property) {
        String path = System.getProperty(property);
        return path == null ? fail("run with Maven: the property " + property + " is missing") : Path.of(path);
    }
}
