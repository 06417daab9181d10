package io.github.tailorkv.cache;

import io.github.tailorkv.kernels.AttentionKernels;
import io.github.tailorkv.kernels.AttentionShape;
import io.github.tailorkv.kernels.BlockLayout;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import org.jspecify.annotations.Nullable;

/**
 * Sealed blocks in 8 bits, split in two nibbles, so that one store serves every layer before and after its kind is
 * decided and no byte is stored twice.
 *
 * <p>The high nibbles of the keys, channel by channel, are a 4-bit quantization by themselves, the channel index of a
 * retrieval layer with a tail, and the high nibbles of the values are what such a layer reads of tokens that are not
 * dominant. The low nibbles, one record per token, refine both to 8 bits; they are needed while a prompt is read (prefill
 * attends all tokens in 8 bits) and afterwards only for dominant tokens, so they are what is offloaded, or dropped where
 * rows have four bits. Layers of any other kind move to a store of their own. See {@link BlockLayout} for the layouts.
 *
 * <pre>
 *   keys    resident    [kvHead][channel][64 nibbles], scale, zero point per channel
 *   values  resident    [kvHead][token][headSize nibbles], scale, zero point per token
 *   low     offloaded   [kvHead][token]{key nibbles, value nibbles}
 * </pre>
 */
final class ProgressiveBlocks implements IndexedBlocks {

    private final AttentionKernels kernels;
    private final int headSize;
    private final int kvHeads;
    private final int keyBytes;
    private final int valueBytes;
    private final int recordBytes;
    private final int recordValue;
    private final BlockStore keys;
    private final BlockStore values;
    private @Nullable BlockStore low;
    private final MemorySegment discarded;
    private final MemorySegment middle;
    private final ChannelRanges ranges;
    private final IndexedChannels channels;

    /** @param offload where the low nibbles go */
    ProgressiveBlocks(AttentionKernels kernels, AttentionShape shape, BlockStore.Source offload) {
        this.kernels = kernels;
        headSize = shape.headSize();
        kvHeads = shape.kvHeads();
        keyBytes = BlockLayout.packedKeyBytes(4, headSize);
        valueBytes = BlockLayout.packedValueBytes(4, headSize);
        recordBytes = BlockLayout.lowRecordBytes(headSize);
        recordValue = BlockLayout.lowRecordValue(headSize);
        keys = new BlockStore((long) kvHeads * keyBytes, BlockStore.RAM);
        values = new BlockStore((long) kvHeads * valueBytes, BlockStore.RAM);
        low = new BlockStore((long) kvHeads * BlockLayout.BLOCK * recordBytes, offload);
        ranges = new ChannelRanges(kvHeads, headSize);
        channels = IndexedChannels.all(shape);
        discarded = MemorySegment.ofBuffer(ByteBuffer.allocateDirect(kvHeads * recordBytes));
        middle = MemorySegment.ofBuffer(ByteBuffer.allocateDirect(recordBytes)).fill((byte) 0x88);
    }

    @Override
    public int size() {
        return keys.size();
    }

    @Override
    public void add(int count) {
        int size = keys.size();
        try {
            if (low != null) {
                low.add(count);
            }
            values.add(count);
            keys.add(count);
        } catch (RuntimeException | Error e) {
            truncate(size);
            throw e;
        }
    }

    private long keysAt(int block, int head) {
        return keys.offset(block) + (long) head * keyBytes;
    }

    private long valuesAt(int block, int head) {
        return values.offset(block) + (long) head * valueBytes;
    }

    private long recordsAt(BlockStore low, int block, int head) {
        return low.offset(block) + (long) head * BlockLayout.BLOCK * recordBytes;
    }

    @Override
    public void seal(int block, int head, MemorySegment tiles, long keyTile, long valueTile) {
        MemorySegment keyBlock = keys.segment(block);
        MemorySegment valueBlock = values.segment(block);
        BlockStore refinement = low;
        if (refinement == null) {
            // The low nibbles are of no use any more, yet the high ones are cut from 8-bit codes: all records of a head
            // go to the same place.
            long record = (long) head * recordBytes;
            kernels.splitKeys(tiles, keyTile, headSize, keyBlock, keysAt(block, head), discarded, record, 0);
            kernels.splitValues(
                    tiles, valueTile, headSize, valueBlock, valuesAt(block, head), discarded, record + recordValue, 0);
        } else {
            MemorySegment records = refinement.segment(block);
            long record = recordsAt(refinement, block, head);
            kernels.splitKeys(tiles, keyTile, headSize, keyBlock, keysAt(block, head), records, record, recordBytes);
            kernels.splitValues(
                    tiles,
                    valueTile,
                    headSize,
                    valueBlock,
                    valuesAt(block, head),
                    records,
                    record + recordValue,
                    recordBytes);
        }
        ranges.includeProgressive(head, keyBlock, keysAt(block, head));
    }

