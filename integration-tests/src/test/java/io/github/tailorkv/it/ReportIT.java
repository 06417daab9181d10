package io.github.tailorkv.it;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** The report of an application that never closes its model. */
class ReportIT {
    private static final String APPLICATION = "com.example.app.EndingApplication";

    /** Of the reference model: 10 layers, 2 KV heads of 64, keys and values in F32. */
    private static final long STOCK_BYTES_PER_TOKEN = 2L * 10 * 2 * 64 * 4;

    @TempDir
    Path folder;

    private ChildJvm jvm(Path report) throws Exception {
        return Way.AGENT.prepare(folder, Jars.application(folder))
                .enabled()
                .property("tailorkv.policy", "exact")
                .property("tailorkv.report", report);
    }

    @ParameterizedTest
    @CsvSource({"return, 0", "throw, 1"})
    void isWrittenWhenTheJvmEnds(String ending, int status) throws Exception {
        Path file = folder.resolve("reports/report.json");
        ChildJvm.Ended ended = jvm(file).run(APPLICATION, ChildJvm.MODEL, ending);
        assertEquals(status, ended.status(), ended::toString);
        JsonNode report = new ObjectMapper().readTree(file.toFile());
        assertEquals("hybrid", report.get("provider").textValue());
        assertEquals("exact", report.get("policy").textValue());
        assertTrue(report.get("backend").textValue().matches("panama|scalar"), report::toString);
        assertEquals(4, report.get("sessions").intValue());
        int tokens = report.get("totals").get("tokens").intValue();
        assertTrue(tokens >= 11 && tokens <= 60, report::toString);
        assertEquals(tokens * STOCK_BYTES_PER_TOKEN, report.get("totals").get("stockBytes").longValue());
        assertEquals(0, report.get("totals").get("offloadedBytes").longValue());
        assertEquals(10, report.get("layers").size());
        long resident = 0;
        for (int layer = 0; layer < 10; layer++) {
            JsonNode one = report.get("layers").get(layer);
            assertEquals(layer, one.get("layer").intValue());
            assertEquals("exact", one.get("kind").textValue());
            assertEquals(tokens, one.get("tokens").intValue());
            resident += one.get("residentBytes").longValue();
        }
        assertEquals(report.get("totals").get("residentBytes").longValue(), resident);
        assertTrue(resident >= tokens * STOCK_BYTES_PER_TOKEN, report::toString);
    }

    @Test
    void placeThatCannotBeWrittenIsToldInOneLine() throws Exception {
        Path file = Files.createFile(folder.resolve("file"));
        ChildJvm.Ended ended = jvm(file.resolve("report.json")).run(APPLICATION, ChildJvm.MODEL, "return").successful();
        assertEquals(1, ended.errWith("; set tailorkv.report to").size(), ended::toString);
    }
}
