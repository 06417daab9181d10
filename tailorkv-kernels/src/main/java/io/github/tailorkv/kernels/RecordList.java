package io.github.tailorkv.kernels;

import java.lang.foreign.MemorySegment;
import java.util.Objects;

/**
 * Token records at hand, wherever they lie: as many as a block has tokens, all of one precision and head size.
 *
 * <p>A record is checked, and its memory asked whether it is there, when it is added, not by each of the kernels that read it
 * afterwards. So whoever adds one keeps its memory until the list is begun again.
 */
public final class RecordList {

    /** Where the records are. */
    final long[] addresses = new long[BlockLayout.BLOCK];

    private int bits;
    private int headSize;
    private int bytes;
    private int count;

    /** What the last record lay in: most lie in one segment with their neighbours, and asking it takes longer than the rest. */
    private MemorySegment segment = MemorySegment.NULL;
    private long start;
    private long size;

    /**
     * Empties the list.
     *
     * @param bits precision of the records that follow: 4, 8 or 16
     * @param headSize their channels
     */
    public void begin(int bits, int headSize) {
        this.bits = bits;
        this.headSize = headSize;
        bytes = BlockLayout.recordBytes(bits, headSize);
        count = 0;
        segment = MemorySegment.NULL;
        size = 0;
    }

    /**
     * Adds a record.
     *
     * @param offset of the record in {@code memory}
     * @throws IndexOutOfBoundsException if the record does not lie in {@code memory}, or there are 64 already
     * @throws IllegalArgumentException if {@code memory} is not native
     * @throws IllegalStateException if {@code memory} has been given back
     */
    @SuppressWarnings({"ReferenceEquality", "MemorySegmentReferenceEquality"})
    public void add(MemorySegment memory, long offset) {
        if (memory != segment) {
            start = NativeMemory.address(memory, 0, 0);
            size = memory.byteSize();
            segment = memory;
        }
        addresses[count] = start + Objects.checkFromIndexSize(offset, bytes, size);
        count++;
    }

    /** How many records there are. */
    public int count() {
        return count;
    }

    int bits() {
        return bits;
    }

    int headSize() {
        return headSize;
    }

    int bytes() {
        return bytes;
    }
}
