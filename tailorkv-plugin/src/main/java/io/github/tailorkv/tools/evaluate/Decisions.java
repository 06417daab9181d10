package io.github.tailorkv.tools.evaluate;

import io.github.tailorkv.config.LayerKind;
import java.util.ArrayList;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * What the prompts of each family decided under a policy that leaves it to them.
 *
 * @param policy the policy
 * @param families label of a family, and what its prompts decided at all lengths together
 */
public record Decisions(String policy, Map<String, Decision> families) {

    /**
     * What prompts decided, layer by layer.
     *
     * @param densePreference mean over the prompts
     * @param quantized share of the prompts for which the layer was quantized
     */
    public record Decision(List<Double> densePreference, List<Double> quantized) {
        public Decision {
            densePreference = List.copyOf(densePreference);
            quantized = List.copyOf(quantized);
        }
    }

    public Decisions {
        families = new LinkedHashMap<>(families);
    }

    /** The decisions of the first policy under which prompts decided every layer; empty if there is none. */
    public static Optional<Decisions> of(Collection<Result> results) {
        for (String policy : results.stream().map(result -> result.key().policy()).distinct().toList()) {
            Map<String, List<Result>> families = new LinkedHashMap<>();
            for (Result result : results) {
                boolean decided = !result.densePreference().isEmpty()
                        && result.densePreference().stream().noneMatch(value -> value.isNaN());
                if (decided && result.key().policy().equals(policy)) {
                    families.computeIfAbsent(result.key().family(), family -> new ArrayList<>()).add(result);
                }
            }
            if (families.size() > 1) {
                Map<String, Decision> decisions = new LinkedHashMap<>();
                families.forEach((family, group) -> decisions.put(family, decision(group)));
                return Optional.of(new Decisions(policy, decisions));
            }
        }
        return Optional.empty();
    }

    private static Decision decision(List<Result> group) {
        List<Double> preference = new ArrayList<>();
        List<Double> quantized = new ArrayList<>();
        for (int i = 0; i < group.getFirst().densePreference().size(); i++) {
            int layer = i;
            preference.add(
                    group.stream().mapToDouble(result -> result.densePreference().get(layer)).average().orElse(0));
            quantized.add(
                    group.stream().filter(result -> result.kinds().get(layer).equals(LayerKind.QUANTIZED.label()))
                            .count() / (double) group.size());
        }
        return new Decision(preference, quantized);
    }
}
