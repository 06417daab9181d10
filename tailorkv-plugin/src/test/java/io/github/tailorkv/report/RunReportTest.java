package io.github.tailorkv.report;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.github.tailorkv.live.SampledLayer;
import io.github.tailorkv.spi.LayerStatistics;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class RunReportTest {
    private static final RunReport.Server SERVER = new RunReport.Server("hy\"brid", "panama", "0:exact\\", 100);

    @TempDir
    Path folder;

    private static List<LayerStatistics> layers(int tokens) {
        return List.of(
                new LayerStatistics(0, "quantized", 0.625, tokens, 10L * tokens, 0),
                new LayerStatistics(1, "retrieval", Double.NaN, tokens, 2L * tokens, 3L * tokens));
    }

    private static JsonNode read(Path file) throws IOException {
        return new ObjectMapper().readTree(file.toFile());
    }

    @Test
    void showsTheLargestSessionAtItsPeak() throws IOException {
        Path file = folder.resolve("new/report.json");
        RunReport report = RunReport.to(Optional.of(file));
        assertSame(report, RunReport.to(Optional.of(folder.resolve("new/./report.json"))));
        for (int tokens : new int[] {3, 20, 7}) {
            report.sessionOpened(SERVER);
            report.sessionHolds(SERVER, layers(tokens), List.of());
        }
        report.write();
        JsonNode json = read(file);
        assertEquals("hy\"brid", json.get("provider").textValue());
        assertEquals("panama", json.get("backend").textValue());
        assertEquals("0:exact\\", json.get("policy").textValue());
        assertEquals(3, json.get("sessions").intValue());
        JsonNode totals = json.get("totals");
        assertEquals(20, totals.get("tokens").intValue());
        assertEquals(240, totals.get("residentBytes").intValue());
        assertEquals(60, totals.get("offloadedBytes").intValue());
        assertEquals(2000, totals.get("stockBytes").intValue());
        assertEquals(2, json.get("layers").size());
        JsonNode quantized = json.get("layers").get(0);
        assertEquals(0, quantized.get("layer").intValue());
        assertEquals("quantized", quantized.get("kind").textValue());
        assertEquals(0.625, quantized.get("densePreference").doubleValue());
        assertEquals(20, quantized.get("tokens").intValue());
        assertEquals(200, quantized.get("residentBytes").intValue());
        JsonNode retrieval = json.get("layers").get(1);
        assertTrue(retrieval.get("densePreference").isNull());
        assertEquals(60, retrieval.get("offloadedBytes").intValue());
        try (Stream<Path> files = Files.list(file.getParent())) {
            assertEquals(List.of(file), files.toList(), "no draft stays behind");
        }
    }

    @Test
    void showsWhatWasMeasured() throws IOException {
        Path file = folder.resolve("report.json");
        RunReport report = RunReport.to(Optional.of(file));
        report.sessionHolds(
                SERVER, layers(5),
                List.of(
                        new SampledLayer(0, 4, 4_000, 0, 0, 10_000, 4096, Double.NaN, 0),
                        new SampledLayer(1, 4, 4_000, 8_000, 12_000, 16_002, 1024, 0.875, 2)));
        JsonNode quantized = read(file).get("layers").get(0).get("sampled");
        assertEquals(4, quantized.get("steps").intValue());
        assertEquals(1.0, quantized.get("appendMicros").doubleValue());
        assertEquals(2.5, quantized.get("attendMicros").doubleValue());
        assertEquals(1024, quantized.get("bytesRead").intValue());
        assertTrue(quantized.get("recall").isNull());
        JsonNode retrieval = read(file).get("layers").get(1).get("sampled");
        assertEquals(2.0, retrieval.get("scoreMicros").doubleValue());
        assertEquals(3.0, retrieval.get("gatherMicros").doubleValue());
        assertEquals(4.001, retrieval.get("attendMicros").doubleValue(), 0.001);
        assertEquals(0.875, retrieval.get("recall").doubleValue());
        assertEquals(2, retrieval.get("recallSteps").intValue());
        report.sessionHolds(SERVER, layers(6), List.of());
        assertFalse(read(file).get("layers").get(0).has("sampled"), "off by default");
    }

    @Test
    void isWellFormedWithoutAnySession() throws IOException {
        Path file = folder.resolve("report.json");
        RunReport.to(Optional.of(file)).write();
        assertEquals(0, read(file).get("sessions").intValue());
        assertTrue(read(file).get("provider").isNull());
        assertEquals(0, read(file).get("layers").size());
    }

    /** Digits and points are those of JSON whatever the language of the machine. */
    @Test
    void doesNotDependOnTheLocale() throws IOException {
        Path file = folder.resolve("report.json");
        RunReport report = RunReport.to(Optional.of(file));
        report.sessionHolds(SERVER, layers(1234567), List.of());
        Locale before = Locale.getDefault();
        Locale.setDefault(Locale.forLanguageTag("ar-EG-u-nu-arab"));
        try {
            report.write();
        } finally {
            Locale.setDefault(before);
        }
        assertEquals(1234567, read(file).get("totals").get("tokens").intValue());
    }

    @Test
    void fileThatCannotBeWrittenIsNoError() throws IOException {
        Path file = Files.createFile(folder.resolve("file"));
        RunReport.to(Optional.of(file.resolve("report.json"))).write();
        assertTrue(Files.isRegularFile(file));
        RunReport.to(Optional.empty()).write();
        assertFalse(Files.exists(folder.resolve("report.json")));
    }
}
