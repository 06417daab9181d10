package io.github.tailorkv.tools;

import io.github.tailorkv.live.LayerReading;
import io.github.tailorkv.live.ModelMXBean;
import io.github.tailorkv.live.SessionReading;
import java.util.List;

/**
 * A model as its MXBean shows it at one moment.
 *
 * @param name of the MXBean, the same for as long as the model is loaded
 */
record ModelSnapshot(
        String name, String architecture, String provider, String backend, String policy, int contextLength,
        long stockBytesPerToken, int sampleEvery, long sampledSteps, long sampledNanos, List<SessionReading> sessions,
        List<LayerReading> layers) {

    /** Means over the steps that were measured; a step of all layers takes {@code stepMillis}, Jlama's part included. */
    record Means(long steps, double stepMillis, List<LayerMeans> layers) {}

    /** Means of one layer; of the recall over all steps since the model was loaded, NaN if it was not measured. */
    record LayerMeans(
            double appendMicros, double scoreMicros, double gatherMicros, double attendMicros, double bytesRead,
            double recall) {

        double micros() {
            return appendMicros + scoreMicros + gatherMicros + attendMicros;
        }
    }

    static ModelSnapshot of(String name, ModelMXBean bean) {
        return new ModelSnapshot(
                name, bean.getArchitecture(), bean.getProvider(), bean.getBackend(), bean.getPolicy(),
                bean.getContextLength(), bean.getStockBytesPerToken(), bean.getSampleEvery(), bean.getSampledSteps(),
                bean.getSampledNanos(), bean.getSessions(), bean.getLayers());
    }

    /** Means over everything since the model was loaded. */
    Means means() {
        return new Means(
                sampledSteps, sampledNanos / 1e6 / Math.max(1, sampledSteps),
                layers.stream().map(layer -> means(layer, 0, 0, 0, 0, 0, 0)).toList());
    }

    /** Means over the steps since an earlier reading of the same model. */
    Means since(ModelSnapshot before) {
        long steps = sampledSteps - before.sampledSteps;
        return new Means(
                steps, (sampledNanos - before.sampledNanos) / 1e6 / Math.max(1, steps),
                layers.stream().map(layer -> {
                    LayerReading old = before.layers.get(layer.layer());
                    return means(
                            layer, old.sampledSteps(), old.appendNanos(), old.scoreNanos(), old.gatherNanos(),
                            old.attendNanos(), old.bytesRead());
                }).toList());
    }

    private static LayerMeans means(
            LayerReading layer, long steps, long append, long score, long gather, long attend, long bytes) {
        double count = Math.max(1, layer.sampledSteps() - steps);
        return new LayerMeans(
                (layer.appendNanos() - append) / count / 1000, (layer.scoreNanos() - score) / count / 1000,
                (layer.gatherNanos() - gather) / count / 1000, (layer.attendNanos() - attend) / count / 1000,
                (layer.bytesRead() - bytes) / count, layer.recall());
    }

    long tokens() {
        return sessions.stream().mapToLong(SessionReading::tokens).sum();
    }

    long residentBytes() {
        return layers.stream().mapToLong(LayerReading::residentBytes).sum();
    }

    long offloadedBytes() {
        return layers.stream().mapToLong(LayerReading::offloadedBytes).sum();
    }
}
