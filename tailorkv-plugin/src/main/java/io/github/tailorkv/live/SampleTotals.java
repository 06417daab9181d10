package io.github.tailorkv.live;

import io.github.tailorkv.spi.StepSample;
import io.github.tailorkv.spi.StepSample.Phase;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;

/** Sums over the measured steps of a session or a model. */
final class SampleTotals {

    private final Map<Phase, long[]> nanos = new EnumMap<>(Phase.class);
    private final long[] bytes;
    private final double[] recall;
    private final long[] recallSteps;
    private long steps;
    private long stepNanos;

    SampleTotals(int layers) {
        for (Phase phase : Phase.values()) {
            nanos.put(phase, new long[layers]);
        }
        bytes = new long[layers];
        recall = new double[layers];
        recallSteps = new long[layers];
    }

    /** Adds a step that took {@code duration} nanoseconds in all, Jlama's part included. */
    synchronized void add(StepSample step, long duration) {
        steps++;
        stepNanos += duration;
        for (int layer = 0; layer < bytes.length; layer++) {
            for (Phase phase : Phase.values()) {
                of(phase)[layer] += step.nanos(layer, phase);
            }
            bytes[layer] += step.bytesRead(layer);
            double share = step.recall(layer);
            if (!Double.isNaN(share)) {
                recall[layer] += share;
                recallSteps[layer]++;
            }
        }
    }

    private long[] of(Phase phase) {
        return Objects.requireNonNull(nanos.get(phase));
    }

    synchronized long steps() {
        return steps;
    }

    synchronized long stepNanos() {
        return stepNanos;
    }

    /** One record a layer. */
    synchronized List<SampledLayer> layers() {
        List<SampledLayer> all = new ArrayList<>();
        for (int layer = 0; layer < bytes.length; layer++) {
            all.add(
                    new SampledLayer(
                            layer,
                            steps,
                            of(Phase.APPEND)[layer],
                            of(Phase.SCORE)[layer],
                            of(Phase.GATHER)[layer],
                            of(Phase.ATTEND)[layer],
                            bytes[layer],
                            recallSteps[layer] == 0 ? Double.NaN : recall[layer] / recallSteps[layer],
                            recallSteps[layer]));
        }
        return all;
    }
}
