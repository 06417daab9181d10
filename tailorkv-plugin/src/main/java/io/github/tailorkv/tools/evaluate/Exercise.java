package io.github.tailorkv.tools.evaluate;

import io.github.tailorkv.tools.tasks.Task;
import java.util.List;
import java.util.Optional;

/**
 * Something for a model to read, and then to answer or to go on with.
 *
 * @param family where it counts: a task family, {@code depth-N} for a needle at N percent, {@code text-NAME} for a text
 * @param tokens nominal length
 * @param index number among those of its family and length
 * @param prompt tokens to read
 * @param task what is asked; empty for a text
 * @param continuation how a text goes on; empty where the model answers
 */
public record Exercise(String family, int tokens, int index, List<Integer> prompt, Optional<Task> task,
        List<Integer> continuation) {

    static final String DEPTH = "depth-";
    static final String TEXT = "text-";

    public Exercise {
        prompt = List.copyOf(prompt);
        continuation = List.copyOf(continuation);
    }

    /** The share of the references found in an answer; NaN for a text. */
    double score(String answer) {
        return task.map(asked -> asked.score(answer)).orElse(Double.NaN);
    }

    static int[] array(List<Integer> tokens) {
        return tokens.stream().mapToInt(token -> token).toArray();
    }
}