    @Override
    public void load(int block, int head, MemorySegment tiles, long keyTile, long valueTile) {
        BlockStore refinement = low;
        if (refinement == null) {
            kernels.unpackKeys(keys.segment(block), keysAt(block, head), 4, true, headSize, tiles, keyTile);
            kernels.unpackValues(values.segment(block), valuesAt(block, head), 4, true, headSize, tiles, valueTile);
            return;
        }
        MemorySegment records = refinement.segment(block);
        long record = recordsAt(refinement, block, head);
        kernels.joinKeys(
                keys.segment(block), keysAt(block, head), records, record, recordBytes, headSize, tiles, keyTile);
        kernels.joinValues(
                values.segment(block),
                valuesAt(block, head),
                records,
                record + recordValue,
                recordBytes,
                headSize,
                tiles,
                valueTile);
    }

    @Override
    public void attend(int head, int from, int to, MemorySegment q, long qOffset, DecodeScratch work) {
        for (int block = from; block < to; block++) {
            load(block, head, work.memory, work.keys, work.values);
            work.attendTiles(work.memory, work.keys, work.values, BlockLayout.BLOCK, q, qOffset);
        }
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
            int rows,
            MemorySegment scores,
            long scoresOffset) {
        long blockBytes = (long) rows * BlockLayout.BLOCK * Float.BYTES;
        for (int block = from; block < to; block++) {
            kernels.packedScores(
                    keys.segment(block),
                    keysAt(block, head),
                    4,
                    true,
                    headSize,
                    critical,
                    criticalCount,
                    q,
                    qOffset,
                    qStride,
                    rows,
                    scores,
                    scoresOffset + (block - from) * blockBytes);
        }
    }

    @Override
    public void accumulateCoarse(int block, int head, MemorySegment weights, long weightsOffset, DecodeScratch work) {
        kernels.packedAccumulate(
                values.segment(block),
                valuesAt(block, head),
                4,
                true,
                headSize,
                weights,
                weightsOffset,
                work.rows,
                BlockLayout.BLOCK,
                work.memory,
                work.acc);
    }

    @Override
    public void gather(int[] tokens, int first, int count, int head, DecodeScratch work) {
        for (int i = 0; i < count; i++) {
            gather(tokens[first + i], head, work, i);
        }
    }

    @Override
    public void attendGathered(int count, MemorySegment q, long qOffset, DecodeScratch work) {
        work.attendTiles(work.memory, work.keys, work.values, count, q, qOffset);
    }

    private void gather(int token, int head, DecodeScratch work, int column) {
        int block = token / BlockLayout.BLOCK;
        int inBlock = token % BlockLayout.BLOCK;
        BlockStore refinement = low;
        MemorySegment records = refinement == null ? middle : refinement.segment(block);
        long record = refinement == null ? 0 : recordsAt(refinement, block, head) + (long) inBlock * recordBytes;
        kernels.gatherKey(
                keys.segment(block), keysAt(block, head), inBlock, records, record, headSize, work.memory, work.keys,
                column);
        kernels.gatherValue(
                values.segment(block),
                valuesAt(block, head),
                inBlock,
                records,
                record + recordValue,
                headSize,
                work.memory,
                work.values,
                column);
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

    /** Gives up the refinement: from now on the store is a 4-bit quantization. */
    void dropLow() {
        if (low != null) {
            low.close();
            low = null;
        }
    }

    @Override
    public void truncate(int blocks) {
        keys.truncate(blocks);
        values.truncate(blocks);
        if (low != null) {
            low.truncate(blocks);
        }
    }

    @Override
    public long blockBytes() {
        return (long) keyBytes + valueBytes + (low == null ? 0 : BlockLayout.BLOCK * recordBytes);
    }

    @Override
    public long indexBytes() {
        return keyBytes;
    }

    @Override
    public long coarseBytes() {
        return valueBytes;
    }

    /** Of the key a nibble, scale and zero point of each channel, of the value its row, of both the refinement. */
    @Override
    public long tokenBytes() {
        return headSize / 2 + 2L * Short.BYTES * headSize + valueBytes / BlockLayout.BLOCK
                + (low == null ? 0 : recordBytes);
    }

    @Override
    public long residentBytes() {
        return keys.bytes() + values.bytes();
    }

    @Override
    public long offloadedBytes() {
        return low == null ? 0 : low.bytes();
    }

    @Override
    public void close() {
        keys.close();
        values.close();
        if (low != null) {
            low.close();
        }
    }
}
