package io.github.tailorkv.cache;

import io.github.tailorkv.config.Settings;
import io.github.tailorkv.kernels.AttentionKernels;
import io.github.tailorkv.kernels.AttentionShape;
import io.github.tailorkv.kernels.BlockLayout;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import org.jspecify.annotations.Nullable;

/**
 * Ranks all sealed tokens of a retrieval layer by the critical channels of its index and chooses the dominant ones (TailorKV,
 * section 3.3): a token's rank is the logarithm of its largest share of attention in any query head of the group, by
 * approximate scores.
 *
 * <p>A share is a score less the logarithm of the sum of a head's exponentials, and in a long session that sum is estimated
 * from 1,024 tokens, four runs of four blocks at equal distances. The first block, which holds the sinks and with them often
 * most of the sum, counts once, every other one for as many as there are for each. The sums only weigh the heads of a group
 * against each other, so that none crowds out the rest. The ranks of the sample tell a bound that few tokens reach but those
 * that will be chosen. With both at hand one pass over the index goes from codes to the tokens that reach the bound.
 * Without, it would have to keep the scores of all heads, several times as many numbers as there are ranks, which fit into
 * no cache that a core has for itself, and read them twice.
 *
 * <p>Scores are kept in shorter sessions, and where something else needs them: a tail, or a cap that makes a score of them
 * only afterwards.
 */
final class TokenRanking implements AutoCloseable {

    /** Runs of blocks from which sums are estimated, and the blocks of each: side by side they cost half as much. */
    private static final int RUNS = 4;
    private static final int RUN = 4;
    /** Tokens of the sample that the bound is taken from. */
    private static final int BOUNDING = (RUNS - 1) * RUN * BlockLayout.BLOCK;
    /** The bound may let this part of them pass that it need not, for that is found sooner. */
    private static final int SLACK = 16;
    private static final long PANEL_RANK_BYTES = (long) BlockLayout.PANEL * BlockLayout.BLOCK * Float.BYTES;

    /** Blocks from which on sums are estimated; the scores of fewer fit into a core's second-level cache. */
    private static final int LEAST_SAMPLED = 128;

    private final AttentionKernels kernels;
    private final AttentionShape shape;
    private final Settings settings;
    private final TopTokens[] tops;
    private final int[][] channels;
    private final int[] channelCount;
    private final float[][] weights;
    private final float[][] logSums;
    private final float[] bounds;
    private final float[][] sampledRanks;
    private final GrowingBuffer scoreBuffer = new GrowingBuffer();
    private final GrowingBuffer rankBuffer = new GrowingBuffer();
    private final Arena arena = Arena.ofShared();
    private final MemorySegment averaged;
    private final MemorySegment scaled;
    private final MemorySegment samples;
    private final MemorySegment ranksOfSamples;
    private final MemorySegment ranksOfPanels;
    private final int group;
    private final int rows;
    private final int headSize;
    private final long rowBytes;
    private final long groupBytes;
    private final long blockScoreBytes;
    private final long sampleBytes;

    private MemorySegment scores = MemorySegment.NULL;
    private MemorySegment ranks = MemorySegment.NULL;
    private boolean keepsScores;
    private int sealed;
    private int sinks;
    private int wanted;

    /** @param slots threads that rank at the same time */
    TokenRanking(AttentionKernels kernels, AttentionShape shape, Settings settings, int slots) {
        this.kernels = kernels;
        this.shape = shape;
        this.settings = settings;
        tops = new TopTokens[slots];
        for (int slot = 0; slot < slots; slot++) {
            tops[slot] = new TopTokens(kernels);
        }
        group = shape.groupSize();
        headSize = shape.headSize();
        rowBytes = (long) headSize * Float.BYTES;
        groupBytes = group * rowBytes;
        rows = settings.selection() == Settings.Selection.AVERAGED && !settings.tail() ? 1 : group;
        blockScoreBytes = (long) rows * BlockLayout.BLOCK * Float.BYTES;
        sampleBytes = RUNS * RUN * blockScoreBytes;
        channels = new int[shape.kvHeads()][headSize];
        channelCount = new int[shape.kvHeads()];
        weights = new float[shape.kvHeads()][headSize];
        logSums = new float[shape.kvHeads()][rows];
        bounds = new float[shape.kvHeads()];
        sampledRanks = new float[slots][BOUNDING];
        averaged = arena.allocate(shape.kvHeads() * rowBytes, 64);
        scaled = arena.allocate(shape.heads() * rowBytes, 64);
        samples = arena.allocate(slots * sampleBytes, 64);
        ranksOfSamples = arena.allocate((long) slots * BOUNDING * Float.BYTES, 64);
        ranksOfPanels = arena.allocate(slots * PANEL_RANK_BYTES, 64);
    }

