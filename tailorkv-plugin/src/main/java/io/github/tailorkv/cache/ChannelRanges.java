package io.github.tailorkv.cache;

import io.github.tailorkv.kernels.BlockLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;

/**
 * The range of each key channel that an index holds over all sealed tokens of a layer, from which critical channels are
 * chosen. Forgetting tokens leaves the ranges as wide as they were: a channel that was important stays a candidate, which
 * costs nothing.
 *
 * <p>Several threads seal blocks of one KV head at the same time, so that including a block holds the head's lock; ranges
 * are read when all have been sealed.
 */
final class ChannelRanges {

    private final float[][] least;
    private final float[][] most;
    private final float[][] magnitude;
    private final float[][] range;

    ChannelRanges(int kvHeads, int channels) {
        least = new float[kvHeads][channels];
        most = new float[kvHeads][channels];
        magnitude = new float[kvHeads][channels];
        range = new float[kvHeads][channels];
        for (int head = 0; head < kvHeads; head++) {
            Arrays.fill(least[head], Float.POSITIVE_INFINITY);
            Arrays.fill(most[head], Float.NEGATIVE_INFINITY);
        }
    }

    /** Widens the ranges of a head by a progressive key block, whose f16 fields are those of 8-bit codes. */
    void includeProgressive(int head, MemorySegment block, long at) {
        int channels = least[head].length;
        include(head, block, at + BlockLayout.keyScales(4, channels), at + BlockLayout.keyZeros(4, channels), 1,
                BlockLayout.maxCode(8));
    }

    /** Widens the ranges of a head by one block of an index panel. */
    void includePanel(int head, MemorySegment panel, long at, int bits, int block) {
        int channels = least[head].length;
        long field = (long) block * Short.BYTES;
        include(head, panel, at + BlockLayout.panelScales(bits, channels) + field,
                at + BlockLayout.panelZeros(bits, channels) + field, BlockLayout.PANEL, BlockLayout.maxCode(bits));
    }

    /** A channel's keys lie between its zero point and {@code steps} scales above it. */
    private void include(int head, MemorySegment block, long scales, long zeros, int stride, int steps) {
        synchronized (least[head]) {
            for (int c = 0; c < least[head].length; c++) {
                long field = (long) c * stride * Short.BYTES;
                float scale = Float.float16ToFloat(block.get(ValueLayout.JAVA_SHORT, scales + field));
                float zero = Float.float16ToFloat(block.get(ValueLayout.JAVA_SHORT, zeros + field));
                include(head, c, zero, zero + steps * scale);
            }
        }
    }

    private void include(int head, int channel, float low, float high) {
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
