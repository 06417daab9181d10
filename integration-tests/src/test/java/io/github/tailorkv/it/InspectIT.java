package io.github.tailorkv.it;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** {@code inspect}, as a user starts it, of an application that runs with the agent and knows nothing of it. */
class InspectIT {
    /** About 1,300 tokens: enough for each prompt to decide the kinds of the layers. */
    private static final int SENTENCES = 130;

    @TempDir
    private Path folder;

    private int tools;

    private ChildJvm application() throws Exception {
        Path home = Files.createDirectory(folder.resolve("application"));
        return Way.AGENT.prepare(home, Jars.application(folder)).enabled();
    }

    private ChildJvm.Running start(ChildJvm jvm) throws Exception {
        Path text = Files.writeString(folder.resolve("text.txt"),
                "Igor Price lives in Ottawa. " + "The road bends gently past the houses. ".repeat(SENTENCES));
        ChildJvm.Running running = jvm.start("com.example.app.RepeatingApplication", ChildJvm.MODEL, text);
        running.awaitOutput("loaded");
        return running;
    }

    private static void turn(ChildJvm.Running running, int number) throws Exception {
        running.process().getOutputStream().write('\n');
        running.process().getOutputStream().flush();
        running.awaitOutput("turn " + number);
    }

    /** Each in a folder of its own, where its output goes. */
    private ChildJvm toolJvm() throws IOException {
        return new ChildJvm(Files.createDirectory(folder.resolve("tool" + tools++)));
    }

    private static Object[] arguments(Object... arguments) {
        List<Object> all = new ArrayList<>(List.of(ChildJvm.TAILORKV, "inspect"));
        all.addAll(Arrays.asList(arguments));
        return all.toArray();
    }

    private ChildJvm.Ended inspect(Object... arguments) throws Exception {
        return toolJvm().run("-jar", arguments(arguments));
    }

    private JsonNode model(ChildJvm.Running running) throws Exception {
        ChildJvm.Ended ended = inspect(
                running.process().pid(), "--once", "--json", "--interval", "0.1", "--every", "0").successful();
        assertEquals(1, ended.out().size(), ended::toString);
        JsonNode all = new ObjectMapper().readTree(ended.out().get(0));
        assertEquals(running.process().pid(), all.get("pid").longValue());
        assertEquals(1, all.get("models").size(), ended::toString);
        return all.get("models").get(0);
    }

    @Test
    void showsWhatAnApplicationMeasuresByItself() throws Exception {
        Path report = folder.resolve("report.json");
        ChildJvm jvm = application().property("tailorkv.sample", 1).property("tailorkv.report", report)
                .property("tailorkv.budget", 64);
        try (ChildJvm.Running running = start(jvm)) {
            JsonNode before = model(running);
            assertEquals("reference", before.get("name").textValue());
            assertEquals("LLAMA", before.get("architecture").textValue());
            assertEquals("hybrid", before.get("provider").textValue());
            assertEquals(1, before.get("sampleEvery").intValue());
            assertEquals(0, before.get("sessions").size());
            assertEquals(10, before.get("layers").size());
            assertFalse(before.get("layers").get(0).has("sampled"));

            turn(running, 1);
            JsonNode after = model(running);
            assertEquals(1, after.get("sessions").size());
            assertFalse(after.get("sessions").get(0).get("busy").booleanValue());
            int tokens = after.get("sessions").get(0).get("tokens").intValue();
            assertTrue(tokens > 1024, after::toString);
            assertTrue(after.get("stepMillis").doubleValue() > 0);
            long resident = 0;
            int recalls = 0;
            for (JsonNode layer : after.get("layers")) {
                assertEquals(tokens, layer.get("tokens").intValue());
                assertTrue(layer.get("kind").textValue().matches("quantized|retrieval"), layer::toString);
                assertTrue(layer.get("densePreference").isNumber(), layer::toString);
                resident += layer.get("residentBytes").longValue();
                JsonNode sampled = layer.get("sampled");
                assertEquals(after.get("sampledSteps"), sampled.get("steps"));
                boolean retrieval = layer.get("kind").textValue().equals("retrieval");
                assertEquals(retrieval, sampled.get("scoreMicros").doubleValue() > 0);
                assertEquals(retrieval, sampled.get("gatherMicros").doubleValue() > 0);
                assertTrue(sampled.get("attendMicros").doubleValue() > 0);
                assertTrue(sampled.get("bytesRead").doubleValue() > 0);
                assertTrue(retrieval || sampled.get("recall").isNull());
                recalls += sampled.get("recall").isNull() ? 0 : 1;
            }
            assertTrue(recalls > 0, after::toString);
            assertEquals(after.get("sessions").get(0).get("residentBytes").longValue(), resident);

            ChildJvm.Ended table = inspect(running.process().pid(), "--once", "--interval", "0.1").successful();
            assertEquals(10,
                    table.out().stream().filter(line -> line.matches(" +\\d (quantized|retrieval) .*")).count(),
                    table::toString);
            assertTrue(table.out().stream().noneMatch(line -> line.contains("\u001b")), table::toString);

            running.process().getOutputStream().close();
            running.await().successful();
        }
        JsonNode sampled = new ObjectMapper().readTree(report.toFile()).get("layers").get(0).get("sampled");
        assertTrue(sampled.get("steps").intValue() > 0 && sampled.get("attendMicros").doubleValue() > 0,
                sampled::toString);
    }

