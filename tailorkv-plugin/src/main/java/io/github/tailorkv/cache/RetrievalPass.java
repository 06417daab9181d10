package io.github.tailorkv.cache;

import io.github.tailorkv.config.Settings;
import io.github.tailorkv.kernels.AttentionKernels;
import io.github.tailorkv.kernels.AttentionShape;
import io.github.tailorkv.kernels.BlockLayout;
import io.github.tailorkv.spi.StepSample.Phase;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
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
 * <p>A piece of work is a KV head. Where there are fewer of them than keep all threads busy, two rounds of pieces: scoring
 * (KV head and stretch of blocks), then selecting and attending (KV head).
 */
final class RetrievalPass implements AutoCloseable {

    private final AttentionKernels kernels;
    private final AttentionShape shape;
    private final Settings settings;
    private final DecodeScratch[] scratch;
    private final LayerProbe probe;
    private final TopTokens[] tops;
    private final int[][] chosen;
    private final float[][] maxima;
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
    private final Workers.Job wholeJob = this::scoreAndAttend;
    private final Workers.Job scoreJob = this::scoreStretch;
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
        maxima = new float[scratch.length][0];
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
        stretches = DecodePass.stretches(sealed, heads, workers.slots());
        int places = stretches == 1 ? workers.slots() : heads;
        scores = scoreBuffer.atLeast((long) places * sealed * blockScoreBytes);
        ranks = rankBuffer.atLeast((long) places * sealed * BlockLayout.BLOCK * Float.BYTES);
        if (stretches == 1) {
            workers.run(wholeJob, heads);
            probe.lapPieces();
        } else {
            for (int head = 0; head < heads; head++) {
                prepareQueries((IndexedBlocks) layer.sealed(), head, 0);
            }
            workers.run(scoreJob, heads * stretches);
            probe.lap(Phase.SCORE);
            workers.run(attendJob, heads);
            probe.lapPieces();
        }
        this.layer = null;
    }

    // ---- critical channels -----------------------------------------------------------------------------------------

    /**
     * Takes the queries of a head group in the channels that the index holds, scaled, which saves a pass over all scores, and
     * chooses the critical ones.
     */
    private void prepareQueries(IndexedBlocks blocks, int head, int slot) {
        int[] indexed = blocks.indexedChannels(head);
        float scale = shape.scale();
        for (int row = 0; row < group; row++) {
            long from = head * groupBytes + row * rowBytes;
            for (int i = 0; i < indexed.length; i++) {
                float x = q.get(ValueLayout.JAVA_FLOAT, from + 4L * indexed[i]);
                scaled.set(ValueLayout.JAVA_FLOAT, from + 4L * i, scale * x);
            }
        }
        if (settings.tail()) {
            return;
        }
        float[] extent = IndexedChannels.extent(blocks, head, settings);
        float[] weight = weights[head];
        Arrays.fill(weight, 0);
        if (IndexedChannels.published(settings)) {
            IndexedChannels.average(
                    scaled, head * groupBytes, group, rowBytes, indexed.length, averaged, head * rowBytes);
            IndexedChannels.addWeights(averaged, head * rowBytes, 1, rowBytes, extent, indexed.length, weight);
        } else {
            IndexedChannels.addWeights(scaled, head * groupBytes, group, rowBytes, extent, indexed.length, weight);
        }
        channelCount[head] = tops[slot].selectChannels(weight, indexed.length, settings.channels(), channels[head]);
    }

    // ---- approximate scores ----------------------------------------------------------------------------------------

    /**
     * Where scores lie: each head has a place of its own while several threads score it; otherwise each thread has one, which
     * stays in its cache from head to head.
     */
    private long scoresAt(int place, int block) {
        return ((long) place * sealed + block) * blockScoreBytes;
    }

    private long ranksAt(int place) {
        return (long) place * sealed * BlockLayout.BLOCK * Float.BYTES;
    }

    private void scoreStretch(int piece, int slot) {
        int head = piece / stretches;
        int stretch = piece % stretches;
        score(
                head,
                head,
                (int) ((long) sealed * stretch / stretches),
                (int) ((long) sealed * (stretch + 1) / stretches));
    }

    private void score(int head, int place, int from, int to) {
        IndexedBlocks blocks = (IndexedBlocks) Objects.requireNonNull(layer).sealed();
        boolean one = scoreRows < group;
        long queryAt = one ? head * rowBytes : head * groupBytes;
        int @Nullable [] some = settings.tail() ? null : channels[head];
        blocks.score(
                from, to, head, some, channelCount[head], one ? averaged : scaled, queryAt, rowBytes, scoreRows, scores,
                scoresAt(place, from));
        if (shape.softCap() > 0) {
            int count = (to - from) * scoreRows * BlockLayout.BLOCK;
            kernels.scaleScores(scores, scoresAt(place, from), count, 1, shape.softCap());
        }
    }

    private long rowAt(int place, int block, int row) {
        return scoresAt(place, block) + 4L * row * BlockLayout.BLOCK;
    }

    // ---- exact attention over what was chosen ----------------------------------------------------------------------

    private float[] maximaOf(int slot, int count) {
        if (maxima[slot].length < count) {
            maxima[slot] = new float[count + count / 4];
        }
        return maxima[slot];
    }

    private void scoreAndAttend(int head, int slot) {
        probe.pieceBegins(slot);
        prepareQueries((IndexedBlocks) Objects.requireNonNull(layer).sealed(), head, slot);
        score(head, slot, 0, sealed);
        probe.scored(slot);
        attend(head, slot, slot);
    }

    private void attend(int head, int slot) {
        probe.pieceBegins(slot);
        attend(head, slot, head);
    }

    private void attend(int head, int slot, int place) {
        LayerCache cache = Objects.requireNonNull(layer);
        IndexedBlocks blocks = (IndexedBlocks) cache.sealed();
        DecodeScratch work = scratch[slot];
        int sinks = Math.min(settings.sinks(), sealed * BlockLayout.BLOCK);
        int wanted = settings.budgetAt(sealed * BlockLayout.BLOCK) + sinks;
        int perStretch = TopTokens.blocksPerStretch(sealed, wanted);
        int stretchCount = TopTokens.stretches(sealed, perStretch);
        float[] largest = maximaOf(slot, stretchCount);
        kernels.rank(scores, scoresAt(place, 0), sealed, scoreRows, ranks, ranksAt(place), perStretch, largest);
        for (int i = 0; i < sinks; i++) {
            ranks.set(ValueLayout.JAVA_FLOAT, ranksAt(place) + 4L * i, Float.POSITIVE_INFINITY);
            largest[i % TopTokens.COLUMNS] = Float.POSITIVE_INFINITY;
        }
        int[] tokens = chosen[slot];
        int count = tops[slot].select(ranks, ranksAt(place), sealed, largest, stretchCount, wanted, tokens);
        probe.chose(head, tokens, count, settings.tail() ? headSize : channelCount[head]);
        probe.gathered(slot);
        long query = head * groupBytes;
        work.reset();
        if (settings.tail()) {
            attendTail(blocks, head, place, tokens, count, work);
            probe.attended(slot);
        }
        for (int first = 0; first < count; first += BlockLayout.BLOCK) {
            int held = Math.min(BlockLayout.BLOCK, count - first);
            blocks.gather(tokens, first, held, head, work);
            probe.gathered(slot);
            blocks.attendGathered(held, q, query, work);
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
    private void attendTail(IndexedBlocks blocks, int head, int place, int[] tokens, int count, DecodeScratch work) {
        for (int i = 0; i < count; i++) {
            int block = tokens[i] / BlockLayout.BLOCK;
            for (int row = 0; row < group; row++) {
                long at = rowAt(place, block, row) + 4L * (tokens[i] % BlockLayout.BLOCK);
                scores.set(ValueLayout.JAVA_FLOAT, at, Float.NEGATIVE_INFINITY);
            }
        }
        for (int block = 0; block < sealed; block++) {
            long at = scoresAt(place, block);
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
