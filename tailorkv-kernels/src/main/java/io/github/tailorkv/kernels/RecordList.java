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
    }

    /**
     * Adds records out of memory in which those of tokens that follow each other lie side by side. If it throws, it adds none.
     *
     * @param origin where in {@code memory} the record of token 0 would lie, which need not be there: it may be negative
     * @param tokens whose records to add, those of {@code [from, to)}, in any order
     * @throws IndexOutOfBoundsException if a record does not lie in {@code memory}, or there would be more than 64
     * @throws IllegalArgumentException if {@code memory} is not native
     * @throws IllegalStateException if {@code memory} has been given back
     */
    public void add(MemorySegment memory, long origin, int[] tokens, int from, int to) {
        long start = NativeMemory.address(memory, 0, 0);
        long room = memory.byteSize() - bytes + 1;
        int next = count;
        for (int i = from; i < to; i++) {
            addresses[next++] = start + Objects.checkIndex(origin + (long) tokens[i] * bytes, room);
        }
        count = next;
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