    /**
     * Makes room for the ranks of {@code places} KV heads at a time.
     *
     * @param sinks first tokens that are chosen whatever their ranks are
     * @param wanted tokens that are chosen in all
     */
    void begin(IndexedBlocks blocks, int places, int sinks, int wanted) {
        sealed = blocks.size();
        this.sinks = sinks;
        this.wanted = wanted;
        keepsScores = settings.tail() || shape.softCap() > 0 || sealed < LEAST_SAMPLED
                || !(blocks instanceof IndexedRows);
        if (keepsScores) {
            scores = scoreBuffer.atLeast((long) places * sealed * blockScoreBytes);
        }
        ranks = rankBuffer.atLeast((long) places * sealed * BlockLayout.BLOCK * Float.BYTES);
    }

    /** Critical channels that a KV head was ranked by. */
    int channels(int head) {
        return settings.tail() ? headSize : channelCount[head];
    }

    MemorySegment ranks() {
        return ranks;
    }

    /** Where the rank of a token is, one after the other, for the KV head that has this place. */
    long rankAt(int place, int token) {
        return Float.BYTES * ((long) place * sealed * BlockLayout.BLOCK + token);
    }

    MemorySegment scores() {
        return scores;
    }

    /** Where the scores of a block are, {@code float[group][64]}, if a tail needs them. */
    long scoreAt(int place, int block) {
        return ((long) place * sealed + block) * blockScoreBytes;
    }

    // ---- queries and critical channels -----------------------------------------------------------------------------

    /**
     * Takes the queries of a head group in the channels that the index holds, scaled, which saves a pass over all scores,
     * chooses the critical channels and estimates the sums and the bound.
     */
    void prepare(IndexedBlocks blocks, MemorySegment q, int head, int slot) {
        int[] indexed = blocks.indexedChannels(head);
        float scale = shape.scale();
        bounds[head] = Float.NEGATIVE_INFINITY;
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
        if (!keepsScores && rows > 1) {
            estimate(blocks, head, slot);
        }
    }

    private void estimate(IndexedBlocks blocks, int head, int slot) {
        long to = slot * sampleBytes;
        for (int i = 0; i < RUNS; i++) {
            // A multiple of what divides a panel, so that a run lies in one.
            int from = i * sealed / RUNS / RUN * RUN;
            score(blocks, head, from, from + RUN, samples, to + (long) i * RUN * blockScoreBytes);
        }
        int others = RUNS * RUN - 1;
        kernels.logSums(samples, to, RUNS * RUN, rows, (sealed - 1f) / others, logSums[head]);
        bounds[head] = boundBySample(slot, logSums[head]);
    }

    /**
     * So much that, three standard deviations of what is counted in a sample aside, enough tokens reach it. Without the first
     * run: near the sinks ranks are larger than elsewhere, and with it one bound in five was too high for the reference model,
     * without it one in thirty.
     */
    private float boundBySample(int slot, float[] sums) {
        double expected = (double) wanted / (sealed * BlockLayout.BLOCK) * BOUNDING;
        int reach = (int) Math.ceil(expected + 3 * Math.sqrt(expected));
        if (reach >= BOUNDING) {
            return Float.NEGATIVE_INFINITY;
        }
        long from = slot * sampleBytes + RUN * blockScoreBytes;
        long to = (long) slot * BOUNDING * Float.BYTES;
        float[] values = sampledRanks[slot];
        kernels.rank(samples, from, BOUNDING / BlockLayout.BLOCK, rows, sums, ranksOfSamples, to);
        MemorySegment.copy(ranksOfSamples, ValueLayout.JAVA_FLOAT, to, values, 0, BOUNDING);
        return kernels.threshold(values, BOUNDING, reach, Math.min(BOUNDING, reach + reach / SLACK));
    }

    // ---- scores and ranks ------------------------------------------------------------------------------------------

