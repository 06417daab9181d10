package io.github.tailorkv.cache;

import io.github.tailorkv.config.Settings;
import io.github.tailorkv.kernels.AttentionKernels;
import io.github.tailorkv.kernels.AttentionShape;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import org.jspecify.annotations.Nullable;

/**
 * The channels of the keys that a resident index holds, per KV head. A decode step scores tokens by a few critical channels
 * (TailorKV, section 3.3); which they are changes from query to query, yet they are nearly always taken from the same half
 * of the channels, so that the index of the other half is memory for nothing.
 *
 * <p>A channel's <em>weight</em> for a query is how much it can move a score: the largest magnitude that the queries of the
 * head group have in it, times what the keys do in it. Published is the largest magnitude of the keys, and the averaged
 * query; a channel with a large mean and a small range shifts all scores alike and ranks nothing, so the range is used
 * instead where the published method is not asked for.
 */
final class IndexedChannels {

    private final int[][] channels;

    /** @param channels of each KV head, ascending */
    private IndexedChannels(int[][] channels) {
        this.channels = channels;
    }

    /** All channels. */
    static IndexedChannels all(AttentionShape shape) {
        int[] every = new int[shape.headSize()];
        Arrays.setAll(every, c -> c);
        int[][] channels = new int[shape.kvHeads()][];
        Arrays.fill(channels, every);
        return new IndexedChannels(channels);
    }

    /**
     * As many channels as the settings say, those of the largest weight in sum over queries.
     *
     * @param keys where the keys are
     * @param queries the newest ones; null or none to go by the keys alone
     */
    static IndexedChannels choose(LayerContext context, IndexedBlocks keys, @Nullable RecentQueries queries) {
        AttentionShape shape = context.shape();
        Settings settings = context.settings();
        int headSize = shape.headSize();
        int kept = settings.indexedChannels(headSize);
        if (kept == headSize) {
            return all(shape);
        }
        TopTokens top = new TopTokens(context.kernels());
        int[] chosen = new int[headSize];
        int[][] channels = new int[shape.kvHeads()][];
        for (int head = 0; head < shape.kvHeads(); head++) {
            float[] extent = extent(keys, head, settings);
            float[] weights = queries == null || queries.count() == 0
                    ? extent
                    : weights(context, head, extent, queries);
            channels[head] = Arrays.copyOf(chosen, top.selectChannels(weights, headSize, kept, chosen));
        }
        return new IndexedChannels(channels);
    }

    private static float[] weights(LayerContext context, int head, float[] extent, RecentQueries queries) {
        AttentionShape shape = context.shape();
        int headSize = shape.headSize();
        int group = shape.groupSize();
        long rowBytes = (long) headSize * Float.BYTES;
        float[] weights = new float[headSize];
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment q = arena.allocate((group + 1) * rowBytes, 64);
            for (int i = 0; i < queries.count(); i++) {
                queries.copyGroup(i, head * group, group, headSize, q, 0);
                if (published(context.settings())) {
                    average(q, 0, group, rowBytes, headSize, q, group * rowBytes);
                    addWeights(q, group * rowBytes, 1, rowBytes, extent, headSize, weights);
                } else {
                    addWeights(q, 0, group, rowBytes, extent, headSize, weights);
                }
            }
        }
        return weights;
    }

    /** Whether channels are weighed as published. */
    static boolean published(Settings settings) {
        return settings.selection() == Settings.Selection.AVERAGED;
    }

    /** What the keys do in each channel of an index. */
    static float[] extent(IndexedBlocks keys, int head, Settings settings) {
        return published(settings) ? keys.keyMagnitude(head) : keys.keyRange(head);
    }

    /** Adds the weight of the first {@code count} channels for the queries of a head group. */
    static void addWeights(
            MemorySegment q, long qOffset, int rows, long rowBytes, float[] extent, int count, float[] weights) {
        for (int c = 0; c < count; c++) {
            float largest = 0;
            for (int row = 0; row < rows; row++) {
                largest = Math.max(
                        largest, Math.abs(q.get(ValueLayout.JAVA_FLOAT, qOffset + row * rowBytes + 4L * c)));
            }
            weights[c] += largest * extent[c];
        }
    }

    /** Writes the mean of the rows of a head group. */
    static void average(
            MemorySegment q, long qOffset, int rows, long rowBytes, int count, MemorySegment mean, long meanOffset) {
        for (int c = 0; c < count; c++) {
            float sum = 0;
            for (int row = 0; row < rows; row++) {
                sum += q.get(ValueLayout.JAVA_FLOAT, qOffset + row * rowBytes + 4L * c);
            }
            mean.set(ValueLayout.JAVA_FLOAT, meanOffset + 4L * c, sum / rows);
        }
    }

    /** The channels of a KV head, ascending; for {@link AttentionKernels#quantizeIndex}. */
    int[] of(int head) {
        return channels[head];
    }

    /** Channels of one KV head. */
    int count() {
        return channels[0].length;
    }
}
