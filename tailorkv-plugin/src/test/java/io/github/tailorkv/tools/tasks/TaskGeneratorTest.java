package io.github.tailorkv.tools.tasks;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

class TaskGeneratorTest {
    /** About what a tokenizer gives. */
    private static final TokenCounter COUNTER = text -> Math.max(1, text.length() / 4);

    @ParameterizedTest
    @EnumSource(TaskFamily.class)
    void theSameSeedGivesTheSameTask(TaskFamily family) {
        Task task = new TaskGenerator(COUNTER).task(family, 1024, 7, 3);
        TaskGenerator other = new TaskGenerator(COUNTER);
        other.task(TaskFamily.FACTS, 512, 1, 1);
        assertEquals(task, other.task(family, 1024, 7, 3));
        assertNotEquals(task.prompt(), other.task(family, 1024, 7, 4).prompt());
        assertNotEquals(task.prompt(), other.task(family, 1024, 8, 3).prompt());
    }

    @Test
    void aTaskIsTheSameOnEveryMachine() {
        Task task = new TaskGenerator(COUNTER).task(TaskFamily.NEEDLE_ESSAY, 512, 1, 0);
        assertEquals(GOLDEN, task.prompt().hashCode() + " " + task.references());
    }

    private static final String GOLDEN = "1637111256 [2906400]";

    @ParameterizedTest
    @EnumSource(TaskFamily.class)
    void lengthIsWhatWasAskedFor(TaskFamily family) {
        TaskGenerator generator = new TaskGenerator(COUNTER);
        for (int tokens : new int[] {TaskGenerator.LEAST_TOKENS, 1000, 4096}) {
            for (int index = 0; index < 5; index++) {
                int length = COUNTER.count(generator.task(family, tokens, 5, index).prompt());
                // Rounding of short pieces by the counter above adds up.
                assertTrue(length <= tokens * 1.45 && length >= tokens * 0.25 - 100, family + ": " + length);
            }
        }
        assertThrows(IllegalArgumentException.class, () -> generator.task(family, 100, 1, 0));
    }

    @ParameterizedTest
    @EnumSource(TaskFamily.class)
    void theAnswerIsInTheText(TaskFamily family) {
        TaskGenerator generator = new TaskGenerator(COUNTER);
        for (int index = 0; index < 20; index++) {
            Task task = generator.task(family, 700, 2, index);
            String[] parts = task.prompt().split(family.isGeneric() ? "\n\n" : "\n", -1);
            if (family.isGeneric()) {
                assertEquals(3, parts.length);
                assertTrue(parts[2].contains("Answer with"));
                parts[0] = parts[1];
            } else {
                assertEquals(2, parts.length);
                assertTrue(parts[0].startsWith("Read this text and remember its details. "));
                assertTrue(parts[1].endsWith("?"));
            }
            assertTrue(task.others().stream().noneMatch(task.references()::contains));
            for (String reference : task.references()) {
                assertTrue(parts[0].contains(reference), family + " " + reference);
                assertTrue(!reference.isEmpty());
            }
            assertEquals(1, task.score(String.join(" and ", task.references())));
        }
    }

    @Test
    void aVariableIsAssignedBeforeItIsUsed() {
        TaskGenerator generator = new TaskGenerator(COUNTER);
        for (int index = 0; index < 20; index++) {
            Task task = generator.task(TaskFamily.VARIABLES, 700, 2, index);
            int last = -1;
            for (String name : task.references()) {
                int assigned = task.prompt().indexOf("VAR " + name + " =");
                assertTrue(assigned > last);
                last = assigned;
            }
            assertTrue(task.references().size() >= 3 && task.references().size() <= 5);
        }
    }

