package io.github.tailorkv.live;

/**
 * What was measured of one layer, summed over the steps that were measured. A time is 0 where the layer has no such phase
 * or the backend cannot tell.
 *
 * @param layer index of the layer in this process, from 0
 * @param steps steps measured
 * @param appendNanos storing new tokens
 * @param scoreNanos approximate scores
 * @param gatherNanos selecting tokens and reading them back
 * @param attendNanos attention itself
 * @param bytesRead bytes of keys, values, scales and index that attention read
 * @param recall mean share of the true top-k that was selected; NaN if it was not measured
 * @param recallSteps steps in which the recall was measured
 */
public record SampledLayer(
        int layer, long steps, long appendNanos, long scoreNanos, long gatherNanos, long attendNanos, long bytesRead,
        double recall, long recallSteps) {}
