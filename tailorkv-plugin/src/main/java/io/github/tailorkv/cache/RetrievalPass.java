package io.github.tailorkv.cache;

import io.github.tailorkv.config.Settings;
import io.github.tailorkv.kernels.AttentionKernels;
import io.github.tailorkv.kernels.AttentionShape;
import io.github.tailorkv.kernels.BlockLayout;
import io.github.tailorkv.spi.StepSample.Phase;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Objects;
import org.jspecify.annotations.Nullable;

/**
 * Attention of one token over a retrieval layer (TailorKV, section 3.3): approximate scores of all sealed tokens from the
 * critical channels of the index, the dominant tokens read back exactly, softmax over them, the sinks and the exact
 * window.
 *
 * <p>Where this differs from the published method it is to lose less: the published one averages the queries of a head
 * group and ranks by one score, which lets the heads of a group outvote each other; {@link Settings.Selection#PER_HEAD}
 * takes the softmax of each head's own approximate scores and ranks a token by its largest share in any head. With a
 * tail, tokens that are not dominant take part with the 4 bits of the index and its coarse values.
 *
 * <p>Two rounds of pieces: scoring (KV head and stretch of blocks), then selecting and attending (KV head).
 */
final class RetrievalPass implements AutoCloseable {

    private final AttentionKernels kernels;
    private final AttentionShape shape;
    private final Settings settings;
    private final DecodeScratch[] scratch;
    private final LayerProbe probe;
    private final TopTokens[] tops;
    private final int[][] chosen;
    private final float[][] blockMaxima;
    private final int[][] channels;
    private final int[] channelCount;
    private final float[][] weights;
    private final GrowingBuffer scoreBuffer = new GrowingBuffer();
    private final GrowingBuffer rankBuffer = new GrowingBuffer();
    private final Arena arena = Arena.ofShared();
    private final MemorySegment averaged;
    private final MemorySegment scaled;
    private final int group;
    private final int scoreRows;
    private final int headSize;
    private final long rowBytes;
    private final long groupBytes;
    private final long blockScoreBytes;

    private @Nullable LayerCache layer;
    private MemorySegment q = MemorySegment.NULL;
    private MemorySegment out = MemorySegment.NULL;
    private MemorySegment scores = MemorySegment.NULL;
    private MemorySegment ranks = MemorySegment.NULL;
    private int sealed;
    private int length;
    private int stretches;
    private final Workers.Job scoreJob = this::score;
    private final Workers.Job attendJob = this::attend;

    RetrievalPass(AttentionKernels kernels, AttentionShape shape, Settings settings, DecodeScratch[] scratch,
            LayerProbe probe) {
        this.kernels = kernels;
        this.shape = shape;
        this.settings = settings;
        this.scratch = scratch;
        this.probe = probe;
        group = shape.groupSize();
        headSize = shape.headSize();
        rowBytes = (long) headSize * Float.BYTES;
        groupBytes = group * rowBytes;
        scoreRows = settings.selection() == Settings.Selection.AVERAGED && !settings.tail() ? 1 : group;
        blockScoreBytes = (long) scoreRows * BlockLayout.BLOCK * Float.BYTES;
        tops = new TopTokens[scratch.length];
        chosen = new int[scratch.length][settings.budget() + settings.sinks()];
        blockMaxima = new float[scratch.length][0];
        for (int slot = 0; slot < tops.length; slot++) {
            tops[slot] = new TopTokens(kernels);
        }
        channels = new int[shape.kvHeads()][headSize];
        channelCount = new int[shape.kvHeads()];
        weights = new float[shape.kvHeads()][headSize];
        averaged = arena.allocate(shape.kvHeads() * rowBytes, 64);
        scaled = arena.allocate(shape.heads() * rowBytes, 64);
    }

