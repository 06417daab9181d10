package io.github.tailorkv.cache;

import io.github.tailorkv.kernels.AttentionKernels;
import io.github.tailorkv.kernels.AttentionShape;
import io.github.tailorkv.kernels.BlockLayout;
import java.lang.foreign.MemorySegment;
import java.util.Objects;
import org.jspecify.annotations.Nullable;

/**
 * Causal attention of a chunk of tokens over everything before it, block by block with an online softmax (the
 * recurrence of FlashAttention, Dao et al. 2022).
 *
 * <p>A piece of work is one KV head and a stretch of the chunk's tokens: the queries of the whole head group become the
 * rows of one matrix, token by token. Blocks are the outer loop, so a sealed block is unpacked once for all rows of the
 * piece; rows are taken in tiles small enough that their scores stay in the first-level cache. Blocks that lie after a
 * row's token are skipped, the block that contains it is cut by the kernel.
 */
final class PrefillPass implements Workers.Job, AutoCloseable {

    /** Rows whose scores are held at once: 48 * 64 floats are 12 KiB. */
    private static final int ROW_TILE = 48;

    private final AttentionKernels kernels;
    private final AttentionShape shape;
    private final int headSize;
    private final int group;
    private final long rowBytes;
    private final long groupBytes;
    private final GrowingBuffer[] buffers;
    private final DecodeScratch[] scratch;

    private @Nullable LayerCache layer;
    private MemorySegment q = MemorySegment.NULL;
    private MemorySegment k = MemorySegment.NULL;
    private MemorySegment v = MemorySegment.NULL;
    private MemorySegment out = MemorySegment.NULL;
    private int start;
    private int n;
    private int stretches;
    private final Workers.Job append = this::append;

    PrefillPass(AttentionKernels kernels, AttentionShape shape, DecodeScratch[] scratch) {
        this.kernels = kernels;
        this.shape = shape;
        this.scratch = scratch;
        headSize = shape.headSize();
        group = shape.groupSize();
        rowBytes = (long) headSize * Float.BYTES;
        groupBytes = group * rowBytes;
        buffers = new GrowingBuffer[scratch.length];
        for (int slot = 0; slot < buffers.length; slot++) {
            buffers[slot] = new GrowingBuffer();
        }
    }

    /** Appends {@code n} tokens, for which tiles are reserved, and attends from each of them. */
    void run(
            LayerCache layer,
            int n,
            MemorySegment q,
            MemorySegment k,
            MemorySegment v,
            MemorySegment out,
            Workers workers) {
        this.layer = layer;
        this.start = layer.length();
        this.n = n;
        this.q = q;
        this.k = k;
        this.v = v;
        this.out = out;
        int heads = shape.kvHeads();
        // Two pieces a thread even out what the causal edge makes uneven; more would only unpack blocks more often.
        stretches = Math.max(1, Math.min(n / 16, (2 * workers.slots() + heads - 1) / heads));
        if (heads >= workers.slots() && heads % workers.slots() == 0) {
            stretches = 1;
        }
        workers.run(append, heads);
        workers.run(this, heads * stretches);
        this.layer = null;
    }

    private void append(int head, int slot) {
        Objects.requireNonNull(layer).write(head, n, k, v);
    }

    @Override
    public void run(int piece, int slot) {
        LayerCache cache = Objects.requireNonNull(layer);
        int head = piece / stretches;
        int stretch = piece % stretches;
        int from = (int) ((long) n * stretch / stretches);
        int to = (int) ((long) n * (stretch + 1) / stretches);
        int rows = (to - from) * group;

        long rowsAt = 0;
        long accAt = rowsAt + rows * rowBytes;
        long stateAt = accAt + rows * rowBytes;
        long scoresAt = (stateAt + 8L * rows + 63) & -64;
        int rowTile = Math.max(1, ROW_TILE / group) * group;
        MemorySegment work = buffers[slot].atLeast(scoresAt + (long) rowTile * BlockLayout.BLOCK * Float.BYTES);
        long tokenBytes = shape.heads() * rowBytes;
        for (int i = from; i < to; i++) {
            MemorySegment.copy(
                    q,
                    i * tokenBytes + head * groupBytes,
                    work,
                    rowsAt + (i - from) * groupBytes,
                    groupBytes);
        }
        DecodeScratch.zero(work, accAt, rows * rowBytes);
        DecodeScratch.resetState(work, stateAt, rows);

        DecodeScratch tiles = scratch[slot];
        int end = start + to;
        int blocks = (end + BlockLayout.BLOCK - 1) / BlockLayout.BLOCK;
        int sealed = cache.sealedBlocks();
        for (int block = 0; block < blocks; block++) {
            MemorySegment tile;
            long keys;
            long values;
            if (block < sealed) {
                tile = tiles.memory;
                keys = tiles.keys;
                values = tiles.values;
                cache.sealed().load(block, head, tile, keys, values);
            } else {
                tile = cache.tileSegment(block);
                keys = cache.keyTile(block, head);
                values = cache.valueTile(block, head);
            }
            int tokens = LayerCache.tokensIn(block, start + n);
            // Tokens of this block that the first row may see; each later token sees one more.
            int visible = start + from - block * BlockLayout.BLOCK + 1;
            int firstRow = Math.max(0, 1 - visible) * group;
            for (int row = firstRow; row < rows; row += rowTile) {
                int count = Math.min(rowTile, rows - row);
                kernels.scores(tile, keys, headSize, work, rowsAt + row * rowBytes, rowBytes, count, work, scoresAt);
                kernels.softmaxStep(
                        work,
                        scoresAt,
                        count,
                        tokens,
                        Math.min(BlockLayout.BLOCK, visible + row / group),
                        group,
                        shape.scale(),
                        shape.softCap(),
                        work,
                        stateAt + 8L * row,
                        work,
                        accAt + row * rowBytes,
                        headSize);
                kernels.accumulate(
                        tile, values, headSize, work, scoresAt, count, tokens, work, accAt + row * rowBytes);
            }
        }

        kernels.normalize(work, stateAt, work, accAt, rows, headSize, work, rowsAt, rowBytes);
        for (int i = from; i < to; i++) {
            MemorySegment.copy(
                    work,
                    rowsAt + (i - from) * groupBytes,
                    out,
                    i * tokenBytes + head * groupBytes,
                    groupBytes);
        }
    }

    @Override
    public void close() {
        for (GrowingBuffer buffer : buffers) {
            buffer.close();
        }
    }
}
