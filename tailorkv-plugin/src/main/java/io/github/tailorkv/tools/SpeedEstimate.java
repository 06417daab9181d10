package io.github.tailorkv.tools;

import io.github.tailorkv.cache.AttentionTiming;
import io.github.tailorkv.config.LayerKind;
import io.github.tailorkv.spi.ModelShape;
import java.util.EnumMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;

/**
 * How long a model will take for a token, under policies and at lengths that nobody has run: all but attention, which does
 * not depend on the length, plus the attention of each layer.
 */
final class SpeedEstimate {
    private final Map<PlannedPolicy, Map<LayerKind, AttentionTiming>> timings = new EnumMap<>(PlannedPolicy.class);
    private final double floorMillis;

    /**
     * Measures attention.
     *
     * @param found kinds of the layers that the profile found
     * @param stepMillis what the model took for a token under {@link PlannedPolicy#EXACT}
     * @param stepTokens with so many tokens before it
     */
    SpeedEstimate(ModelShape shape, List<LayerKind> found, double stepMillis, int stepTokens) {
        for (PlannedPolicy policy : PlannedPolicy.values()) {
            Map<LayerKind, AttentionTiming> byKind = new EnumMap<>(LayerKind.class);
            for (LayerKind kind : new HashSet<>(policy.kinds(found))) {
                byKind.put(kind, AttentionTiming.measure(shape, policy.settings(kind)));
            }
            timings.put(policy, byKind);
        }
        floorMillis = Math.max(0, stepMillis - attention(PlannedPolicy.EXACT, found, stepTokens));
    }

    /** Milliseconds of all but attention: matrix products, norms, the choice of a token. */
    double floorMillis() {
        return floorMillis;
    }

    /** Milliseconds a token with so many tokens before it. */
    double millis(PlannedPolicy policy, List<LayerKind> found, int tokens) {
        return floorMillis + attention(policy, found, tokens);
    }

    private double attention(PlannedPolicy policy, List<LayerKind> found, int tokens) {
        Map<LayerKind, AttentionTiming> byKind = timings.getOrDefault(policy, Map.of());
        double sum = 0;
        for (LayerKind kind : policy.kinds(found)) {
            AttentionTiming timing = byKind.get(kind);
            sum += timing == null ? Double.NaN : timing.millis(tokens);
        }
        return sum;
    }
}
