package io.github.tailorkv.it;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.tailorkv.models.Architecture;
import io.github.tailorkv.models.ModelSpec;
import io.github.tailorkv.models.RandomModels;
import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import javax.xml.parsers.DocumentBuilderFactory;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.w3c.dom.Document;

/** The commands of the built jar with models that are no Llama, and with prompts that are not alike. */
class ToolsArchitecturesIT {
    @TempDir
    private Path folder = Path.of("");

    /** The weights are random, so nothing is known of the answers; but everything runs, and says what it found. */
    @ParameterizedTest
    @EnumSource(value = Architecture.class, names = {"QWEN2", "GEMMA2"})
    void otherArchitecturesAreProfiledAndEvaluated(Architecture architecture) throws Exception {
        ModelSpec spec = ModelSpec.builder(architecture).heads(4, 2).headSize(64).sharpness(0.3f, 4f).context(4096)
                .build();
        Path model = folder.resolve("random");
        RandomModels.write(spec, model);
        Path pictures = folder.resolve("pictures");
        ChildJvm.Ended profiled = tool(
                "profile", model, "--tokens", "1400", "--heads", "--contexts", "4096,131072", "--png", pictures)
                .successful();
        String profile = Files.readString(model.resolve("tailorkv.json"));
        List<Double> means = found("\"mean\": ([0-9.]+)", profile).stream().map(Double::valueOf).toList();
        assertTrue(means.size() == 2 && means.getFirst() > means.getLast() + 0.1, profiled.toString());
        assertEquals(means.stream().map(mean -> mean > 0.2 ? "quantized" : "retrieval").toList(),
                found("\"kind\": \"([a-z]+)\"", profile), profiled.toString());
        assertEquals(2, found("\"queryHeads\": \\[([^]]*)]", profile).stream()
                .filter(heads -> heads.split(",", -1).length == 4).count(), profile);
        assertTrue(profiled.out().stream().anyMatch(line -> line.startsWith("Checked once: ")), profiled.toString());
        Document page = parsed(model.resolve("tailorkv.html"));
        int charts = page.getElementsByTagName("svg").getLength();
        assertEquals(7, charts);
        try (Stream<Path> files = Files.list(pictures)) {
            assertEquals(charts, files.filter(file -> file.toString().endsWith(".png")).count());
        }

        Path results = folder.resolve("results");
        ChildJvm.Ended evaluated = tool(
                "evaluate", model, "--families", "generic", "--tokens", "2048", "--count", "1", "--answer-tokens", "4",
                "--output", results, "--policy", "ours=balanced,policy=online",
                "kivi2", "streaming=balanced,provider=streaming,sinks=4,recent=252",
                "snapkv=balanced,provider=snapkv,budget=224").successful();
        assertEquals(5 * 5, Files.readAllLines(results.resolve("results.jsonl")).size());
        for (String policy : List.of("exact", "ours", "kivi2", "streaming", "snapkv")) {
            assertEquals(1, evaluated.out().stream().filter(line -> line.startsWith(policy + " ")).count(),
                    evaluated.toString());
        }
        assertTrue(parsed(results.resolve("report.html")).getElementsByTagName("svg").getLength() >= 4);
    }

    /**
     * Noise with a needle in it, and words to be counted: for the same layers of the same model the prompts decide
     * differently, and each decision follows from the prompt's own dense preference.
     */
    @Test
    void promptsOfDifferentDensityGetDifferentKinds() throws Exception {
        Path results = folder.resolve("results");
        tool("evaluate", ChildJvm.MODEL, "--families", "niah_noise,common_words", "--tokens", "2560", "--count", "1",
                "--answer-tokens", "4", "--output", results, "--policy", "ours=balanced,policy=online,budget=128")
                .successful();
        List<String> ours = Files.readAllLines(results.resolve("results.jsonl")).stream()
                .filter(line -> line.contains("\"policy\":\"ours\"")).toList();
        assertEquals(2, ours.size());
        Set<List<String>> decisions = ours.stream().map(line -> {
            List<String> kinds = list(line, "kinds").stream().map(kind -> kind.replace("\"", "")).toList();
            List<Double> preferences = list(line, "densePreference").stream().map(Double::valueOf).toList();
            for (int i = 0; i < kinds.size(); i++) {
                assertEquals(preferences.get(i) > 0.2 ? "quantized" : "retrieval", kinds.get(i), line);
            }
            return kinds;
        }).collect(Collectors.toSet());
        assertEquals(2, decisions.size(), decisions.toString());
        assertNotEquals(list(ours.getFirst(), "densePreference"), list(ours.getLast(), "densePreference"));
        assertTrue(Files.readString(results.resolve("report.html")).contains("What the prompts decided"));
    }

    private static List<String> list(String line, String name) {
        return Arrays.asList(found("\"" + name + "\":\\[([^]]*)]", line).getFirst().split(",", -1));
    }

    private static List<String> found(String pattern, String text) {
        Matcher matcher = Pattern.compile(pattern).matcher(text);
        List<String> all = new ArrayList<>();
        while (matcher.find()) {
            all.add(matcher.group(1));
        }
        return all;
    }

    private static Document parsed(Path page) throws Exception {
        return DocumentBuilderFactory.newInstance().newDocumentBuilder().parse(
                new java.io.ByteArrayInputStream(
                        Files.readString(page).replace("<!DOCTYPE html>", "").getBytes(
                                java.nio.charset.StandardCharsets.UTF_8)));
    }

    private ChildJvm.Ended tool(Object... arguments) throws IOException, InterruptedException {
        List<Object> all = new ArrayList<>(List.of(ChildJvm.TAILORKV));
        all.addAll(Arrays.asList(arguments));
        all.addAll(
                List.of(
                        "--jlama",
                        ChildJvm.jlama().stream().map(Path::toString).collect(Collectors.joining(File.pathSeparator))));
        return new ChildJvm(folder).run("-jar", all.toArray());
    }
}
