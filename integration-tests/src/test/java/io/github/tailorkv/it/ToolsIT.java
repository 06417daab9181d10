package io.github.tailorkv.it;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Collectors;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The commands of the built jar, started as a user starts them: {@code java -jar}, Jlama somewhere else. */
class ToolsIT {
    private static final List<String> FILES = List.of(
            "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json");

    @TempDir
    private Path folder = Path.of("");

    private Path model = Path.of("");

    @BeforeEach
    void linkModel() throws IOException {
        model = Files.createDirectory(folder.resolve("a <b> model"));
        for (String name : FILES) {
            Files.createSymbolicLink(model.resolve(name), ChildJvm.MODEL.toAbsolutePath().resolve(name));
        }
    }

    /** JUnit would warn of links that lead out of its folder. */
    @AfterEach
    void unlinkModel() throws IOException {
        for (String name : FILES) {
            Files.deleteIfExists(model.resolve(name));
        }
    }

    @Test
    void profileWritesWhatTheRuntimeReads() throws Exception {
        Path text = Files.writeString(folder.resolve("text.txt"),
                "The road bends gently past the houses. ".repeat(250));
        tool("profile", model, "--tokens", "1400", "--text", text, "--no-speed").successful();
        String profile = Files.readString(model.resolve("tailorkv.json"));
        assertTrue(profile.contains("\"format\": \"tailorkv-profile\""), profile);
        assertTrue(Files.readString(model.resolve("tailorkv.html")).contains("a &lt;b&gt; model"));
        ChildJvm.Ended answer = tool("evaluate", model, "--families", "niah_noise", "--tokens", "512", "--count", "1",
                "--output", folder.resolve("results"), "--policy", "mine=balanced,policy=profile").successful();
        assertEquals(1, answer.out().stream().filter(line -> line.startsWith("mine ")).count(), answer.toString());
    }

    @Test
    void evaluateGoesOnWhereItStopped() throws Exception {
        Path results = folder.resolve("results");
        Object[] arguments = {"evaluate", model, "--families", "niah_noise,facts", "--tokens", "512", "--count", "1",
            "--depths", "2", "--output", results, "--policy", "paper1", "balanced"};
        tool(arguments).successful();
        List<String> lines = Files.readAllLines(results.resolve("results.jsonl"));
        assertEquals(4 * 3, lines.size());
        Files.write(results.resolve("results.jsonl"), lines.subList(0, 10));
        tool(arguments).successful();
        assertEquals(
                lines.stream().map(ToolsIT::whatWasDone).toList(),
                Files.readAllLines(results.resolve("results.jsonl")).stream().map(ToolsIT::whatWasDone).toList());
        assertTrue(Files.readString(results.resolve("report.html")).contains("<svg "));
        assertTrue(Files.readString(results.resolve("summary.json")).contains("\"exactAccuracy\""));
    }

    /** Exercise, contender and answer, without what was measured. */
    private static String whatWasDone(String line) {
        return line.substring(0, line.indexOf("\"steps\""));
    }

    @Test
    void badInputIsOneLineAndExitCodeOne() throws Exception {
        Path empty = Files.createDirectory(folder.resolve("empty"));
        complains("holds no config.json", "profile", empty);
        complains("is not a folder", "profile", folder.resolve("nothing"));
        Files.writeString(empty.resolve("config.json"), "{\"model_type\": \"phi3\"}");
        complains("has the architecture phi3; Jlama 0.8.4 knows", "profile", empty);
        Files.writeString(empty.resolve("config.json"), "{\"model_type\": ");
        complains("is no model's configuration", "evaluate", empty, "-o", folder.resolve("x"));
        Path blank = Files.writeString(folder.resolve("blank.txt"), " \n");
        complains("blank.txt is empty", "profile", model, "--text", blank);
        complains("cannot write", "profile", model, "-o", folder.resolve("nowhere/profile.json"));
        complains("cannot make the folder", "evaluate", model, "-o", blank.resolve("x"));
        complains("--policy mine=magic", "evaluate", model, "-o", folder.resolve("x"), "--policy", "mine=magic");
        complains("cannot make the folder", "profile", model, "--png", blank.resolve("x"));
        complains("--contexts takes", "profile", model, "--contexts", "0");
        complains("--families magic is none of", "evaluate", model, "-o", folder.resolve("x"), "--families", "magic");
    }

    @Test
    void withoutJlamaItSaysWhatToAdd() throws Exception {
        ChildJvm.Ended ended = new ChildJvm(folder).run("-jar", ChildJvm.TAILORKV, "profile", model);
        assertEquals(1, ended.status(), ended.toString());
        assertEquals(1, ended.errWith("Jlama 0.8.4 is not on the class path; add --jlama PATH").size(),
                ended.toString());
    }

    private void complains(String part, Object... arguments) throws Exception {
        ChildJvm.Ended ended = tool(arguments);
        assertEquals(1, ended.status(), ended.toString());
        assertEquals(1, ended.errWith("tailorkv " + arguments[0] + ": ").size(), ended.toString());
        assertEquals(1, ended.errWith(part).size(), ended.toString());
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