    @Test
    void measuresForAsLongAsItRunsAndEndsWithTheApplication() throws Exception {
        try (ChildJvm.Running running = start(application())) {
            turn(running, 1);
            JsonNode before = model(running);
            assertEquals(0, before.get("sampleEvery").intValue());
            assertFalse(before.get("layers").get(0).has("sampled"), before::toString);
            ChildJvm tool = toolJvm();
            try (ChildJvm.Running watcher = tool.start(
                    "-jar", arguments(running.process().pid(), "--json", "--interval", "0.5", "--every", "1"))) {
                watcher.awaitOutput(line -> line.contains("\"sampleEvery\":1,"));
                turn(running, 2);
                watcher.awaitOutput(line -> line.contains("\"sampled\":{"));
                inspect(running.process().pid(), "--once", "--interval", "0.1").successful();
                running.process().getOutputStream().close();
                assertTrue(running.await().successful().out().contains("closed"));
                ChildJvm.Ended ended = watcher.await();
                assertEquals(1, ended.status(), ended::toString);
                assertEquals(
                        List.of("tailorkv inspect: process " + running.process().pid() + " has ended"),
                        ended.errWith("tailorkv "));
            }
        }
    }

    @Test
    void listsTheJvmsThatHaveTailorKv() throws Exception {
        try (ChildJvm.Running running = start(application())) {
            ChildJvm.Ended ended = inspect().successful();
            assertEquals(
                    1,
                    ended.out().stream()
                            .filter(line -> line.startsWith(running.process().pid() + "  serves a model"))
                            .filter(line -> line.contains("com.example.app.RepeatingApplication"))
                            .count(),
                    ended::toString);
        }
    }

    @Test
    void withoutTailorKvItSaysSo() throws Exception {
        ChildJvm jvm = new ChildJvm(Files.createDirectory(folder.resolve("stock")))
                .classPath(Jars.application(folder))
                .classPath(ChildJvm.jlama());
        try (ChildJvm.Running running = start(jvm)) {
            complains("has no model that TailorKV serves; start it with -javaagent:tailorkv.jar", running.process());
        }
        Path home = Files.createDirectory(folder.resolve("switched on"));
        ChildJvm idle = new ChildJvm(home).enabled().classPath(Jars.application(folder)).classPath(ChildJvm.jlama());
        try (ChildJvm.Running running = start(idle)) {
            complains("is switched on in process " + running.process().pid() + ", but serves no model",
                    running.process());
        }
    }

    @Test
    void whatIsNoJvmIsOneLine() throws Exception {
        Process other = new ProcessBuilder("sleep", "300").start();
        try {
            complains("process " + other.pid() + " is no JVM", other);
        } finally {
            other.destroyForcibly();
        }
        other.waitFor();
        complains("there is no process " + other.pid(), other);
        ChildJvm.Ended wrong = inspect("soon");
        assertEquals(2, wrong.status(), wrong::toString);
    }

    private void complains(String part, Process process) throws Exception {
        ChildJvm.Ended ended = inspect(process.pid());
        assertEquals(1, ended.status(), ended::toString);
        assertEquals(1, ended.errWith("tailorkv inspect: ").size(), ended::toString);
        assertEquals(List.of(), ended.errWith("\tat "), ended::toString);
        assertEquals(1, ended.errWith(part).size(), ended::toString);
    }
}
