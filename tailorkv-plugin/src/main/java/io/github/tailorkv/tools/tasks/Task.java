package io.github.tailorkv.tools.tasks;

import java.util.List;
import java.util.Locale;

/**
 * A prompt and what a right answer has in it.
 *
 * @param prompt what the user says: the text, then the question
 * @param references strings that a complete answer contains
 * @param others wrong answers that are marked down
 * @param tolerant whether the answer may be that of a model that was not trained on the task: whole words count, whatever
 *     is said around them
 */
public record Task(String prompt, List<String> references, List<String> others, boolean tolerant) {

    public Task {
        references = List.copyOf(references);
        others = List.copyOf(others);
    }

    /** A task whose answers are read as they are. */
    public Task(String prompt, List<String> references) {
        this(prompt, references, List.of(), false);
    }

    /** The share of the references found in an answer, ignoring case, in [0, 1]. */
    public double score(String answer) {
        if (tolerant) {
            return new TolerantAnswer(answer).score(references, others);
        }
        String lower = answer.toLowerCase(Locale.ROOT);
        long found = references.stream().filter(r -> lower.contains(r.toLowerCase(Locale.ROOT))).count();
        return (double) found / references.size();
    }
}
