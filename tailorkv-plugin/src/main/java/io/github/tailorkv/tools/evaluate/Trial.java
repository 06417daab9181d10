package io.github.tailorkv.tools.evaluate;

import io.github.tailorkv.jlama.CacheVariant;
import io.github.tailorkv.jlama.LoadedModel;
import io.github.tailorkv.jlama.PromptRecording;
import io.github.tailorkv.jlama.TokenSession;
import io.github.tailorkv.spi.LayerStatistics;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * One exercise under several contenders. Exact runs first and greedily; what it answers is the path along which all others
 * are measured: each is fed the tokens of the exact answer and compared, step by step, in its distribution of the next
 * token. The first token follows from the prefill, which is not what a compressing cache changes, so it does not count.
 *
 * <p>Contenders that read a prompt alike share the reading: it takes nearly all of the time, and what each of them holds
 * when it is done is the same.
 *
 * <p>The contender's own answer is the same until it first prefers another token. From there the session is taken back to
 * that position and goes on greedily by itself.
 */
final class Trial implements AutoCloseable {
    private final LoadedModel model;
    private final String fingerprint;
    private final Exercise exercise;
    private final long seed;
    private final int answerTokens;

    /** What exact did: the tokens, and the log-probabilities from which each was taken. */
    private final List<Integer> path = new ArrayList<>();
    private final List<double[]> truth = new ArrayList<>();
    private final Map<String, Reading> readings = new HashMap<>();

    /** The prompt as one contender has read it, and how long that took. */
    private record Reading(PromptRecording recording, double nanos) {}

    /** @param answerTokens most tokens of an answer */
    Trial(LoadedModel model, String fingerprint, Exercise exercise, long seed, int answerTokens) {
        this.model = model;
        this.fingerprint = fingerprint;
        this.exercise = exercise;
        this.seed = seed;
        this.answerTokens = answerTokens;
    }

    /**
     * Runs the exact cache; must come first.
     *
     * @param shared whether a contender will take over what it has read
     */
    Result exact(CacheVariant variant, boolean shared) {
        try (TokenSession session = variant.start()) {
            Clock clock = new Clock();
            float[] logits = read(shared ? Optional.of(Contender.EXACT_READING) : Optional.empty(), session, clock);
            boolean given = !exercise.continuation().isEmpty();
            int most = given ? exercise.continuation().size() : answerTokens;
            double surprise = 0;
            while (true) {
                double[] logs = Logits.logProbabilities(logits);
                int token = given ? exercise.continuation().get(path.size()) : Logits.greatest(logits);
                path.add(token);
                truth.add(logs);
                surprise -= path.size() == 1 ? 0 : logs[token];
                if (path.size() == most || (!given && model.isEnd(token))) {
                    break;
                }
                logits = clock.step(session, token);
            }
            int steps = path.size() - 1;
            return result(
                    Contender.EXACT, session, clock, given ? "" : answer(path), steps, steps == 0 ? Double.NaN : 0,
                    steps == 0 ? Double.NaN : 0, surprise / steps);
        }
    }

    /** Runs a contender along the path of exact. */
    Result contender(Contender contender, CacheVariant variant) {
        try (TokenSession session = variant.start()) {
            Clock clock = new Clock();
            float[] logits = read(contender.readsAs(variant.backend()), session, clock);
            boolean given = !exercise.continuation().isEmpty();
            int leaves = -1;
            int otherToken = -1;
            double sum = 0;
            double worst = 0;
            double surprise = 0;
            for (int i = 0; i < path.size(); i++) {
                if (i > 0) {
                    logits = clock.step(session, path.get(i - 1));
                    double[] logs = Logits.logProbabilities(logits);
                    double divergence = Logits.divergence(truth.get(i), logs);
                    sum += divergence;
                    worst = Math.max(worst, divergence);
                    surprise -= logs[path.get(i)];
                }
                int preferred = Logits.greatest(logits);
                if (leaves < 0 && !given && preferred != path.get(i)) {
                    leaves = i;
                    otherToken = preferred;
                }
            }
            int steps = path.size() - 1;
            Result along = result(
                    contender, session, clock, "", steps, steps == 0 ? Double.NaN : sum / steps,
                    steps == 0 ? Double.NaN : worst, surprise / steps);
            if (given) {
                return along;
            }
            List<Integer> own = leaves < 0 ? path : goOn(session, leaves, otherToken);
            return along.answered(answer(own), exercise);
        }
    }

