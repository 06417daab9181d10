package io.github.tailorkv.cache;

import io.github.tailorkv.kernels.AttentionKernels;
import io.github.tailorkv.kernels.AttentionShape;
import io.github.tailorkv.kernels.BlockLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Objects;
import org.jspecify.annotations.Nullable;

/**
 * How well a retrieval layer selects: which share of the tokens that it should have selected it did select.
 *
 * <p>Should have been selected, of k tokens, the k that have the largest share of attention in any query head of the head
 * group, by the scores of all channels of the rows as they are stored. That yardstick is the same however the layer
 * itself ranks tokens. Sinks are left out on both sides, for they are selected in any case.
 *
 * <p>This reads every row of the layer, from the offload tier too, and so is many times slower than the step that it
 * checks.
 */
final class RecallCheck implements AutoCloseable {

    private final AttentionKernels kernels;
    private final AttentionShape shape;
    private final int sinks;
    private final DecodeScratch[] scratch;
    private final GrowingBuffer[] buffers;
    private final TopTokens[] tops;
    private final int[] hits;
    private final int[] wanted;
    private final long rowBytes;
    private final long groupBytes;

    private @Nullable LayerCache layer;
    private MemorySegment q = MemorySegment.NULL;
    private int[][] chosen = {};
    private int[] chosenCount = {};

    RecallCheck(AttentionKernels kernels, AttentionShape shape, int sinks, DecodeScratch[] scratch) {
        this.kernels = kernels;
        this.shape = shape;
        this.sinks = sinks;
        this.scratch = scratch;
        buffers = new GrowingBuffer[scratch.length];
        tops = new TopTokens[scratch.length];
        for (int slot = 0; slot < scratch.length; slot++) {
            buffers[slot] = new GrowingBuffer();
            tops[slot] = new TopTokens(kernels);
        }
        hits = new int[shape.kvHeads()];
        wanted = new int[shape.kvHeads()];
        rowBytes = (long) shape.headSize() * Float.BYTES;
        groupBytes = shape.groupSize() * rowBytes;
    }

    /**
     * The share of a layer, over all KV heads; NaN if nothing but sinks was to be selected.
     *
     * @param q queries of the token, {@code float[heads][headSize]}
     * @param chosen positions selected for each KV head, ascending
     * @param chosenCount how many they are
     */
    double share(LayerCache layer, MemorySegment q, int[][] chosen, int[] chosenCount, Workers workers) {
        this.layer = layer;
        this.q = q;
        this.chosen = chosen;
        this.chosenCount = chosenCount;
        workers.run(this::check, shape.kvHeads());
        this.layer = null;
        int found = 0;
        int all = 0;
        for (int head = 0; head < shape.kvHeads(); head++) {
            found += hits[head];
            all += wanted[head];
        }
        return all == 0 ? Double.NaN : (double) found / all;
    }

    private void check(int head, int slot) {
        SealedBlocks blocks = Objects.requireNonNull(layer).sealed();
        DecodeScratch work = scratch[slot];
        int group = shape.groupSize();
        int count = blocks.size();
        long blockBytes = (long) group * BlockLayout.BLOCK * Float.BYTES;
        long ranks = count * blockBytes;
        MemorySegment scores = buffers[slot].atLeast(ranks + (long) count * BlockLayout.BLOCK * Float.BYTES);
        for (int block = 0; block < count; block++) {
            blocks.load(block, head, work.memory, work.keys, work.values);
            kernels.scores(
                    work.memory, work.keys, shape.headSize(), q, head * groupBytes, rowBytes, group, scores,
                    block * blockBytes);
        }
        kernels.scaleScores(scores, 0, count * group * BlockLayout.BLOCK, shape.scale(), shape.softCap());
        float[] logSums = new float[group];
        kernels.logSums(scores, 0, count, group, 1, logSums);
        kernels.rank(scores, 0, count, group, logSums, scores, ranks);
        int first = Math.min(sinks, count * BlockLayout.BLOCK);
        for (int token = 0; token < first; token++) {
            scores.set(ValueLayout.JAVA_FLOAT, ranks + 4L * token, Float.NEGATIVE_INFINITY);
        }
        int from = 0;
        while (from < chosenCount[head] && chosen[head][from] < first) {
            from++;
        }
        int k = chosenCount[head] - from;
        int[] best = new int[k];
        int found = tops[slot].select(scores, ranks, count, k, best);
        wanted[head] = found;
        hits[head] = common(chosen[head], from, chosenCount[head], best, found);
    }

    /** How many numbers of {@code a[from, to)} are in {@code b[0, count)}, both ascending. */
    private static int common(int[] a, int from, int to, int[] b, int count) {
        int both = 0;
        int j = 0;
        for (int i = from; i < to; i++) {
            while (j < count && b[j] < a[i]) {
                j++;
            }
            if (j < count && b[j] == a[i]) {
                both++;
            }
        }
        return both;
    }

    @Override
    public void close() {
        for (GrowingBuffer buffer : buffers) {
            buffer.close();
        }
    }
}
