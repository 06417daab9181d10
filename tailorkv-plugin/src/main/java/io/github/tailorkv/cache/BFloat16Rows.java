package io.github.tailorkv.cache;

import io.github.tailorkv.kernels.AttentionKernels;
import io.github.tailorkv.kernels.AttentionShape;
import io.github.tailorkv.kernels.BlockLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import org.jspecify.annotations.Nullable;

/**
 * Sealed blocks with offloaded rows in BF16, key and value of a token side by side, and a channel index of 4 or 8 bits
 * beside them: the storage closest to the published method, which keeps everything in 16 bits.
 */
final class BFloat16Rows implements IndexedBlocks {

    private final AttentionKernels kernels;
    private final int headSize;
    private final int indexBits;
    private final int keyBytes;
    private final int valueBytes;
    private final long recordBytes;
    private final BlockStore keyIndex;
    private final @Nullable BlockStore coarseValues;
    private final BlockStore rows;
    private final ChannelRanges ranges;

    /**
     * @param indexBits precision of the key index, 4 or 8
     * @param tail whether coarse values are kept beside it
     * @param offload where the rows go
     */
    BFloat16Rows(AttentionKernels kernels, AttentionShape shape, int indexBits, boolean tail,
            BlockStore.Source offload) {
        this.kernels = kernels;
        this.indexBits = indexBits;
        headSize = shape.headSize();
        keyBytes = BlockLayout.packedKeyBytes(indexBits, headSize);
        valueBytes = BlockLayout.packedValueBytes(4, headSize);
        recordBytes = 2L * headSize * Short.BYTES;
        keyIndex = new BlockStore((long) shape.kvHeads() * keyBytes, BlockStore.RAM);
        coarseValues = tail ? new BlockStore((long) shape.kvHeads() * valueBytes, BlockStore.RAM) : null;
        rows = new BlockStore(shape.kvHeads() * (long) BlockLayout.BLOCK * recordBytes, offload);
        ranges = new ChannelRanges(shape.kvHeads(), headSize);
    }

    @Override
    public int size() {
        return keyIndex.size();
    }

    @Override
    public void add() {
        int size = keyIndex.size();
        try {
            rows.add();
            if (coarseValues != null) {
                coarseValues.add();
            }
            keyIndex.add();
        } catch (RuntimeException | Error e) {
            truncate(size);
            throw e;
        }
    }

    private long indexAt(int block, int head) {
        return keyIndex.offset(block) + (long) head * keyBytes;
    }

    private long rowAt(int block, int head, int token) {
        return rows.offset(block) + ((long) head * BlockLayout.BLOCK + token) * recordBytes;
    }

    @Override
    public void seal(int block, int head, MemorySegment tiles, long keys, long values) {
        kernels.quantizeKeys(tiles, keys, headSize, indexBits, keyIndex.segment(block), indexAt(block, head));
        if (coarseValues != null) {
            kernels.quantizeValues(
                    tiles,
                    values,
                    headSize,
                    4,
                    coarseValues.segment(block),
                    coarseValues.offset(block) + (long) head * valueBytes);
        }
        MemorySegment target = rows.segment(block);
        for (int c = 0; c < headSize; c++) {
            float low = Float.POSITIVE_INFINITY;
            float high = Float.NEGATIVE_INFINITY;
            for (int t = 0; t < BlockLayout.BLOCK; t++) {
                float key = tiles.get(ValueLayout.JAVA_FLOAT, keys + 4L * (c * BlockLayout.BLOCK + t));
                low = Math.min(low, key);
                high = Math.max(high, key);
                target.set(ValueLayout.JAVA_SHORT, rowAt(block, head, t) + 2L * c, bfloat16(key));
            }
            ranges.include(head, c, low, high);
        }
        for (int t = 0; t < BlockLayout.BLOCK; t++) {
            kernels.toBFloat16(
                    tiles, values + 4L * t * headSize, target, rowAt(block, head, t) + 2L * headSize, headSize);
        }
    }

    /** Rounds to nearest, ties to even; infinities stay, NaN stays NaN. */
    private static short bfloat16(float value) {
        int bits = Float.floatToRawIntBits(value);
        if (Float.isNaN(value)) {
            return (short) (bits >>> 16 | 0x40);
        }
        return (short) ((bits + 0x7fff + (bits >>> 16 & 1)) >>> 16);
    }

    @Override
    public void load(int block, int head, MemorySegment tiles, long keys, long values) {
        for (int t = 0; t < BlockLayout.BLOCK; t++) {
            read(block, head, t, tiles, keys, values, t);
        }
    }

    private void read(int block, int head, int token, MemorySegment tiles, long keys, long values, int column) {
        MemorySegment source = rows.segment(block);
        long row = rowAt(block, head, token);
        for (int c = 0; c < headSize; c++) {
            float key = Float.intBitsToFloat(source.get(ValueLayout.JAVA_SHORT, row + 2L * c) << 16);
            tiles.set(ValueLayout.JAVA_FLOAT, keys + 4L * (c * BlockLayout.BLOCK + column), key);
        }
        kernels.fromBFloat16(source, row + 2L * headSize, tiles, values + 4L * column * headSize, headSize);
    }

    @Override
    public void gather(int token, int head, MemorySegment tiles, long keys, long values, int column) {
        read(token / BlockLayout.BLOCK, head, token % BlockLayout.BLOCK, tiles, keys, values, column);
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
            int block,
            int head,
            int @Nullable [] channels,
            int channelCount,
            MemorySegment q,
            long qOffset,
            int queryRows,
            MemorySegment scores,
            long scoresOffset) {
        kernels.packedScores(
                keyIndex.segment(block),
                indexAt(block, head),
                indexBits,
                false,
                headSize,
                channels,
                channelCount,
                q,
                qOffset,
                (long) headSize * Float.BYTES,
                queryRows,
                scores,
                scoresOffset);
    }

    @Override
    public void accumulateCoarse(int block, int head, MemorySegment weights, long weightsOffset, DecodeScratch work) {
        if (coarseValues == null) {
            throw new IllegalStateException("no coarse values are kept without a tail");
        }
        kernels.packedAccumulate(
                coarseValues.segment(block),
                coarseValues.offset(block) + (long) head * valueBytes,
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
    public float[] keyMagnitude(int head) {
        return ranges.magnitude(head);
    }

    @Override
    public float[] keyRange(int head) {
        return ranges.range(head);
    }

    @Override
    public void truncate(int blocks) {
        keyIndex.truncate(blocks);
        rows.truncate(blocks);
        if (coarseValues != null) {
            coarseValues.truncate(blocks);
        }
    }

    @Override
    public long blockBytes() {
        return BlockLayout.BLOCK * recordBytes;
    }

    @Override
    public long indexBytes() {
        return keyBytes;
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
        return keyIndex.bytes() + (coarseValues == null ? 0 : coarseValues.bytes());
    }

    @Override
    public long offloadedBytes() {
        return rows.bytes();
    }

    @Override
    public void close() {
        keyIndex.close();
        rows.close();
        if (coarseValues != null) {
            coarseValues.close();
        }
    }
}
