package io.github.tailorkv.cache;

import io.github.tailorkv.config.Settings;
import io.github.tailorkv.kernels.AttentionKernels;
import io.github.tailorkv.kernels.AttentionShape;
import io.github.tailorkv.kernels.BlockLayout;
import io.github.tailorkv.spi.StepSample.Phase;
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
 * <p>A piece of work is a KV head; the last ones, as many as there are threads, are two pieces each, choosing and attending,
 * because the thread that is done first would wait for half a KV head otherwise, and which one attends makes no difference.
 * Where there are fewer KV heads than keep all threads busy, three rounds of pieces: preparing (KV head), ranking (KV head and
 * stretch of blocks), then choosing and attending (KV head). Ranks lie in a place of each KV head then; otherwise each thread
 * has one, which stays in its cache from head to head.
 */
final class RetrievalPass implements AutoCloseable {

    private final AttentionKernels kernels;
    private final AttentionShape shape;
    private final Settings settings;
    private final DecodeScratch[] scratch;
    private final LayerProbe probe;
    private final TokenRanking ranking;
    private final int[][] chosen;
    private final int[] chosenCount;
    private final Handover chosenHeads;
    private final int group;
    private final int headSize;
    private final long rowBytes;
    private final long groupBytes;

    private @Nullable LayerCache layer;
    private MemorySegment q = MemorySegment.NULL;
    private MemorySegment out = MemorySegment.NULL;
    private int sealed;
    private int wanted;
    private int length;
    private int stretches;
    /** KV heads whose tokens are chosen in one piece and attended in another, the last ones. */
    private int halved;
    private final Workers.Job headJob = this::run;
    private final Workers.Job prepareJob = this::prepare;
    private final Workers.Job rankJob = this::rankStretch;
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
        chosen = new int[shape.kvHeads()][settings.budget() + settings.sinks()];
        chosenCount = new int[shape.kvHeads()];
        chosenHeads = new Handover(shape.kvHeads());
        ranking = new TokenRanking(kernels, shape, settings, scratch.length);
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
        int sinks = Math.min(settings.sinks(), sealed * BlockLayout.BLOCK);
        wanted = settings.budgetAt(sealed * BlockLayout.BLOCK) + sinks;
        ranking.begin(blocks(), places, sinks, wanted);
        if (stretches == 1) {
            // The scores that a tail needs lie in the place of the thread that has made them.
            halved = settings.tail() || workers.slots() == 1 ? 0 : Math.min(heads, workers.slots());
            chosenHeads.clear();
            workers.run(headJob, heads + halved);
            probe.lapPieces();
        } else {
            workers.run(prepareJob, heads);
            workers.run(rankJob, heads * stretches);
            probe.lap(Phase.SCORE);
            workers.run(attendJob, heads);
            probe.lapPieces();
        }
        this.layer = null;
    }

    private IndexedBlocks blocks() {
        return (IndexedBlocks) Objects.requireNonNull(layer).sealed();
    }

    private void prepare(int head, int slot) {
        ranking.prepare(blocks(), q, head, slot);
    }

    private void rankStretch(int piece, int slot) {
        int head = piece / stretches;
        int stretch = piece % stretches;
        int from = (int) ((long) sealed * stretch / stretches);
        int to = (int) ((long) sealed * (stretch + 1) / stretches);
        ranking.run(blocks(), head, head, from, to);
    }

    /** First whole KV heads, then the choices of the others, then their attention in the order in which they were made. */
    private void run(int piece, int slot) {
        int heads = shape.kvHeads();
        if (piece < heads - halved) {
            rankAndChoose(piece, slot);
            attendChosen(piece, slot, slot);
        } else if (piece < heads) {
            int head = Handover.NOTHING;
            try {
                rankAndChoose(piece, slot);
                head = piece;
            } finally {
                chosenHeads.put(head);
            }
        } else {
            int head = chosenHeads.take(piece - heads);
            if (head != Handover.NOTHING) {
                probe.pieceBegins(slot);
                attendChosen(head, slot, slot);
            }
        }
    }

    private void rankAndChoose(int head, int slot) {
        probe.pieceBegins(slot);
        prepare(head, slot);
        int count = ranking.chooseByBound(blocks(), head, slot, chosen[head]);
        if (count == wanted) {
            probe.scored(slot);
            chose(head, slot, count);
        } else {
            ranking.run(blocks(), head, slot, 0, sealed);
            probe.scored(slot);
            choose(head, slot, slot);
        }
    }

    private void attend(int head, int slot) {
        probe.pieceBegins(slot);
        choose(head, slot, head);
        attendChosen(head, slot, head);
    }

    private void attendChosen(int head, int slot, int place) {
        LayerCache cache = Objects.requireNonNull(layer);
        IndexedBlocks blocks = blocks();
        DecodeScratch work = scratch[slot];
        int[] tokens = chosen[head];
        int count = chosenCount[head];
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

    private void choose(int head, int slot, int place) {
        chose(head, slot, ranking.choose(head, slot, place, chosen[head]));
    }

    private void chose(int head, int slot, int count) {
        chosenCount[head] = count;
        probe.chose(head, chosen[head], count, ranking.channels(head));
        probe.gathered(slot);
    }

    /** Everything that was not chosen, from the scores that are there already and the coarse values. */
    private void attendTail(IndexedBlocks blocks, int head, int place, int[] tokens, int count, DecodeScratch work) {
        MemorySegment scores = ranking.scores();
        for (int i = 0; i < count; i++) {
            int block = tokens[i] / BlockLayout.BLOCK;
            for (int row = 0; row < group; row++) {
                int inBlock = row * BlockLayout.BLOCK + tokens[i] % BlockLayout.BLOCK;
                long at = ranking.scoreAt(place, block) + 4L * inBlock;
                scores.set(ValueLayout.JAVA_FLOAT, at, Float.NEGATIVE_INFINITY);
            }
        }
        for (int block = 0; block < sealed; block++) {
            long at = ranking.scoreAt(place, block);
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
        ranking.close();
    }
}