    /** Attends from one token, already written behind {@code layer.length()} tokens. */
    void run(LayerCache layer, MemorySegment q, MemorySegment out, Workers workers) {
        this.layer = layer;
        this.q = q;
        this.out = out;
        sealed = layer.sealedBlocks();
        length = layer.length() + 1;
        int heads = shape.kvHeads();
        scores = scoreBuffer.atLeast((long) heads * sealed * blockScoreBytes);
        ranks = rankBuffer.atLeast((long) heads * sealed * BlockLayout.BLOCK * Float.BYTES);
        // Scaling the queries once saves a pass over all scores.
        MemorySegment.copy(q, 0, scaled, 0, heads * groupBytes);
        kernels.scaleScores(scaled, 0, shape.heads() * headSize, shape.scale(), 0);
        for (int head = 0; head < heads; head++) {
            chooseChannels((IndexedBlocks) layer.sealed(), head);
        }
        stretches = DecodePass.stretches(sealed, heads, workers.slots());
        workers.run(scoreJob, heads * stretches);
        probe.lap(Phase.SCORE);
        workers.run(attendJob, heads);
        probe.lapPieces();
        this.layer = null;
    }

    // ---- critical channels -----------------------------------------------------------------------------------------

    /**
     * The channels that can move a score most: magnitude of the query times what the keys do in that channel. Published
     * is the largest magnitude of the keys; a channel with a large mean and a small range shifts all scores alike and
     * ranks nothing, so the range is used instead where the published method is not asked for.
     */
    private void chooseChannels(IndexedBlocks blocks, int head) {
        if (settings.tail()) {
            return;
        }
        boolean published = settings.selection() == Settings.Selection.AVERAGED;
        float[] extent = published ? blocks.keyMagnitude(head) : blocks.keyRange(head);
        if (published) {
            average(head);
        }
        float[] weight = weights[head];
        for (int c = 0; c < headSize; c++) {
            float largest = 0;
            if (published) {
                largest = Math.abs(averaged.get(ValueLayout.JAVA_FLOAT, head * rowBytes + 4L * c));
            } else {
                for (int row = 0; row < group; row++) {
                    long at = (head * groupBytes + row * rowBytes) + 4L * c;
                    largest = Math.max(largest, Math.abs(q.get(ValueLayout.JAVA_FLOAT, at)));
                }
            }
            weight[c] = largest * extent[c];
        }
        channelCount[head] = tops[0].selectChannels(weight, headSize, settings.channels(), channels[head]);
    }

    private void average(int head) {
        for (int c = 0; c < headSize; c++) {
            float sum = 0;
            for (int row = 0; row < group; row++) {
                sum += scaled.get(ValueLayout.JAVA_FLOAT, (head * groupBytes + row * rowBytes) + 4L * c);
            }
            averaged.set(ValueLayout.JAVA_FLOAT, head * rowBytes + 4L * c, sum / group);
        }
    }

    // ---- approximate scores ----------------------------------------------------------------------------------------

    private long scoresAt(int head, int block) {
        return ((long) head * sealed + block) * blockScoreBytes;
    }

    private long ranksAt(int head) {
        return (long) head * sealed * BlockLayout.BLOCK * Float.BYTES;
    }

    private void score(int piece, int slot) {
        IndexedBlocks blocks = (IndexedBlocks) Objects.requireNonNull(layer).sealed();
        int head = piece / stretches;
        int stretch = piece % stretches;
        int from = (int) ((long) sealed * stretch / stretches);
        int to = (int) ((long) sealed * (stretch + 1) / stretches);
        boolean one = scoreRows < group;
        long queryAt = one ? head * rowBytes : head * groupBytes;
        int @Nullable [] some = settings.tail() ? null : channels[head];
        for (int block = from; block < to; block++) {
            blocks.score(
                    block, head, some, channelCount[head], one ? averaged : scaled, queryAt, scoreRows, scores,
                    scoresAt(head, block));
        }
        if (shape.softCap() > 0) {
            int count = (to - from) * scoreRows * BlockLayout.BLOCK;
            kernels.scaleScores(scores, scoresAt(head, from), count, 1, shape.softCap());
        }
    }

