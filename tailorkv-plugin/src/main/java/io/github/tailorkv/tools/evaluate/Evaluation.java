package io.github.tailorkv.tools.evaluate;

import io.github.tailorkv.config.Profile;
import io.github.tailorkv.jlama.CacheVariant;
import io.github.tailorkv.jlama.LoadedModel;
import io.github.tailorkv.jlama.TokenSession;
import java.io.IOException;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.ObjDoubleConsumer;

/** All exercises under all contenders, on one model. What is in the file of results already is not done again. */
public final class Evaluation {
    private static final int WARM_UP_TOKENS = 512;
    private static final int WARM_UP_STEPS = 8;

    private final LoadedModel model;
    private final String fingerprint;
    private final List<Contender> contenders;
    private final ResultFile results;
    private final long seed;
    private final int answerTokens;

    /**
     * @param directory of the model
     * @param contenders without exact, which always runs
     * @param answerTokens most tokens of an answer
     * @throws IOException if the results are those of another model, or of contenders of the same name that were others
     */
    public Evaluation(LoadedModel model, Path directory, List<Contender> contenders, ResultFile results, long seed,
            int answerTokens) throws IOException {
        this.model = model;
        this.fingerprint = Profile.fingerprint(directory).orElse("");
        this.contenders = contenders;
        this.results = results;
        this.seed = seed;
        this.answerTokens = answerTokens;
        for (Result result : results.all()) {
            if (!result.model().equals(fingerprint)) {
                throw new IOException(
                        "the results that are there are of another model; name another folder with --output");
            }
            for (Contender contender : contenders) {
                if (result.key().policy().equals(contender.name()) && !result.settings().equals(contender.text())) {
                    throw new IOException("the results that are there for " + contender.name() + " were made with "
                            + result.settings() + ", not " + contender.text()
                            + "; give it another name, or name another folder with --output");
                }
            }
        }
    }

    /** Work of an exercise, in tokens read; 0 if it is done. */
    public double work(Exercise exercise) {
        long missing = contenders.stream().filter(contender -> isMissing(exercise, contender)).count();
        if (missing == 0 && !isMissing(exercise, Contender.EXACT)) {
            return 0;
        }
        return (1 + missing) * (double) exercise.prompt().size();
    }

    private boolean isMissing(Exercise exercise, Contender contender) {
        return !results.has(
                new Result.Key(exercise.family(), exercise.tokens(), exercise.index(), seed, contender.name()));
    }

    /**
     * Does what is missing.
     *
     * @param progress told what is being done and how much work has been done since the last call
     * @throws IOException if a result cannot be written
     */
    public void run(List<Exercise> exercises, ObjDoubleConsumer<String> progress) throws IOException {
        List<Exercise> open = exercises.stream().filter(exercise -> work(exercise) > 0).toList();
        if (open.isEmpty()) {
            return;
        }
        Map<Contender, CacheVariant> variants = new LinkedHashMap<>();
        try {
            variants.put(Contender.EXACT, model.variant(Contender.EXACT.settings()));
            for (Contender contender : contenders) {
                variants.put(contender, model.variant(contender.settings()));
            }
            progress.accept("warming up", 0);
            variants.values().forEach(this::warmUp);
            for (Exercise exercise : open) {
                run(exercise, variants, progress);
            }
        } finally {
            variants.values().forEach(CacheVariant::close);
        }
    }

    private void warmUp(CacheVariant variant) {
        int[] tokens = new int[Math.min(WARM_UP_TOKENS, model.shape().contextLength() / 2)];
        Arrays.setAll(tokens, i -> (i * 31 + 7) % model.vocabulary());
        try (TokenSession session = variant.start()) {
            session.prefill(tokens);
            for (int i = 0; i < WARM_UP_STEPS; i++) {
                session.step(tokens[i]);
            }
        }
    }

    private void run(Exercise exercise, Map<Contender, CacheVariant> variants, ObjDoubleConsumer<String> progress)
            throws IOException {
        String what = exercise.family() + " " + exercise.tokens() + " #" + exercise.index() + " ";
        try (Trial trial = new Trial(model, fingerprint, exercise, seed, answerTokens)) {
            run(exercise, trial, what, variants, progress);
        }
    }

    private void run(Exercise exercise, Trial trial, String what, Map<Contender, CacheVariant> variants,
            ObjDoubleConsumer<String> progress) throws IOException {
        for (Map.Entry<Contender, CacheVariant> entry : variants.entrySet()) {
            Contender contender = entry.getKey();
            boolean exact = contender.equals(Contender.EXACT);
            if (!exact && !isMissing(exercise, contender)) {
                continue;
            }
            progress.accept(what + contender.name(), 0);
            Result result = exact
                    ? trial.exact(entry.getValue(), isReadingShared(exercise))
                    : trial.contender(contender, entry.getValue());
            if (isMissing(exercise, contender)) {
                results.add(result);
            }
            progress.accept(what + contender.name(), exercise.prompt().size());
        }
    }

    private boolean isReadingShared(Exercise exercise) {
        return contenders.stream()
                .anyMatch(contender -> contender.readsAsExact() && isMissing(exercise, contender));
    }
}
