package io.github.tailorkv.tools.tasks;

import java.util.List;
import java.util.Locale;

/**
 * A prompt and what a right answer has in it.
 *
 * @param prompt what the user says: the text, then the question
 * @param references strings that a complete answer contains
 */
public record Task(String prompt, List<String> references) {

    public Task {
        references = List.copyOf(references);
    }

    /** The share of the references found in an answer, ignoring case, in [0, 1]. */
    public double score(String answer) {
        String lower = answer.toLowerCase(Locale.ROOT);
        long found = references.stream().filter(r -> lower.contains(r.toLowerCase(Locale.ROOT))).count();
        return (double) found / references.size();
    }
}
