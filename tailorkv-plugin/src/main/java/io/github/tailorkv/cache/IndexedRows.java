package io.github.tailorkv.cache;

import io.github.tailorkv.kernels.AttentionKernels;
import io.github.tailorkv.kernels.AttentionShape;
import io.github.tailorkv.kernels.BlockLayout;
import java.lang.foreign.MemorySegment;
import org.jspecify.annotations.Nullable;

/**
 * Sealed blocks of a retrieval layer: a resident channel index of the keys, and offloaded rows from which single tokens
 * are read back (TailorKV, section 3.3; there the rows are in 16 bits).
 *
 * <p>The key and the value of a token lie side by side in one record. A dominant token may be anywhere, so what reading
 * it costs is the number of cache lines, or pages of a disk, that it touches: two or three this way, while a column of the
 * channel-major index would be one for every second channel. The index, of which every step reads a few channels from end
 * to end, lies in panels of 64 blocks for that (see {@link BlockLayout}).
 *
 * <pre>
 *   index   resident    [kvHead][indexed channel][64 blocks][64 codes], scale, zero point per channel and block
 *   coarse  resident    [kvHead][token][headSize nibbles], scale, zero point per token   (with a tail)
 *   rows    offloaded   [kvHead][token]{key codes, value codes, key parameters, value parameters}
 * </pre>
 */
final class IndexedRows implements IndexedBlocks {

    private final AttentionKernels kernels;
    private final int headSize;
    private final IndexedChannels channels;
    private final int indexBits;
    private final int rowBits;
    private final int panelBytes;
    private final int valueBytes;
    private final int recordBytes;
    private final BlockStore index;
    private final @Nullable BlockStore coarseValues;
    private final BlockStore rows;
    private final ChannelRanges ranges;

    /**
     * @param channels that the index holds
     * @param indexBits precision of the channel index: 2, 4 or 8
     * @param rowBits precision of the rows: 4, 8 or 16
     * @param tail whether coarse values are kept beside the index
     * @param offload where the rows go
     */
    IndexedRows(AttentionKernels kernels, AttentionShape shape, IndexedChannels channels, int indexBits, int rowBits,
            boolean tail, BlockStore.Source offload) {
        this.kernels = kernels;
        this.channels = channels;
        this.indexBits = indexBits;
        this.rowBits = rowBits;
        headSize = shape.headSize();
        panelBytes = BlockLayout.panelBytes(indexBits, channels.count());
        valueBytes = BlockLayout.packedValueBytes(4, headSize);
        recordBytes = BlockLayout.recordBytes(rowBits, headSize);
        index = new BlockStore(shape.kvHeads(), panelBytes, 1, BlockStore.RAM);
        coarseValues = tail ? new BlockStore(shape.kvHeads(), valueBytes, BlockStore.RAM) : null;
        rows = new BlockStore(shape.kvHeads(), (long) BlockLayout.BLOCK * recordBytes, offload);
        ranges = new ChannelRanges(shape.kvHeads(), channels.count());
    }

    @Override
    public int size() {
        return rows.size();
    }

    @Override
    public void add(int count) {
        int size = size();
        try {
            index.add(panels(size + count) - index.size());
            if (coarseValues != null) {
                coarseValues.add(count);
            }
            rows.add(count);
        } catch (RuntimeException | Error e) {
            truncate(size);
            throw e;
        }
    }

    private static int panels(int blocks) {
        return (blocks + BlockLayout.PANEL - 1) / BlockLayout.PANEL;
    }

    private long panelAt(int panel, int head) {
        return index.offset(panel, head);
    }

    private long recordsAt(int block, int head) {
        return rows.offset(block, head);
    }

    @Override
    public void seal(int block, int head, MemorySegment tiles, long keys, long values) {
        int panel = block / BlockLayout.PANEL;
        int inPanel = block % BlockLayout.PANEL;
        kernels.quantizeIndex(
                tiles, keys, headSize, channels.of(head), indexBits, index.segment(panel), panelAt(panel, head),
                inPanel);
        ranges.includePanel(head, index.segment(panel), panelAt(panel, head), indexBits, inPanel);
        if (coarseValues != null) {
            kernels.quantizeValues(
                    tiles,
                    values,
                    headSize,
                    4,
                    coarseValues.segment(block),
                    coarseValues.offset(block, head));
        }
        kernels.packRecords(
                tiles, keys, tiles, values, headSize, rowBits, rows.segment(block), recordsAt(block, head));
    }

    @Override
    public void load(int block, int head, MemorySegment tiles, long keys, long values) {
        kernels.loadRecords(
                rows.segment(block), recordsAt(block, head), rowBits, headSize, tiles, keys, tiles, values);
    }

    @Override
    public void attend(int head, int from, int to, MemorySegment q, long qOffset, DecodeScratch work) {
        for (int block = from; block < to; block++) {
            load(block, head, work.memory, work.keys, work.values);
            work.attendTiles(work.memory, work.keys, work.values, BlockLayout.BLOCK, q, qOffset);
        }
    }

