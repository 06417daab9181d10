package io.github.tailorkv.bench;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.File;
import java.io.IOException;
import java.io.PrintWriter;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.function.Consumer;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/**
 * Starts {@link MeasuredRun} in a JVM of its own, on this JVM's class path without the plugin: the plugin comes in by its
 * jar alone, as a user would add it. The child's temp folder, where stock Jlama leaves its pages, goes away with it.
 */
final class ContenderJvm {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final Pattern NOT_FOR_CHILDREN = Pattern.compile("tailorkv-(plugin|kernels)|tailorkv\\.jar|logback");

    private final Path jar;
    private final String heap;
    private final List<String> moreFlags;
    private final PrintWriter log;

    ContenderJvm(Path jar, String heap, List<String> moreFlags, PrintWriter log) {
        this.jar = jar;
        this.heap = heap;
        this.moreFlags = moreFlags;
        this.log = log;
    }

    /**
     * Runs a request to its end.
     *
     * @param measurements takes each measurement as it comes
     * @return the child's summary, and for the plugin its report under {@code report}
     * @throws IllegalStateException if the child failed, or the plugin was asked for and did not serve
     */
    Outcome run(RunRequest request, Configuration configuration, Consumer<Measurement> measurements)
            throws IOException, InterruptedException {
        Path temp = Files.createTempDirectory("tailorkv-bench").toAbsolutePath();
        try {
            Path report = temp.resolve("report.json");
            Process process = new ProcessBuilder(command(request, configuration, temp, report))
                    .redirectError(ProcessBuilder.Redirect.INHERIT)
                    .start();
            JsonNode summary = null;
            try (BufferedReader lines = process.inputReader()) {
                for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                    if (!line.startsWith("{")) {
                        log.println(line);
                        continue;
                    }
                    JsonNode node = JSON.readTree(line);
                    if (node.has("decodeMs")) {
                        measurements.accept(JSON.treeToValue(node, Measurement.class));
                    } else {
                        summary = node;
                    }
                }
            } finally {
                process.destroy();
            }
            int exit = process.waitFor();
            if (exit != 0 || summary == null) {
                throw new IllegalStateException(configuration.name() + " ended with exit code " + exit);
            }
            return new Outcome(
                    JSON.treeToValue(summary, RunSummary.class),
                    configuration.stock() ? JSON.createObjectNode() : report(report, configuration));
        } finally {
            delete(temp);
        }
    }

    /** What a child leaves behind; the report is empty for stock. */
    record Outcome(RunSummary summary, JsonNode report) {}

    private static JsonNode report(Path file, Configuration configuration) throws IOException {
        JsonNode report = Files.exists(file) ? JSON.readTree(file.toFile()) : JSON.createObjectNode();
        if (report.path("sessions").asInt() == 0) {
            throw new IllegalStateException(
                    "The plugin did not serve the model under '" + configuration.name() + "'; see its log above.");
        }
        return report;
    }

    private List<String> command(RunRequest request, Configuration configuration, Path temp, Path report)
            throws IOException {
        List<String> command = new ArrayList<>();
        command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
        command.addAll(
                List.of(
                        "--add-modules=jdk.incubator.vector",
                        "--enable-native-access=ALL-UNNAMED",
                        "--sun-misc-unsafe-memory-access=allow",
                        "-Xmx" + heap,
                        "-Djava.io.tmpdir=" + temp,
                        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"));
        command.addAll(moreFlags);
        if (!configuration.stock()) {
            command.add("-javaagent:" + jar);
            command.add("-Dtailorkv.enabled=true");
            command.add("-Dtailorkv.report=" + report);
            if (request.synthetic()) {
                command.add("-Dtailorkv.provider=" + SessionWatch.NAME);
            }
            configuration.properties().forEach((name, value) -> command.add("-D" + name + "=" + value));
        }
        command.addAll(List.of("-cp", classPath(), MeasuredRun.class.getName(), JSON.writeValueAsString(request)));
        return command;
    }

    private static String classPath() {
        return Pattern.compile(File.pathSeparator, Pattern.LITERAL)
                .splitAsStream(System.getProperty("java.class.path"))
                .filter(entry -> !NOT_FOR_CHILDREN.matcher(entry).find() || entry.endsWith("test-classes"))
                .collect(Collectors.joining(File.pathSeparator));
    }

    private static void delete(Path folder) throws IOException {
        try (Stream<Path> files = Files.walk(folder)) {
            for (Path file : files.sorted(Comparator.reverseOrder()).toList()) {
                Files.delete(file);
            }
        } catch (UncheckedIOException e) {
            throw e.getCause();
        }
    }
}
