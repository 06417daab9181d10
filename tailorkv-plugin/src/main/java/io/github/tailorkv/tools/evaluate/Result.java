package io.github.tailorkv.tools.evaluate;

import io.github.tailorkv.json.JsonException;
import io.github.tailorkv.json.JsonObject;
import java.util.List;

/**
 * How one contender did one exercise.
 *
 * @param key what was done
 * @param settings of the contender
 * @param model fingerprint of the model
 * @param promptTokens tokens read
 * @param accuracy share of the references in the contender's own greedy answer; NaN for a text
 * @param answer that answer
 * @param steps tokens that were decoded along the exact answer, or along the text
 * @param divergence mean over these steps of the divergence of the next-token distribution from that of exact, in nats
 * @param worstDivergence the largest of them
 * @param surprise mean over these steps of the negative log-probability of the token that comes; exp of it is the perplexity
 * @param residentBytes KV bytes in RAM at the end
 * @param offloadedBytes KV bytes in the offload tier at the end
 * @param stockBytes what Jlama's own F32 cache holds for as many tokens
 * @param prefillRate tokens a second
 * @param stepMillis mean time of a decode step but the first
 * @param firstStepMillis time of the first decode step, in which an online policy decides and converts
 * @param densePreference of each layer; NaN where it was not computed
 * @param kinds of each layer
 */
public record Result(Key key, String settings, String model, int promptTokens, double accuracy, String answer,
        int steps,
        double divergence, double worstDivergence, double surprise, double residentBytes, double offloadedBytes,
        double stockBytes, double prefillRate, double stepMillis, double firstStepMillis, List<Double> densePreference,
        List<String> kinds) {

    public Result {
        densePreference = List.copyOf(densePreference);
        kinds = List.copyOf(kinds);
    }

    /** Tells results apart. */
    public record Key(String family, int tokens, int index, long seed, String policy) {}

    /** This result with the contender's own answer. */
    Result answered(String own, Exercise exercise) {
        return new Result(
                key, settings, model, promptTokens, exercise.score(own), own, steps, divergence, worstDivergence,
                surprise, residentBytes, offloadedBytes, stockBytes, prefillRate, stepMillis, firstStepMillis,
                densePreference, kinds);
    }

    JsonObject toJson() {
        return new JsonObject()
                .put("family", key.family)
                .put("tokens", key.tokens)
                .put("index", key.index)
                .put("seed", (double) key.seed)
                .put("policy", key.policy)
                .put("settings", settings)
                .put("model", model)
                .put("promptTokens", promptTokens)
                .put("accuracy", accuracy)
                .put("answer", answer)
                .put("steps", steps)
                .put("kl", divergence)
                .put("klMax", worstDivergence)
                .put("nll", surprise)
                .put("residentBytes", residentBytes)
                .put("offloadedBytes", offloadedBytes)
                .put("stockBytes", stockBytes)
                .put("prefillTokensPerSecond", prefillRate)
                .put("millisPerToken", stepMillis)
                .put("firstStepMillis", firstStepMillis)
                .put("densePreference", densePreference)
                .put("kinds", kinds);
    }

    static Result of(JsonObject json) throws JsonException {
        return new Result(
                new Key(
                        json.text("family"), json.whole("tokens"), json.whole("index"), (long) json.number("seed"),
                        json.text("policy")),
                json.text("settings"), json.text("model"), json.whole("promptTokens"), json.numberOrNaN("accuracy"),
                json.text("answer"), json.whole("steps"), json.numberOrNaN("kl"), json.numberOrNaN("klMax"),
                json.numberOrNaN("nll"), json.number("residentBytes"), json.number("offloadedBytes"),
                json.number("stockBytes"), json.numberOrNaN("prefillTokensPerSecond"),
                json.numberOrNaN("millisPerToken"), json.numberOrNaN("firstStepMillis"),
                json.numbers("densePreference"),
                json.texts("kinds"));
    }
}
