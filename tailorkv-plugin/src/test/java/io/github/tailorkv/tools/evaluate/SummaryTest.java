package io.github.tailorkv.tools.evaluate;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.tailorkv.config.Policy;
import io.github.tailorkv.config.Settings;
import io.github.tailorkv.config.SettingsException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class SummaryTest {
    @TempDir
    private Path folder = Path.of("");

    @Test
    void resultsSurviveAnInterruption() throws IOException {
        Path file = folder.resolve("results.jsonl");
        Result first = result("facts", 0, "exact", 1, Double.NaN, 0);
        Result second = result("facts", 0, "ours", 0.5, 0.25, 7);
        ResultFile results = ResultFile.open(file);
        results.add(first);
        results.add(second);
        Files.writeString(file, "{\"family\":\"facts\",\"tok", StandardOpenOption.APPEND);
        ResultFile again = ResultFile.open(file);
        assertEquals(List.of(first, second), new ArrayList<>(again.all()));
        assertTrue(again.has(second.key()));
        again.add(result("facts", 1, "exact", 1, Double.NaN, 0));
        assertEquals(3, ResultFile.open(file).all().size());
    }

    @Test
    void aFileOfSomethingElseIsRefused() throws IOException {
        Path file = folder.resolve("results.jsonl");
        Files.writeString(file, "{}\nhello\n");
        IOException e = assertThrows(IOException.class, () -> ResultFile.open(file));
        assertTrue(String.valueOf(e.getMessage()).contains("line 1: \"family\" is missing"), e.getMessage());
    }

    @Test
    void familiesCountAlikeAndStepsCountAlike() {
        List<Result> results = List.of(
                result("facts", 0, "exact", 1, 0, 4), result("facts", 0, "ours", 1, 0.5, 4),
                result("facts", 1, "exact", 1, 0, 4), result("facts", 1, "ours", 0.5, 0, 4),
                result("vartrack", 0, "exact", 0.5, 0, 12), result("vartrack", 0, "ours", 0.5, 0.25, 12),
                result("depth-050", 0, "ours", 0, 9, 12));
        Summary summary = new Summary(results, family -> !ExerciseBook.isDepth(family));
        assertEquals(2, summary.lines().size());
        Summary.Line ours = summary.lines().get(1);
        assertEquals("ours", ours.policy());
        assertEquals(3, ours.prompts());
        assertEquals((75 + 50) / 2.0, ours.accuracy());
        assertEquals((100 + 50) / 2.0, ours.exactAccuracy());
        assertEquals("facts", ours.worstFamily());
        assertEquals(25, ours.worstDrop());
        assertEquals((0.5 * 4 + 0 * 4 + 0.25 * 12) / 20, ours.divergence(), 1e-12);
        assertEquals(0.25, ours.resident(), 1e-12);
        assertEquals(0.5, ours.offloaded(), 1e-12);
        assertTrue(Double.isNaN(ours.perplexity()));
        assertEquals("", summary.lines().getFirst().worstFamily());
    }

    @Test
    void whatExactHasNotDoneIsNotCompared() {
        assertTrue(new Summary(List.of(result("facts", 0, "ours", 1, 0, 4)), family -> true).lines().isEmpty());
    }

    @Test
    void decisionsAreThoseOfPromptsThatHadThem() {
        List<Result> results = new ArrayList<>();
        for (String policy : List.of("fixed", "online")) {
            for (String family : List.of("facts", "common_words")) {
                double preference = policy.equals("fixed") ? Double.NaN : family.equals("facts") ? 0.1 : 0.7;
                for (int i = 0; i < 2; i++) {
                    results.add(
                            new Result(new Result.Key(family, 2048, i, 1, policy), "", "", 1, 1, "", 1, 0, 0, 0, 1, 1,
                                    1, 1, 1, 1, List.of(preference, preference + i * 0.1),
                                    List.of("retrieval",
                                            family.equals("facts") || i == 0 ? "retrieval" : "quantized")));
                }
            }
        }
        Decisions decisions = Decisions.of(results).orElseThrow();
        assertEquals("online", decisions.policy());
        assertEquals(List.of("facts", "common_words"), List.copyOf(decisions.families().keySet()));
        Decisions.Decision words = List.copyOf(decisions.families().values()).getLast();
        assertEquals(0.7, words.densePreference().getFirst(), 1e-9);
        assertEquals(0.75, words.densePreference().getLast(), 1e-9);
        assertEquals(List.of(0.0, 0.5), words.quantized());
        assertTrue(Decisions.of(results.subList(0, 4)).isEmpty());
    }

    @Test
    void perplexityIsThatOfTheTexts() {
        List<Result> results = List.of(
                result("text-a", 0, "exact", Double.NaN, 0, 2), result("text-a", 0, "ours", Double.NaN, 0.1, 2));
        Summary.Line line = new Summary(results, family -> true).lines().get(1);
        assertEquals(Math.exp(1.5), line.perplexity(), 1e-12);
        assertTrue(Double.isNaN(line.accuracy()));
    }

    @Test
    void contendersAreAPresetAndProperties() {
        Contender contender = Contender
                .parse("mine=compact,budget=64,policy=0-1:quantize,2-3:retrieve,offload.dir=/tmp");
        assertEquals("mine", contender.name());
        Settings settings = contender.settings();
        assertEquals("compact", settings.preset());
        assertEquals(64, settings.budget());
        assertEquals("0-1:quantize,2-3:retrieve", settings.policy().toString());
        assertEquals(Policy.Mode.FIXED, Contender.EXACT.settings().policy().mode());
        assertEquals(2, Contender.parse("paper2").settings().bits());
        assertEquals("snapkv", Contender.parse("snapkv").settings().provider());
        assertEquals("ours", Contender.series(Contender.parse("ours@128=balanced,budget=128").name()));
        assertEquals("ours", Contender.series("ours"));
        assertFalse(Contender.DEFAULTS.contains(Contender.EXACT));
        for (String bad : List.of("nothing", "exact=balanced", "a b=balanced", "x=magic", "x=balanced,bits=3",
                "x=b,c=d")) {
            assertThrows(SettingsException.class, () -> Contender.parse(bad), bad);
        }
    }

    private static Result result(String family, int index, String policy, double accuracy, double divergence,
            int steps) {
        return new Result(
                new Result.Key(family, 2048, index, 1, policy), policy, "model", 1000, accuracy, "an \"answer\"\n",
                steps,
                divergence, divergence, 1.5, 100, 200, 400, 500, 10, 20, List.of(0.5, Double.NaN),
                List.of("quantized", "retrieval"));
    }
}
