package io.github.tailorkv.cache;

import io.github.tailorkv.kernels.AttentionKernels;
import io.github.tailorkv.kernels.AttentionShape;
import io.github.tailorkv.kernels.BlockLayout;
import io.github.tailorkv.kernels.RecordList;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;

/**
 * What one thread needs to attend one head group in a decode step: a pair of F32 tiles, the scores of one block, and the
 * running softmax (state and accumulator) of the group's rows. All in one stretch of memory.
 */
final class DecodeScratch implements AutoCloseable {

    final AttentionKernels kernels;
    final AttentionShape shape;
    final int rows;
    final long rowBytes;

    final MemorySegment memory;
    final long keys;
    final long values;
    final long scores;
    /** Where the softmax in use lies: a running maximum and a running sum a row, and what was accumulated. */
    long state;
    long acc;

    /** Records of the tokens at hand, for {@link #attendRecords}. */
    final RecordList records = new RecordList();

    private final Arena arena = Arena.ofShared();
    private final long softmaxes;
    private final long stateBytes;
    private final long softmaxBytes;

    DecodeScratch(AttentionKernels kernels, AttentionShape shape) {
        this.kernels = kernels;
        this.shape = shape;
        this.rows = shape.groupSize();
        this.rowBytes = (long) shape.headSize() * Float.BYTES;
        keys = 0;
        values = keys + BlockLayout.keyTileBytes(shape.headSize());
        scores = values + BlockLayout.valueTileBytes(shape.headSize());
        softmaxes = scores + (long) rows * BlockLayout.BLOCK * Float.BYTES;
        stateBytes = (2L * rows * Float.BYTES + 63) & -64;
        softmaxBytes = stateBytes + rows * rowBytes;
        memory = arena.allocate(softmaxes + shape.kvHeads() * softmaxBytes, 64);
        use(0);
    }

    /** Takes one of the softmaxes in use, of which there are as many as KV heads: to attend several heads by turns. */
    void use(int softmax) {
        state = softmaxes + softmax * softmaxBytes;
        acc = state + stateBytes;
    }

    /** Starts a new softmax. */
    void reset() {
        resetState(memory, state, rows);
        zero(memory, acc, rows * rowBytes);
    }

    private static final MemorySegment ZEROS = MemorySegment.ofBuffer(ByteBuffer.allocateDirect(1 << 16));

    /** Clears memory without making a slice of it: decode steps allocate nothing, compiled or not. */
    static void zero(MemorySegment memory, long offset, long bytes) {
        for (long done = 0; done < bytes; done += ZEROS.byteSize()) {
            MemorySegment.copy(ZEROS, 0, memory, offset + done, Math.min(ZEROS.byteSize(), bytes - done));
        }
    }

    /** Sets running maxima to minus infinity and running sums to 0. */
    static void resetState(MemorySegment memory, long state, int rows) {
        for (int row = 0; row < rows; row++) {
            memory.set(ValueLayout.JAVA_FLOAT, state + 8L * row, Float.NEGATIVE_INFINITY);
            memory.set(ValueLayout.JAVA_FLOAT, state + 8L * row + 4, 0);
        }
    }

    /** Attends the first {@code tokens} tokens of a pair of F32 tiles. */
    void attendTiles(MemorySegment tiles, long keys, long values, int tokens, MemorySegment q, long qOffset) {
        int headSize = shape.headSize();
        kernels.scores(tiles, keys, headSize, q, qOffset, rowBytes, rows, memory, scores);
        softmax(tokens);
        kernels.accumulate(tiles, values, headSize, memory, scores, rows, tokens, memory, acc);
    }

    /** Attends the records at hand. */
    void attendRecords(MemorySegment q, long qOffset) {
        kernels.recordScores(records, q, qOffset, rowBytes, rows, memory, scores);
        softmax(records.count());
        kernels.recordAccumulate(records, memory, scores, rows, memory, acc);
    }

    /** Turns the scores of one block into weights and rescales what was accumulated before. */
    void softmax(int tokens) {
        kernels.softmaxStep(
                memory,
                scores,
                rows,
                tokens,
                BlockLayout.BLOCK,
                1,
                shape.scale(),
                shape.softCap(),
                memory,
                state,
                memory,
                acc,
                shape.headSize());
    }

    @Override
    public void close() {
        arena.close();
    }
}
