package io.github.tailorkv.live;

/**
 * One layer of a model as {@link ModelMXBean} shows it: what its sessions hold, and sums over the steps that were measured
 * since the model was loaded. Who wants means of a while takes the difference of two readings.
 *
 * @param layer index of the layer in this process, from 0
 * @param kind {@code exact}, {@code quantized} or {@code retrieval}, or {@code open} while it is not decided; where sessions
 *     differ, each kind with the number of its sessions; empty without a session
 * @param densePreference dense preference, the mean over the sessions in which it was computed; NaN if there is none
 * @param tokens tokens held, all sessions together
 * @param residentBytes bytes in RAM
 * @param offloadedBytes bytes in the offload tier
 * @param sampledSteps steps measured
 * @param appendNanos time in storing new tokens
 * @param scoreNanos time in approximate scores; 0 where the kind of the layer has none, as the next
 * @param gatherNanos time in selecting tokens and reading them back
 * @param attendNanos time in attention itself
 * @param bytesRead bytes of keys, values, scales and index that attention read
 * @param recall mean share of the true top-k that was selected; NaN if it was not measured
 * @param recallSteps steps in which the recall was measured
 */
public record LayerReading(
        int layer, String kind, double densePreference, long tokens, long residentBytes, long offloadedBytes,
        long sampledSteps, long appendNanos, long scoreNanos, long gatherNanos, long attendNanos, long bytesRead,
        double recall, long recallSteps) {}
