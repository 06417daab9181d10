package io.github.tailorkv.spi;

/**
 * What one layer of one session holds.
 *
 * @param layer index of the layer in this process, from 0
 * @param kind {@code exact}, {@code quantized} or {@code retrieval}; {@link #OPEN} while it is not decided
 * @param densePreference dense preference score in [0, 1]; NaN where it was not computed
 * @param tokens tokens held
 * @param residentBytes bytes in RAM, with scales, index and windows
 * @param offloadedBytes bytes in the offload tier
 */
public record LayerStatistics(
        int layer, String kind, double densePreference, int tokens, long residentBytes, long offloadedBytes) {

    /** The kind of a layer that no decode step has decided yet, and that attends to everything meanwhile. */
    public static final String OPEN = "open";
}