    @Test
    void aToldVariableIsSetBeforeItIsUsed() {
        TaskGenerator generator = new TaskGenerator(COUNTER);
        for (int index = 0; index < 20; index++) {
            Task task = generator.task(TaskFamily.TOLD_VARIABLES, 700, 2, index);
            int last = -1;
            for (String name : task.references()) {
                int set = task.prompt().indexOf("Set " + name + " to ");
                assertTrue(set > last);
                last = set;
            }
            assertEquals(task.references().size(), task.others().size());
        }
    }

    @Test
    void listedWordsAreTheMostFrequent() {
        for (int tokens : new int[] {512, 4096}) {
            Task task = new TaskGenerator(COUNTER).task(TaskFamily.LISTED_WORDS, tokens, 3, 0);
            Map<String, Integer> counts = new HashMap<>();
            Arrays.stream(task.prompt().split("\n\n", -1)[1].split(",? |,", -1))
                    .forEach(word -> counts.merge(word, 1, Integer::sum));
            int least = task.references().stream().mapToInt(word -> counts.getOrDefault(word, 0)).min().orElse(0);
            int most = task.others().stream().mapToInt(word -> counts.getOrDefault(word, 0)).max().orElse(0);
            assertTrue(least >= 2 * most && most >= 1, least + " " + most);
        }
    }

    @Test
    void frequentWordsAreTheMostFrequent() {
        Task task = new TaskGenerator(COUNTER).task(TaskFamily.FREQUENT_WORDS, 4096, 3, 0);
        Map<String, Integer> counts = new HashMap<>();
        String text = task.prompt().substring(0, task.prompt().indexOf('\n'));
        Arrays.stream(text.split(" ", -1)).skip(7).forEach(word -> counts.merge(word, 1, Integer::sum));
        List<String> words = new ArrayList<>(counts.keySet());
        words.sort(Comparator.comparingInt(word -> -counts.getOrDefault(word, 0)));
        assertEquals(task.references(), words.subList(0, 3));
    }

    @Test
    void aNeedleLiesAtTheDepthThatWasAskedFor() {
        TaskGenerator generator = new TaskGenerator(COUNTER);
        for (double depth : new double[] {0, 0.25, 0.5, 1}) {
            Task task = generator.needleAt(depth, 2048, 1, 0);
            double found = (double) task.prompt().indexOf(" The secret number") / task.prompt().indexOf('\n');
            assertEquals(depth, found, 0.05);
            String text = generator.passKeyAt(depth, 2048, 1, 0).prompt().split("\n\n", -1)[1];
            assertEquals(depth, (double) text.indexOf("The pass key is") / text.length(), 0.05);
        }
    }

    @Test
    void chatterDoesNotMatter() {
        Task one = new Task("", List.of("4821377"), List.of("1234567"), true);
        for (String right : List.of("4821377", "The number is **4,821,377**.", "4 821 377",
                "Sure! It opens with 4821377,",
                "<think>Is it 1234567?\nNo.</think>4821377", "First I read 1234567. Answer: 4'821'377")) {
            assertEquals(1, one.score(right), right);
        }
        for (String wrong : List.of("", "48213770", "x4821377", "482137", "<think>4821377",
                "4821377. Answer: 1234567")) {
            assertEquals(0, one.score(wrong), wrong);
        }
        assertEquals(0.5, one.score("1234567 or 4821377"));
        Task several = new Task("", List.of("owl", "Tom Oak"), List.of("moss", "kite"), true);
        assertEquals(1, several.score("1. Owl\n2. tom oak\nI hope that helps!"));
        assertEquals(0.5, several.score("owls, Tom Oak"));
        assertEquals(2 / 3.0, several.score("Moss, owl and Tom Oak"));
        assertEquals(2 / 4.0, several.score("moss, kite, owl, Tom Oak"));
    }

    @Test
    void scoresAreShares() {
        Task task = new Task("", List.of("Anna", "12", "x-y"));
        assertEquals(0, task.score("nothing"));
        assertEquals(2.0 / 3, task.score("ANNA has 123"), 1e-9);
    }
}
