package io.github.tailorkv.tools.evaluate;

import io.github.tailorkv.json.JsonObject;
import java.util.ArrayList;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.function.Predicate;
import java.util.function.ToDoubleFunction;

/**
 * Results by length and contender. A contender is compared with exact on the exercises that it has done, families counting
 * alike in the mean accuracy.
 */
public final class Summary {

    /**
     * How a contender did at one length.
     *
     * @param prompts exercises done
     * @param accuracy mean over the families, in percent; NaN if there were only texts
     * @param exactAccuracy the same of exact on the same exercises
     * @param worstFamily the family that lost most against exact; empty if none lost
     * @param worstDrop what it lost, in points
     * @param divergence mean over all steps
     * @param worstDivergence the largest of any step
     * @param resident KV bytes in RAM over those of Jlama's cache
     * @param offloaded KV bytes in the offload tier over those of Jlama's cache
     * @param prefillRate tokens a second
     * @param stepMillis milliseconds a token
     * @param perplexity of the texts; NaN if there were none
     * @param exactPerplexity the same of exact
     * @param families accuracy by family, in percent
     */
    public record Line(String policy, String settings, int tokens, int prompts, double accuracy, double exactAccuracy,
            String worstFamily, double worstDrop, double divergence, double worstDivergence, double resident,
            double offloaded, double prefillRate, double stepMillis, double perplexity, double exactPerplexity,
            Map<String, Double> families) {

        public Line {
            families = Map.copyOf(families);
        }

        JsonObject toJson() {
            JsonObject byFamily = new JsonObject();
            new TreeMap<>(families).forEach(byFamily::put);
            return new JsonObject()
                    .put("policy", policy)
                    .put("settings", settings)
                    .put("tokens", tokens)
                    .put("prompts", prompts)
                    .put("accuracy", accuracy)
                    .put("exactAccuracy", exactAccuracy)
                    .put("worstFamily", worstFamily)
                    .put("worstDrop", worstDrop)
                    .put("kl", divergence)
                    .put("klMax", worstDivergence)
                    .put("residentRatio", resident)
                    .put("offloadedRatio", offloaded)
                    .put("prefillTokensPerSecond", prefillRate)
                    .put("millisPerToken", stepMillis)
                    .put("perplexity", perplexity)
                    .put("exactPerplexity", exactPerplexity)
                    .put("families", byFamily);
        }
    }

    private final List<Line> lines = new ArrayList<>();

    /** Sums up results; {@code counted} says which families enter. */
    public Summary(Collection<Result> results, Predicate<String> counted) {
        Map<Result.Key, Result> exact = new LinkedHashMap<>();
        Map<Integer, Map<String, List<Result>>> groups = new TreeMap<>();
        for (Result result : results) {
            if (counted.test(result.key().family())) {
                if (result.key().policy().equals(Contender.EXACT.name())) {
                    exact.put(result.key(), result);
                }
                groups.computeIfAbsent(result.key().tokens(), tokens -> new LinkedHashMap<>())
                        .computeIfAbsent(result.key().policy(), policy -> new ArrayList<>())
                        .add(result);
            }
        }
        groups.forEach((tokens, byPolicy) -> byPolicy.forEach((policy, group) -> {
            List<Result> done = new ArrayList<>();
            List<Result> reference = new ArrayList<>();
            for (Result result : group) {
                Result.Key key = result.key();
                Result twin = exact.get(
                        new Result.Key(key.family(), key.tokens(), key.index(), key.seed(), Contender.EXACT.name()));
                if (twin != null) {
                    done.add(result);
                    reference.add(twin);
                }
            }
            if (!done.isEmpty()) {
                lines.add(line(policy, tokens, done, reference));
            }
        }));
    }

    private static Line line(String policy, int tokens, List<Result> results, List<Result> exact) {
        Map<String, Double> families = accuracies(results);
        Map<String, Double> exactFamilies = accuracies(exact);
        String worst = "";
        double drop = 0;
        for (Map.Entry<String, Double> entry : families.entrySet()) {
            double lost = exactFamilies.getOrDefault(entry.getKey(), Double.NaN) - entry.getValue();
            if (lost > drop + 1e-9) {
                drop = lost;
                worst = entry.getKey();
            }
        }
        double stock = results.stream().mapToDouble(Result::stockBytes).sum();
        return new Line(
                policy, results.getFirst().settings(), tokens, results.size(), mean(families.values()),
                mean(exactFamilies.values()), worst, drop, perStep(results, Result::divergence),
                results.stream().mapToDouble(Result::worstDivergence).filter(Double::isFinite).max().orElse(Double.NaN),
                results.stream().mapToDouble(Result::residentBytes).sum() / stock,
                results.stream().mapToDouble(Result::offloadedBytes).sum() / stock,
                results.stream().mapToInt(Result::promptTokens).sum()
                        / results.stream().mapToDouble(r -> r.promptTokens() / r.prefillRate()).sum(),
                perStep(results, Result::stepMillis), perplexity(results), perplexity(exact), families);
    }

    private static double perplexity(List<Result> results) {
        return Math.exp(
                perStep(results.stream().filter(r -> r.key().family().startsWith(Exercise.TEXT)).toList(),
                        Result::surprise));
    }

    private static Map<String, Double> accuracies(List<Result> results) {
        Map<String, List<Double>> values = new LinkedHashMap<>();
        for (Result result : results) {
            if (!Double.isNaN(result.accuracy())) {
                values.computeIfAbsent(result.key().family(), family -> new ArrayList<>())
                        .add(100 * result.accuracy());
            }
        }
        Map<String, Double> means = new LinkedHashMap<>();
        values.forEach((family, all) -> means.put(family, mean(all)));
        return means;
    }

    private static double mean(Collection<Double> values) {
        return values.stream().mapToDouble(value -> value).average().orElse(Double.NaN);
    }

    private static double perStep(List<Result> results, ToDoubleFunction<Result> value) {
        double sum = 0;
        long steps = 0;
        for (Result result : results) {
            if (Double.isFinite(value.applyAsDouble(result))) {
                sum += value.applyAsDouble(result) * result.steps();
                steps += result.steps();
            }
        }
        return steps == 0 ? Double.NaN : sum / steps;
    }

    /** All lines, by length and then in the order in which the contenders ran. */
    public List<Line> lines() {
        return List.copyOf(lines);
    }

    /** The lengths. */
    public Set<Integer> lengths() {
        Set<Integer> lengths = new TreeSet<>();
        lines.forEach(line -> lengths.add(line.tokens));
        return lengths;
    }

    /** As JSON. */
    public JsonObject toJson(String model) {
        return new JsonObject()
                .put("format", "tailorkv-evaluation")
                .put("version", 1)
                .put("model", model)
                .put("lines", lines.stream().map(Line::toJson).toList());
    }
}