    /** Reads the prompt, or takes over what a contender that reads it alike has read. */
    private float[] read(Optional<String> how, TokenSession session, Clock clock) {
        if (how.isEmpty()) {
            return clock.prefill(session, exercise.prompt());
        }
        Reading known = readings.get(how.get());
        if (known != null) {
            clock.prefilled(known.recording().tokens(), known.nanos());
            return session.replay(known.recording());
        }
        int[] tokens = Exercise.array(exercise.prompt());
        long start = System.nanoTime();
        PromptRecording recording = session.record(tokens);
        Reading reading = new Reading(recording, System.nanoTime() - start);
        readings.put(how.get(), reading);
        clock.prefilled(tokens.length, reading.nanos());
        return recording.logits();
    }

    @Override
    public void close() {
        readings.values().forEach(reading -> reading.recording().close());
        readings.clear();
    }

    /** The contender's answer from where it leaves the path. */
    private List<Integer> goOn(TokenSession session, int leaves, int otherToken) {
        List<Integer> own = new ArrayList<>(path.subList(0, leaves));
        session.rewind(exercise.prompt().size() + leaves);
        int token = otherToken;
        own.add(token);
        while (own.size() < answerTokens && !model.isEnd(token)) {
            token = Logits.greatest(session.step(token));
            own.add(token);
        }
        return own;
    }

    private String answer(List<Integer> tokens) {
        return model.decode(Exercise.array(tokens));
    }

    private Result result(Contender contender, TokenSession session, Clock clock, String answer, int steps,
            double divergence, double worst, double surprise) {
        List<LayerStatistics> layers = session.statistics();
        return new Result(
                new Result.Key(exercise.family(), exercise.tokens(), exercise.index(), seed, contender.name()),
                contender.text(), fingerprint, exercise.prompt().size(), exercise.score(answer), answer, steps,
                divergence, worst, surprise, layers.stream().mapToLong(LayerStatistics::residentBytes).sum(),
                layers.stream().mapToLong(LayerStatistics::offloadedBytes).sum(),
                (double) model.shape().stockBytesPerToken() * session.position(), clock.prefillRate(),
                clock.stepMillis(), clock.firstStepMillis(),
                layers.stream().map(LayerStatistics::densePreference).toList(),
                layers.stream().map(LayerStatistics::kind).toList());
    }

    /** Times what the session does, and nothing else. */
    private static final class Clock {
        private double prefillNanos;
        private int prefilled;
        private double firstNanos = Double.NaN;
        private double laterNanos;
        private int laterSteps;

        float[] prefill(TokenSession session, List<Integer> prompt) {
            int[] tokens = Exercise.array(prompt);
            long start = System.nanoTime();
            float[] logits = session.prefill(tokens);
            prefillNanos = System.nanoTime() - start;
            prefilled = tokens.length;
            return logits;
        }

        void prefilled(int tokens, double nanos) {
            prefilled = tokens;
            prefillNanos = nanos;
        }

        float[] step(TokenSession session, int token) {
            long start = System.nanoTime();
            float[] logits = session.step(token);
            long nanos = System.nanoTime() - start;
            if (Double.isNaN(firstNanos)) {
                firstNanos = nanos;
            } else {
                laterNanos += nanos;
                laterSteps++;
            }
            return logits;
        }

        double prefillRate() {
            return prefilled / (prefillNanos / 1e9);
        }

        double firstStepMillis() {
            return firstNanos / 1e6;
        }

        double stepMillis() {
            return laterSteps == 0 ? Double.NaN : laterNanos / laterSteps / 1e6;
        }
    }
}
