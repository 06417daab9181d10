package io.github.tailorkv.cache;

import java.util.Arrays;

/**
 * The range of each key channel over all sealed tokens of a layer, from which critical channels are chosen. Forgetting
 * tokens leaves the ranges as wide as they were: a channel that was important stays a candidate, which costs nothing.
 */
final class ChannelRanges {

    private final float[][] least;
    private final float[][] most;
    private final float[][] magnitude;
    private final float[][] range;

    ChannelRanges(int kvHeads, int headSize) {
        least = new float[kvHeads][headSize];
        most = new float[kvHeads][headSize];
        magnitude = new float[kvHeads][headSize];
        range = new float[kvHeads][headSize];
        for (int head = 0; head < kvHeads; head++) {
            Arrays.fill(least[head], Float.POSITIVE_INFINITY);
            Arrays.fill(most[head], Float.NEGATIVE_INFINITY);
        }
    }

    /** Widens the range of a channel. */
    void include(int head, int channel, float low, float high) {
        float a = Math.min(least[head][channel], low);
        float b = Math.max(most[head][channel], high);
        least[head][channel] = a;
        most[head][channel] = b;
        magnitude[head][channel] = Math.max(Math.abs(a), Math.abs(b));
        range[head][channel] = b - a;
    }

    float[] magnitude(int head) {
        return magnitude[head];
    }

    float[] range(int head) {
        return range[head];
    }
}
