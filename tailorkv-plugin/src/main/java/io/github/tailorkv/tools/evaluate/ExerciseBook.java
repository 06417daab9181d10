package io.github.tailorkv.tools.evaluate;

import io.github.tailorkv.jlama.LoadedModel;
import io.github.tailorkv.tools.tasks.Task;
import io.github.tailorkv.tools.tasks.TaskFamily;
import io.github.tailorkv.tools.tasks.TaskGenerator;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;

/** Makes exercises in the tokens of a model. */
public final class ExerciseBook {
    private static final int CONTINUATION = 128;

    private final LoadedModel model;
    private final TaskGenerator generator;
    private final long seed;
    private final Map<String, List<Integer>> documents = new HashMap<>();

    /** @param seed of all tasks */
    public ExerciseBook(LoadedModel model, long seed) {
        this.model = model;
        this.seed = seed;
        generator = new TaskGenerator(text -> model.encode(text).length);
    }

    /** Whether a family is that of needles at a depth. */
    public static boolean isDepth(String family) {
        return family.startsWith(Exercise.DEPTH);
    }

    /** A task of a family. */
    public Exercise task(TaskFamily family, int tokens, int index) {
        return exercise(family.label(), tokens, index, generator.task(family, tokens, seed, index));
    }

    /**
     * A needle at a depth between 0 and 1.
     *
     * @param generic whether the task explains itself
     */
    public Exercise needle(double depth, int tokens, int index, boolean generic) {
        String family = Exercise.DEPTH + String.format(Locale.ROOT, "%03d", Math.round(100 * depth));
        return exercise(
                family, tokens, index,
                generic
                        ? generator.passKeyAt(depth, tokens, seed, index)
                        : generator.needleAt(depth, tokens, seed, index));
    }

    private Exercise exercise(String family, int tokens, int index, Task task) {
        return new Exercise(family, tokens, index, boxed(model.prompt(task.prompt())), Optional.of(task),
                List.of());
    }

    /** The beginning of a text, to be continued as it goes on; empty if it is too short. */
    public Optional<Exercise> text(String name, String text, int tokens) {
        List<Integer> all = documents.computeIfAbsent(name + text.hashCode(), key -> boxed(model.document(text)));
        if (all.size() < tokens) {
            return Optional.empty();
        }
        int begin = tokens - Math.min(CONTINUATION, tokens / 2);
        return Optional.of(
                new Exercise(Exercise.TEXT + name, tokens, 0, all.subList(0, begin), Optional.empty(),
                        all.subList(begin, tokens)));
    }

    private static List<Integer> boxed(int[] tokens) {
        return Arrays.stream(tokens).boxed().toList();
    }
}