    /** Ranks the blocks {@code [from, to)}, or scores them where scores are kept. */
    void run(IndexedBlocks blocks, int head, int place, int from, int to) {
        if (keepsScores) {
            score(blocks, head, from, to, scores, scoreAt(place, from));
            if (shape.softCap() > 0) {
                int count = (to - from) * rows * BlockLayout.BLOCK;
                kernels.scaleScores(scores, scoreAt(place, from), count, 1, shape.softCap());
            }
        } else {
            rank(blocks, head, from, to, ranks, rankAt(place, from * BlockLayout.BLOCK));
        }
    }

    /** Makes ranks of scores, once all blocks of a KV head have them. */
    void finish(int head, int place) {
        if (keepsScores) {
            kernels.logSums(scores, scoreAt(place, 0), sealed, rows, 1, logSums[head]);
            kernels.rank(scores, scoreAt(place, 0), sealed, rows, logSums[head], ranks, rankAt(place, 0));
        }
    }

    // ---- choices ---------------------------------------------------------------------------------------------------

    /**
     * Ranks a KV head and chooses by the bound, panel by panel of the index: its ranks go no further than the first cache.
     *
     * @return how many tokens were chosen, all that are wanted or none: then there is no bound, or too few tokens reach it
     */
    int chooseByBound(IndexedBlocks blocks, int head, int slot, int[] chosen) {
        float bound = bounds[head];
        if (bound == Float.NEGATIVE_INFINITY) {
            return 0;
        }
        TopTokens top = tops[slot];
        long at = slot * PANEL_RANK_BYTES;
        top.begin(sealed);
        for (int from = 0; from < sealed; from += BlockLayout.PANEL) {
            int to = Math.min(sealed, from + BlockLayout.PANEL);
            rank(blocks, head, from, to, ranksOfPanels, at);
            includeSinks(ranksOfPanels, at, from, to);
            top.add(ranksOfPanels, at, to - from, bound, from * BlockLayout.BLOCK);
        }
        if (top.size() < wanted) {
            // Whoever chooses from all ranks now need not try it again.
            bounds[head] = Float.NEGATIVE_INFINITY;
            return 0;
        }
        return top.keep(wanted, chosen);
    }

    /**
     * Chooses for a KV head of which all blocks were {@linkplain #run run}.
     *
     * @return how many tokens were chosen, ascending
     */
    int choose(int head, int slot, int place, int[] chosen) {
        finish(head, place);
        TopTokens top = tops[slot];
        long at = rankAt(place, 0);
        includeSinks(ranks, at, 0, sealed);
        if (bounds[head] > Float.NEGATIVE_INFINITY) {
            top.begin(sealed);
            top.add(ranks, at, sealed, bounds[head], 0);
            if (top.size() >= wanted) {
                return top.keep(wanted, chosen);
            }
        }
        return top.select(ranks, at, sealed, wanted, chosen);
    }

    /** Gives the sinks among the tokens of the blocks {@code [from, to)} a rank that none exceeds. */
    private void includeSinks(MemorySegment target, long at, int from, int to) {
        int first = from * BlockLayout.BLOCK;
        int end = Math.min(sinks, to * BlockLayout.BLOCK);
        for (int token = first; token < end; token++) {
            target.set(ValueLayout.JAVA_FLOAT, at + 4L * (token - first), Float.POSITIVE_INFINITY);
        }
    }

    private void rank(IndexedBlocks blocks, int head, int from, int to, MemorySegment target, long at) {
        ((IndexedRows) blocks).rank(
                from, to, head, critical(head), channelCount[head], queries(), queryAt(head), rowBytes, rows,
                logSums[head], target, at);
    }

    private void score(IndexedBlocks blocks, int head, int from, int to, MemorySegment target, long at) {
        blocks.score(
                from, to, head, critical(head), channelCount[head], queries(), queryAt(head), rowBytes, rows, target,
                at);
    }

    private int @Nullable [] critical(int head) {
        return settings.tail() ? null : channels[head];
    }

    private MemorySegment queries() {
        return rows < group ? averaged : scaled;
    }

    private long queryAt(int head) {
        return head * (rows < group ? rowBytes : groupBytes);
    }

    @Override
    public void close() {
        scoreBuffer.close();
        rankBuffer.close();
        arena.close();
    }
}
