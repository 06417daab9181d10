package io.github.tailorkv.cache;

import io.github.tailorkv.config.LayerKind;
import io.github.tailorkv.config.Settings;
import io.github.tailorkv.kernels.AttentionShape;
import io.github.tailorkv.kernels.BlockLayout;
import io.github.tailorkv.live.FlightEvents;
import io.github.tailorkv.spi.LayerStatistics;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;
import org.jspecify.annotations.Nullable;

/**
 * Keys and values of one layer of one session.
 *
 * <p>Tokens lie in blocks of 64. The newest blocks are F32 tiles, exact; blocks that have left the exact window are
 * <em>sealed</em>: handed to a {@link SealedBlocks} and their tiles given back.
 *
 * <pre>
 *   0            sealed*64                length
 *   |--- sealed ---|--- tiles: the exact window ---|
 * </pre>
 *
 * <p>A layer whose kind is open starts with {@link ProgressiveBlocks}, which attend in 8 bits and become either kind
 * without being read again: {@link #settle} is called when decoding starts. Exact layers never seal (F32 hosts) or seal
 * without loss (BF16 hosts). Truncating into a sealed block restores its tile, and appending seals it again.
 */
final class LayerCache implements AutoCloseable {

    private final LayerContext context;
    private final int index;
    private final AttentionShape shape;
    private final TilePool pool;
    private final long keyTileBytes;
    private final long headTileBytes;

    private @Nullable SealedBlocks sealed;
    private @Nullable LayerKind kind;
    private double densePreference = Double.NaN;
    private double[] headPreferences = {};
    private final @Nullable RecentQueries queries;
    private int[] tiles = new int[4];
    private int tileCount;
    private int length;

    LayerCache(LayerContext context, int index, TilePool pool) {
        this.context = context;
        this.index = index;
        this.pool = pool;
        shape = context.shape();
        keyTileBytes = BlockLayout.keyTileBytes(shape.headSize());
        headTileBytes = tileBytes(shape) / shape.kvHeads();
        if (context.fixedKind(index) == LayerKind.EXACT) {
            kind = LayerKind.EXACT;
            sealed = context.bfloat16() ? new BFloat16Tiles(context.kernels(), shape) : null;
            queries = null;
        } else {
            sealed = context.openBlocks();
            queries = promptDecides() ? new RecentQueries(context.settings().queries(), shape) : null;
        }
    }

    /** Whether the kind of the layer, or the channels that its index holds, depend on the prompt. */
    private boolean promptDecides() {
        LayerKind fixed = context.fixedKind(index);
        return fixed == null || (fixed == LayerKind.RETRIEVAL && context.choosesChannels());
    }

    /** Bytes of one tile of all KV heads. */
    static long tileBytes(AttentionShape shape) {
        return (long) shape.kvHeads()
                * (BlockLayout.keyTileBytes(shape.headSize()) + BlockLayout.valueTileBytes(shape.headSize()));
    }

    int length() {
        return length;
    }

    int blocks() {
        return (length + BlockLayout.BLOCK - 1) / BlockLayout.BLOCK;
    }

    int sealedBlocks() {
        return sealed == null ? 0 : sealed.size();
    }

    SealedBlocks sealed() {
        if (sealed == null) {
            throw new IllegalStateException("layer " + index + " seals no blocks");
        }
        return sealed;
    }

    @Nullable
    LayerKind kind() {
        return kind;
    }

    /** Tokens of a block that lie before {@code end}. */
    static int tokensIn(int block, int end) {
        return Math.min(BlockLayout.BLOCK, end - block * BlockLayout.BLOCK);
    }

    MemorySegment tileSegment(int block) {
        return pool.segment(tiles[block - sealedBlocks()]);
    }

    long keyTile(int block, int head) {
        return pool.offset(tiles[block - sealedBlocks()]) + head * headTileBytes;
    }

    long valueTile(int block, int head) {
        return keyTile(block, head) + keyTileBytes;
    }

    // ---- growing ---------------------------------------------------------------------------------------------------

    /** Makes tiles for {@code n} more tokens, to be written by {@link #write} and counted by {@link #advance}. */
    void reserve(int n) {
        int needed = (length + n + BlockLayout.BLOCK - 1) / BlockLayout.BLOCK - sealedBlocks();
        while (tileCount < needed) {
            pushTile(pool.take());
        }
    }

    private void pushTile(int tile) {
        if (tileCount == tiles.length) {
            tiles = Arrays.copyOf(tiles, 2 * tileCount);
        }
        tiles[tileCount++] = tile;
    }

    /** Writes the keys and values of {@code n} tokens of one KV head behind the tokens that are there. */
    void write(int head, int n, MemorySegment k, MemorySegment v) {
        int headSize = shape.headSize();
        long stride = (long) shape.kvHeads() * headSize * Float.BYTES;
        for (int i = 0; i < n; i++) {
            int position = length + i;
            int block = position / BlockLayout.BLOCK;
            int column = position % BlockLayout.BLOCK;
            MemorySegment tile = tileSegment(block);
            long source = i * stride + (long) head * headSize * Float.BYTES;
            context.kernels().putKey(k, source, headSize, tile, keyTile(block, head), column);
            MemorySegment.copy(
                    v,
                    source,
                    tile,
                    valueTile(block, head) + (long) column * headSize * Float.BYTES,
                    (long) headSize * Float.BYTES);
        }
    }

