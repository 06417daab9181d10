package io.github.tailorkv.bench;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;

/** Each mode of the benchmark on a tiny model, so that none of them rots. */
class EndToEndIT {
    @TempDir
    Path folder;

    @Test
    @EnabledOnOs(OS.LINUX)
    void measuresTheDisk() throws Throwable {
        ByteArrayOutputStream log = new ByteArrayOutputStream();
        DiskTier.run(2048, folder.toString(), new PrintStream(log, true, StandardCharsets.UTF_8));
        String text = log.toString(StandardCharsets.UTF_8);
        assertEquals(4, text.lines().count(), text);
        assertTrue(text.contains("disk, nothing in RAM"), text);
    }

    @Test
    void measuresALayer() {
        ByteArrayOutputStream log = new ByteArrayOutputStream();
        PrintStream lines = new PrintStream(log, true, StandardCharsets.UTF_8);
        LayerSteps.run(new int[] {100, 600}, 4, "policy=retrieve,budget=64", lines);
        String text = log.toString(StandardCharsets.UTF_8);
        assertTrue(text.matches("policy=retrieve,budget=64 +100 [0-9.]+ ms \\([0-9.]+\\) +600 [0-9.]+ ms .*\\s"), text);
    }

    /** The bound is the project's own: reading a prompt takes at most 1.3 times the memory of the finished cache. */
    @Test
    @EnabledOnOs(OS.LINUX)
    void readingAPromptTakesLittleMoreMemoryThanItsCache() throws IOException, InterruptedException {
        Process process = new ProcessBuilder(
                Path.of(System.getProperty("java.home"), "bin", "java").toString(), "-Xms256m", "-Xmx256m",
                "-XX:+AlwaysPreTouch", "--add-modules=jdk.incubator.vector", "--enable-native-access=ALL-UNNAMED",
                "-Dtailorkv.backend=panama", "-cp",
                System.getProperty("java.class.path"), PrefillMemory.class.getName(), "8192")
                .redirectError(ProcessBuilder.Redirect.INHERIT)
                .start();
        String line = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        assertEquals(0, process.waitFor());
        Matcher ratio = Pattern.compile("meanwhile: ([0-9.]+) times").matcher(line);
        assertTrue(ratio.find(), line);
        double times = Double.parseDouble(ratio.group(1));
        assertTrue(times > 0.5 && times <= 1.3, line);
    }

    @Test
    void measuresStockAfterARealPrefill() throws IOException {
        List<JsonNode> lines = run("--contexts", "64,300", "--run", "stock", "--threads", "1");
        List<JsonNode> measured = measurements(lines);
        assertEquals(List.of(0, 64, 300), measured.stream().map(m -> m.get("context").asInt()).toList());
        for (JsonNode line : measured) {
            assertTrue(line.get("decodeMs").asDouble() > 0, line::toString);
            assertTrue(line.get("residentBytes").asLong() > 0, line::toString);
        }
        assertTrue(measured.getLast().get("prefillMarginal").asDouble() > 0);
        assertEquals(311, summary(lines).get("tokens").asInt());
        assertEquals(1, summary(lines).get("threads").asInt());
    }

    @Test
    void measuresStockAfterASyntheticPrefill() throws IOException {
        List<JsonNode> lines = run("--contexts", "64,5000", "--run", "stock", "--synthetic-prefill");
        List<JsonNode> measured = measurements(lines);
        assertEquals(3, measured.size());
        assertTrue(measured.getLast().path("prefillMarginal").isMissingNode());
        assertEquals(5011, summary(lines).get("tokens").asInt());
    }

    @Test
    void measuresThePluginBesideStock() throws IOException {
        List<JsonNode> lines = run("--contexts", "400", "--run", "stock", "exact", "all:policy=retrieve,budget=32");
        assertEquals(
                List.of("stock", "stock", "exact", "exact", "all", "all"),
                measurements(lines).stream().map(m -> m.get("configuration").asText()).toList());
        JsonNode exact = lines.stream().filter(l -> l.has("report")).findFirst().orElseThrow();
        assertEquals("exact", exact.at("/report/policy").asText());
        assertEquals(411, exact.at("/report/totals/tokens").asInt());
        assertTrue(exact.at("/report/totals/residentBytes").asLong() > 0);
    }

    @Test
    void measuresThePluginAfterASyntheticPrefill() throws IOException {
        List<JsonNode> lines = run("--contexts", "1k,5000", "--run", "balanced", "compact", "--synthetic-prefill");
        assertEquals(6, measurements(lines).size());
        for (JsonNode line : lines.stream().filter(l -> l.has("report")).toList()) {
            assertEquals(5011, line.at("/report/totals/tokens").asInt(), line::toString);
        }
    }

    @Test
    void namesWhatIsWrong() {
        assertNotEquals(0, EndToEnd.run("--run", "stcok"));
        assertNotEquals(0, EndToEnd.run("--run", "stock", "--contexts", "1x"));
        assertNotEquals(0, EndToEnd.run("--run", "stock", "--threads", "100000"));
        assertNotEquals(0, EndToEnd.run("--run", "exact", "--jar", folder.resolve("none.jar").toString()));
        assertEquals(0, EndToEnd.run("--help"));
    }

    /** What is decoded before steps are timed leaves no tokens behind, and needs no more room than they do. */
    @Test
    void settlesAtEachLength() throws IOException {
        List<JsonNode> lines = run("--contexts", "64,8150", "--run", "stock", "exact", "--synthetic-prefill",
                "--settle=1");
        assertEquals(6, measurements(lines).size());
        for (JsonNode line : lines.stream().filter(l -> l.has("loadSeconds")).toList()) {
            assertEquals(8161, line.get("tokens").asInt(), line::toString);
        }
    }

    private List<JsonNode> run(String... arguments) throws IOException {
        Path json = folder.resolve("results.jsonl");
        List<String> all = new ArrayList<>(List.of(arguments));
        if (all.stream().noneMatch(argument -> argument.startsWith("--settle"))) {
            all.add("--settle=0");
        }
        all.addAll(
                List.of(
                        "--shape=tiny",
                        "--rounds=1",
                        "--decode-steps=3",
                        "--warm-up=10",
                        "--heap=512m",
                        "--models=" + folder.resolve("models"),
                        "--jar=" + System.getProperty("built.tailorkv.jar", ""),
                        "--json=" + json));
        assertEquals(0, EndToEnd.run(all.toArray(String[]::new)));
        List<JsonNode> lines = new ArrayList<>();
        for (String line : Files.readAllLines(json)) {
            lines.add(new ObjectMapper().readTree(line));
        }
        assertTrue(lines.getFirst().has("cpu"), () -> lines.getFirst().toString());
        return lines;
    }

    private static List<JsonNode> measurements(List<JsonNode> lines) {
        return lines.stream().filter(line -> line.has("decodeMs")).toList();
    }

    private static JsonNode summary(List<JsonNode> lines) {
        return lines.stream().filter(line -> line.has("loadSeconds")).findFirst().orElseThrow();
    }
}