    /** One rank a token from the scores of the head group. */
    private void rank(int head, float[] maxima) {
        long target = ranksAt(head);
        if (scoreRows > 1) {
            kernels.rank(scores, scoresAt(head, 0), sealed, scoreRows, ranks, target, maxima);
            return;
        }
        MemorySegment.copy(scores, scoresAt(head, 0), ranks, target, (long) sealed * BlockLayout.BLOCK * Float.BYTES);
        for (int block = 0; block < sealed; block++) {
            maxima[block] = kernels.max(ranks, target + 4L * block * BlockLayout.BLOCK, BlockLayout.BLOCK);
        }
    }

    private long rowAt(int head, int block, int row) {
        return scoresAt(head, block) + 4L * row * BlockLayout.BLOCK;
    }

    // ---- exact attention over what was chosen ----------------------------------------------------------------------

    private float[] maximaOf(int slot) {
        if (blockMaxima[slot].length < sealed) {
            blockMaxima[slot] = new float[sealed + sealed / 4];
        }
        return blockMaxima[slot];
    }

    private void attend(int head, int slot) {
        LayerCache cache = Objects.requireNonNull(layer);
        IndexedBlocks blocks = (IndexedBlocks) cache.sealed();
        DecodeScratch work = scratch[slot];
        probe.pieceBegins(slot);
        float[] maxima = maximaOf(slot);
        rank(head, maxima);
        int sinks = Math.min(settings.sinks(), sealed * BlockLayout.BLOCK);
        for (int i = 0; i < sinks; i++) {
            ranks.set(ValueLayout.JAVA_FLOAT, ranksAt(head) + 4L * i, Float.POSITIVE_INFINITY);
            maxima[0] = Float.POSITIVE_INFINITY;
        }
        int[] tokens = chosen[slot];
        int count = tops[slot].select(ranks, ranksAt(head), sealed, maxima, settings.budget() + sinks, tokens);
        probe.chose(head, tokens, count, settings.tail() ? headSize : channelCount[head]);
        probe.gathered(slot);
        long query = head * groupBytes;
        work.reset();
        if (settings.tail()) {
            attendTail(blocks, head, tokens, count, work);
            probe.attended(slot);
        }
        for (int first = 0; first < count; first += BlockLayout.BLOCK) {
            int held = Math.min(BlockLayout.BLOCK, count - first);
            for (int i = 0; i < held; i++) {
                blocks.gather(tokens[first + i], head, work.memory, work.keys, work.values, i);
            }
            probe.gathered(slot);
            work.attendTiles(work.memory, work.keys, work.values, held, q, query);
            probe.attended(slot);
        }
        for (int block = sealed; block * BlockLayout.BLOCK < length; block++) {
            work.attendTiles(
                    cache.tileSegment(block),
                    cache.keyTile(block, head),
                    cache.valueTile(block, head),
                    LayerCache.tokensIn(block, length),
                    q,
                    query);
        }
        kernels.normalize(work.memory, work.state, work.memory, work.acc, group, headSize, out, query, rowBytes);
        probe.attended(slot);
    }

    /** Everything that was not chosen, from the scores that are there already and the coarse values. */
    private void attendTail(IndexedBlocks blocks, int head, int[] tokens, int count, DecodeScratch work) {
        for (int i = 0; i < count; i++) {
            int block = tokens[i] / BlockLayout.BLOCK;
            for (int row = 0; row < group; row++) {
                long at = rowAt(head, block, row) + 4L * (tokens[i] % BlockLayout.BLOCK);
                scores.set(ValueLayout.JAVA_FLOAT, at, Float.NEGATIVE_INFINITY);
            }
        }
        for (int block = 0; block < sealed; block++) {
            long at = scoresAt(head, block);
            // Scaled and capped already.
            kernels.softmaxStep(
                    scores,
                    at,
                    group,
                    BlockLayout.BLOCK,
                    BlockLayout.BLOCK,
                    1,
                    1,
                    0,
                    work.memory,
                    work.state,
                    work.memory,
                    work.acc,
                    headSize);
            blocks.accumulateCoarse(block, head, scores, at, work);
        }
    }

    @Override
    public void close() {
        scoreBuffer.close();
        rankBuffer.close();
        arena.close();
    }
}
