package io.github.tailorkv.cache;

import io.github.tailorkv.config.Settings;
import io.github.tailorkv.kernels.AttentionKernels;
import io.github.tailorkv.kernels.AttentionShape;
import io.github.tailorkv.kernels.BlockLayout;
import io.github.tailorkv.spi.StepSample;
import io.github.tailorkv.spi.StepSample.Phase;
import java.lang.foreign.MemorySegment;
import org.jspecify.annotations.Nullable;

/**
 * A stopwatch and counter beside the passes of one {@link Workspace}, for steps that are measured; in all other steps each
 * of its methods returns at once.
 *
 * <p>The caller of a pass takes laps of the wall clock. Where several threads run pieces that score, gather and attend by
 * turns, each thread adds up its own sums, and {@link #lapPieces} divides the wall time of the round in their proportion: so
 * phases are times that a caller waits, however many threads share the work.
 */
final class LayerProbe implements AutoCloseable {

    /** Sums of different threads lie two cache lines apart. */
    private static final int STRIDE = 16;

    private static final int MARK = 0;
    private static final int SCORE = 1;
    private static final int GATHER = 2;
    private static final int ATTEND = 3;

    private final AttentionShape shape;
    private final RecallCheck recall;
    private final long[] pieces;
    private final int[][] chosen;
    private final int[] chosenCount;
    private final int[] channelCount;
    private final int mostChosen;
    private final boolean tail;

    private @Nullable StepSample sample;
    private int layer;
    private long mark;
    private boolean selected;

    LayerProbe(AttentionKernels kernels, AttentionShape shape, Settings settings, DecodeScratch[] scratch) {
        this.shape = shape;
        recall = new RecallCheck(kernels, shape, settings.sinks(), scratch);
        pieces = new long[scratch.length * STRIDE];
        chosen = new int[shape.kvHeads()][0];
        chosenCount = new int[shape.kvHeads()];
        channelCount = new int[shape.kvHeads()];
        mostChosen = settings.budget() + settings.sinks();
        tail = settings.tail();
    }

    /** Starts measuring a layer, or stops measuring if there is no sample. */
    void begin(@Nullable StepSample newSample, int newLayer) {
        sample = newSample;
        if (newSample != null) {
            layer = newLayer;
            selected = false;
            mark = System.nanoTime();
        }
    }

    /** Everything since the mark before belongs to a phase. */
    void lap(Phase phase) {
        StepSample target = sample;
        if (target != null) {
            long now = System.nanoTime();
            target.addNanos(layer, phase, now - mark);
            mark = now;
        }
    }

    // ---- pieces, on the thread of a slot ---------------------------------------------------------------------------

    void pieceBegins(int slot) {
        if (sample != null) {
            pieces[slot * STRIDE + MARK] = System.nanoTime();
        }
    }

    /** Everything on this thread since the call before was scoring. */
    void scored(int slot) {
        pieceLap(slot, SCORE);
    }

    /** Everything on this thread since the call before was selecting or reading back. */
    void gathered(int slot) {
        pieceLap(slot, GATHER);
    }

    /** Everything on this thread since the call before was attending. */
    void attended(int slot) {
        pieceLap(slot, ATTEND);
    }

    private void pieceLap(int slot, int sum) {
        if (sample != null) {
            long now = System.nanoTime();
            pieces[slot * STRIDE + sum] += now - pieces[slot * STRIDE + MARK];
            pieces[slot * STRIDE + MARK] = now;
        }
    }

    /** Takes note of what was selected for a KV head, by the scores of so many channels. */
    void chose(int head, int[] tokens, int count, int channels) {
        if (sample != null) {
            if (chosen[head].length == 0) {
                chosen[head] = new int[mostChosen];
            }
            System.arraycopy(tokens, 0, chosen[head], 0, count);
            chosenCount[head] = count;
            channelCount[head] = channels;
        }
    }

    // ---- the caller again ------------------------------------------------------------------------------------------

    /** Divides the time since the mark before by what the pieces did in it. */
    void lapPieces() {
        StepSample target = sample;
        if (target == null) {
            return;
        }
        selected = true;
        long score = total(SCORE);
        long gather = total(GATHER);
        long attend = total(ATTEND);
        long now = System.nanoTime();
        double share = (now - mark) / (double) Math.max(1, score + gather + attend);
        long scoreNanos = Math.round(score * share);
        long gatherNanos = Math.round(gather * share);
        target.addNanos(layer, Phase.SCORE, scoreNanos);
        target.addNanos(layer, Phase.GATHER, gatherNanos);
        target.addNanos(layer, Phase.ATTEND, now - mark - scoreNanos - gatherNanos);
        mark = now;
    }

    /** A sum of all threads, which is 0 afterwards. */
    private long total(int sum) {
        long total = 0;
        for (int slot = 0; slot < pieces.length; slot += STRIDE) {
            total += pieces[slot + sum];
            pieces[slot + sum] = 0;
        }
        return total;
    }

    /**
     * Counts what the pass over a layer has read and, if it is this layer's turn, checks what it selected; neither is part
     * of any phase. The token attended from is not counted by the layer yet.
     */
    void attendedLayer(LayerCache cache, MemorySegment q, Workers workers) {
        StepSample target = sample;
        if (target == null) {
            return;
        }
        target.addBytesRead(layer, bytesRead(cache));
        if (selected && target.wantsRecall(layer)) {
            long start = System.nanoTime();
            double share = recall.share(cache, q, chosen, chosenCount, workers);
            target.setRecall(layer, share, System.nanoTime() - start);
        }
        mark = System.nanoTime();
    }

    private long bytesRead(LayerCache cache) {
        int heads = shape.kvHeads();
        long tokenBytes = 2L * shape.headSize() * Float.BYTES;
        int blocks = cache.sealedBlocks();
        long bytes = heads * (cache.length() + 1L - (long) blocks * BlockLayout.BLOCK) * tokenBytes;
        if (!selected) {
            return bytes + (blocks == 0 ? 0 : (long) heads * blocks * cache.sealed().blockBytes());
        }
        IndexedBlocks indexed = (IndexedBlocks) cache.sealed();
        for (int head = 0; head < heads; head++) {
            bytes += blocks * indexed.indexBytes() * channelCount[head] / indexed.indexedChannels(head).length;
            bytes += chosenCount[head] * indexed.tokenBytes();
            bytes += tail ? blocks * indexed.coarseBytes() : 0;
        }
        return bytes;
    }

    @Override
    public void close() {
        recall.close();
    }
}
