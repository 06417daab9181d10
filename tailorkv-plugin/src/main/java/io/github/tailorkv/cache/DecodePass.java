package io.github.tailorkv.cache;

import io.github.tailorkv.kernels.AttentionKernels;
import io.github.tailorkv.kernels.AttentionShape;
import io.github.tailorkv.kernels.BlockLayout;
import java.lang.foreign.MemorySegment;
import java.util.Objects;
import org.jspecify.annotations.Nullable;

/**
 * Attention of one token over all tokens of a layer: quantized and exact layers, and layers whose kind is open.
 *
 * <p>A piece of work is a stretch of blocks, of which all KV heads are attended block by block: that is the order in which
 * they lie in memory, so that the hardware sees one long stream and reads ahead of it. Where there are too few blocks for
 * all threads, a piece is one KV head. The partial results (running maximum, running sum, unnormalised output) are merged
 * by the caller.
 */
final class DecodePass implements Workers.Job, AutoCloseable {

    /** Blocks below which a stretch is not worth a hand-over to another thread. */
    private static final int LEAST_STRETCH = 8;

    /** Stretches for each thread: a shared machine's cores are seldom equally fast, and who is done first takes another. */
    private static final int STRETCHES = 8;

    private final AttentionKernels kernels;
    private final AttentionShape shape;
    private final DecodeScratch[] scratch;
    private final GrowingBuffer partials = new GrowingBuffer();
    private final int group;
    private final long rowBytes;
    private final long groupBytes;
    private final long stateBytes;
    private final long partialBytes;

    private @Nullable LayerCache layer;
    private MemorySegment q = MemorySegment.NULL;
    private MemorySegment results = MemorySegment.NULL;
    private int blocks;
    private int length;
    private int stretches;
    /** KV heads that a piece of work attends, one or all. */
    private int headsOfPiece;

    DecodePass(AttentionKernels kernels, AttentionShape shape, DecodeScratch[] scratch) {
        this.kernels = kernels;
        this.shape = shape;
        this.scratch = scratch;
        group = shape.groupSize();
        rowBytes = (long) shape.headSize() * Float.BYTES;
        groupBytes = group * rowBytes;
        stateBytes = (8L * group + 63) & -64;
        partialBytes = stateBytes + group * rowBytes;
    }

    /** Cuts {@code blocks} into stretches so that {@code heads} times as many pieces keep all threads busy. */
    static int stretches(int blocks, int heads, int threads) {
        if (heads % threads == 0) {
            return 1;
        }
        return Math.max(1, Math.min(blocks / LEAST_STRETCH, (2 * threads + heads - 1) / heads));
    }

    /** Attends from one token, already written behind {@code layer.length()} tokens. */
    void run(LayerCache layer, MemorySegment q, MemorySegment out, Workers workers) {
        this.layer = layer;
        this.q = q;
        length = layer.length() + 1;
        blocks = (length + BlockLayout.BLOCK - 1) / BlockLayout.BLOCK;
        int heads = shape.kvHeads();
        headsOfPiece = blocks < LEAST_STRETCH * workers.slots() ? 1 : heads;
        stretches = headsOfPiece == 1 ? stretches(blocks, heads, workers.slots())
                : Math.min(STRETCHES * workers.slots(), blocks / LEAST_STRETCH);
        results = partials.atLeast((long) heads * stretches * partialBytes);
        workers.run(this, heads / headsOfPiece * stretches);
        for (int head = 0; head < heads; head++) {
            long first = (long) head * stretches * partialBytes;
            for (int stretch = 1; stretch < stretches; stretch++) {
                long other = first + stretch * partialBytes;
                kernels.merge(
                        results,
                        first,
                        results,
                        first + stateBytes,
                        results,
                        other,
                        results,
                        other + stateBytes,
                        group,
                        shape.headSize());
            }
            kernels.normalize(
                    results,
                    first,
                    results,
                    first + stateBytes,
                    group,
                    shape.headSize(),
                    out,
                    head * groupBytes,
                    rowBytes);
        }
        this.layer = null;
    }

    @Override
    public void run(int piece, int slot) {
        int first = piece / stretches * headsOfPiece;
        int stretch = piece % stretches;
        int from = (int) ((long) blocks * stretch / stretches);
        int to = (int) ((long) blocks * (stretch + 1) / stretches);
        DecodeScratch work = scratch[slot];
        for (int i = 0; i < headsOfPiece; i++) {
            work.use(i);
            work.reset();
        }
        // One head goes through its blocks without a stop, so that a store can ask for the next one.
        int step = headsOfPiece == 1 ? to - from : 1;
        for (int block = from; block < to; block += step) {
            for (int i = 0; i < headsOfPiece; i++) {
                work.use(i);
                attend(first + i, block, block + step, work);
            }
        }
        for (int i = 0; i < headsOfPiece; i++) {
            work.use(i);
            long target = ((long) (first + i) * stretches + stretch) * partialBytes;
            MemorySegment.copy(work.memory, work.state, results, target, 8L * group);
            MemorySegment.copy(work.memory, work.acc, results, target + stateBytes, groupBytes);
        }
    }

    private void attend(int head, int from, int to, DecodeScratch work) {
        LayerCache cache = Objects.requireNonNull(layer);
        long query = head * groupBytes;
        int sealed = cache.sealedBlocks();
        if (from < sealed) {
            cache.sealed().attend(head, from, Math.min(to, sealed), q, query, work);
        }
        for (int block = Math.max(from, sealed); block < to; block++) {
            work.attendTiles(
                    cache.tileSegment(block),
                    cache.keyTile(block, head),
                    cache.valueTile(block, head),
                    LayerCache.tokensIn(block, length),
                    q,
                    query);
        }
    }

    @Override
    public void close() {
        partials.close();
    }
}