    @Override
    public void gather(int[] tokens, int first, int count, int head, DecodeScratch work) {
        work.records.begin(rowBits, headSize);
        int end = first + count;
        for (int i = first; i < end;) {
            // A head's records of a chunk lie side by side.
            int block = rows.chunkBegin(tokens[i] / BlockLayout.BLOCK);
            int least = block * BlockLayout.BLOCK;
            int next = endOfRun(tokens, i, end, least, rows.chunkEnd(block) * BlockLayout.BLOCK);
            long origin = recordsAt(block, head) - (long) least * recordBytes;
            work.records.add(rows.segment(block), origin, tokens, i, next);
            i = next;
        }
        kernels.touchRecords(work.records);
    }

    /** Where the tokens from {@code first} on leave {@code [least, limit)}, or {@code end}. */
    private static int endOfRun(int[] tokens, int first, int end, int least, int limit) {
        int i = first;
        while (i < end && tokens[i] >= least && tokens[i] < limit) {
            i++;
        }
        return i;
    }

    @Override
    public void attendGathered(int count, MemorySegment q, long qOffset, DecodeScratch work) {
        work.attendRecords(q, qOffset);
    }

    @Override
    public void score(
            int from,
            int to,
            int head,
            int @Nullable [] critical,
            int criticalCount,
            MemorySegment q,
            long qOffset,
            long qStride,
            int queryRows,
            MemorySegment scores,
            long scoresOffset) {
        walk(
                from, to, head, critical, criticalCount, q, qOffset, qStride, queryRows, null, scores, scoresOffset);
    }

    /**
     * Ranks of the tokens of the blocks {@code [from, to)}, see {@link AttentionKernels#indexRanks}; the other arguments as
     * for {@link #score}.
     *
     * @param logSums of each query row
     * @param ranks room for {@code float[to - from][64]}
     */
    void rank(
            int from,
            int to,
            int head,
            int @Nullable [] critical,
            int criticalCount,
            MemorySegment q,
            long qOffset,
            long qStride,
            int queryRows,
            float[] logSums,
            MemorySegment ranks,
            long ranksOffset) {
        walk(
                from, to, head, critical, criticalCount, q, qOffset, qStride, queryRows, logSums, ranks, ranksOffset);
    }

    /** Scores panel by panel, or with {@code logSums} ranks. */
    private void walk(
            int from, int to, int head, int @Nullable [] critical, int criticalCount, MemorySegment q, long qOffset,
            long qStride, int queryRows, float @Nullable [] logSums, MemorySegment target, long offset) {
        long blockBytes = (logSums == null ? queryRows : 1L) * BlockLayout.BLOCK * Float.BYTES;
        for (int first = from; first < to;) {
            int panel = first / BlockLayout.PANEL;
            int start = panel * BlockLayout.PANEL;
            int end = Math.min(to, start + BlockLayout.PANEL);
            MemorySegment codes = index.segment(panel);
            long at = offset + (first - from) * blockBytes;
            if (logSums == null) {
                kernels.indexScores(
                        codes, panelAt(panel, head), first - start, end - start, indexBits, channels.count(),
                        critical, criticalCount, q, qOffset, qStride, queryRows, target, at);
            } else {
                kernels.indexRanks(
                        codes, panelAt(panel, head), first - start, end - start, indexBits, channels.count(),
                        critical, criticalCount, q, qOffset, qStride, queryRows, logSums, target, at);
            }
            first = end;
        }
    }

    @Override
    public void accumulateCoarse(int block, int head, MemorySegment weights, long weightsOffset, DecodeScratch work) {
        if (coarseValues == null) {
            throw new IllegalStateException("no coarse values are kept without a tail");
        }
        kernels.packedAccumulate(
                coarseValues.segment(block),
                coarseValues.offset(block, head),
                4,
                false,
                headSize,
                weights,
                weightsOffset,
                work.rows,
                BlockLayout.BLOCK,
                work.memory,
                work.acc);
    }

    @Override
    public int[] indexedChannels(int head) {
        return channels.of(head);
    }

    @Override
    public float[] keyMagnitude(int head) {
        return ranges.magnitude(head);
    }

    @Override
    public float[] keyRange(int head) {
        return ranges.range(head);
    }

    @Override
    public void truncate(int blocks) {
        index.truncate(panels(blocks));
        rows.truncate(blocks);
        if (coarseValues != null) {
            coarseValues.truncate(blocks);
        }
    }

    @Override
    public long blockBytes() {
        return (long) BlockLayout.BLOCK * recordBytes;
    }

    @Override
    public long indexBytes() {
        return BlockLayout.packedKeyBytes(indexBits, channels.count());
    }

    @Override
    public long coarseBytes() {
        return valueBytes;
    }

    @Override
    public long tokenBytes() {
        return recordBytes;
    }

    @Override
    public long residentBytes() {
        return index.bytes() + (coarseValues == null ? 0 : coarseValues.bytes());
    }

    @Override
    public long offloadedBytes() {
        return rows.bytes();
    }

    @Override
    public void close() {
        index.close();
        rows.close();
        if (coarseValues != null) {
            coarseValues.close();
        }
    }
}
