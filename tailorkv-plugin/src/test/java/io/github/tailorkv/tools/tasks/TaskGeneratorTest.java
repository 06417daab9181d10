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
            String[] parts = task.prompt().split("\n", -1);
            assertEquals(2, parts.length);
            assertTrue(parts[0].startsWith("Read this text and remember its details. "));
            assertTrue(parts[1].endsWith("?"));
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
        }
    }

    @Test
    void scoresAreShares() {
        Task task = new Task("", List.of("Anna", "12", "x-y"));
        assertEquals(0, task.score("nothing"));
        assertEquals(2.0 / 3, task.score("ANNA has 123"), 1e-9);
    }
}