    /** Counts {@code n} tokens that were written, and remembers their queries while the kind is open. */
    void advance(int n, MemorySegment q) {
        if (kind == null && queries != null) {
            queries.record(q, n, length);
        }
        length += n;
    }

    /** Seals the blocks that have left the exact window. */
    void sealOld(Workers workers) {
        if (sealed == null) {
            return;
        }
        int end = (length - window()) / BlockLayout.BLOCK;
        int first = sealed.size();
        if (end <= first) {
            return;
        }
        SealedBlocks target = sealed;
        int count = end - first;
        target.add(count);
        int heads = shape.kvHeads();
        workers.run(
                (piece, slot) -> {
                    int i = piece / heads;
                    int head = piece % heads;
                    long keys = pool.offset(tiles[i]) + head * headTileBytes;
                    target.seal(first + i, head, pool.segment(tiles[i]), keys, keys + keyTileBytes);
                },
                count * heads);
        dropTiles(count);
    }

    private int window() {
        Settings settings = context.settings();
        if (kind == null) {
            return Math.max(settings.recent(), settings.residual());
        }
        return switch (kind) {
            case EXACT -> 0;
            case QUANTIZED -> settings.residual();
            case RETRIEVAL -> settings.recent();
        };
    }

    private void dropTiles(int count) {
        for (int i = 0; i < count; i++) {
            pool.give(tiles[i]);
        }
        System.arraycopy(tiles, count, tiles, 0, tileCount - count);
        tileCount -= count;
    }

    // ---- shrinking -------------------------------------------------------------------------------------------------

    /** Forgets all tokens from {@code newLength} on. */
    void truncate(int newLength) {
        if (newLength >= length) {
            return;
        }
        int firstTile = sealedBlocks();
        int lastBlocks = (newLength + BlockLayout.BLOCK - 1) / BlockLayout.BLOCK;
        if (newLength < firstTile * BlockLayout.BLOCK) {
            while (tileCount > 0) {
                pool.give(tiles[--tileCount]);
            }
            int whole = newLength / BlockLayout.BLOCK;
            if (whole * BlockLayout.BLOCK < newLength) {
                restore(whole);
            }
            sealed().truncate(whole);
        } else {
            while (tileCount > lastBlocks - firstTile) {
                pool.give(tiles[--tileCount]);
            }
        }
        length = newLength;
        if (queries != null) {
            queries.truncate(newLength);
        }
    }

    private void restore(int block) {
        int tile = pool.take();
        for (int head = 0; head < shape.kvHeads(); head++) {
            long keys = pool.offset(tile) + head * headTileBytes;
            sealed().load(block, head, pool.segment(tile), keys, keys + keyTileBytes);
        }
        pushTile(tile);
    }

    // ---- the kind --------------------------------------------------------------------------------------------------

    /**
     * Called when decoding starts or goes on: fixes the kind of a layer that is still open, once there is enough to judge
     * by if the prompt has a say, and turns its sealed blocks into that kind.
     */
    void settle(Workers workers) {
        if (kind != null) {
            return;
        }
        LayerKind fixed = context.fixedKind(index);
        Settings settings = context.settings();
        if (queries != null) {
            int least = fixed == null ? settings.leastTokensToJudge() : settings.leastTokensToChoose();
            if (length < least || queries.count() == 0 || sealed().size() == 0) {
                return;
            }
        }
        if (fixed == null) {
            headPreferences = new DensePreference(context, this, Objects.requireNonNull(queries)).perHead(workers);
            densePreference = Arrays.stream(headPreferences).average().orElse(Double.NaN);
            fixed = densePreference > settings.threshold() ? LayerKind.QUANTIZED : LayerKind.RETRIEVAL;
        }
        sealed = context.convert(sealed(), fixed, queries, workers);
        kind = fixed;
        FlightEvents.settled(index, fixed.label(), densePreference, length);
        if (queries != null) {
            queries.release();
        }
    }

    /** Dense preference of each query head; empty where it was not computed. */
    List<Double> headPreferences() {
        return Arrays.stream(headPreferences).boxed().toList();
    }

    /** What this layer holds; {@code spare} is its share of memory that belongs to the session. */
    LayerStatistics statistics(long spare) {
        long resident = spare + tileCount * tileBytes(shape) + (queries == null ? 0 : queries.bytes());
        long offloaded = 0;
        if (sealed != null) {
            resident += sealed.residentBytes();
            offloaded = sealed.offloadedBytes();
        }
        LayerKind known = kind == null ? context.fixedKind(index) : kind;
        String label = known == null ? LayerStatistics.OPEN : known.label();
        return new LayerStatistics(index, label, densePreference, length, resident, offloaded);
    }

    @Override
    public void close() {
        if (sealed != null) {
            sealed.close();
        }
        tileCount = 0;
        length = 0;
    }
}
