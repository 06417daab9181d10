package io.github.tailorkv.cuda;

import io.github.tailorkv.config.Settings;
import io.github.tailorkv.kernels.AttentionShape;
import io.github.tailorkv.kernels.BlockLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/**
 * The first parameter of the kernels, {@code struct Arguments} of {@code layout.cuh}, by value.
 */
final class GpuArguments {

    static final int OPEN = 0;
    static final int EXACT = 1;
    static final int QUANTIZED = 2;
    static final int RETRIEVAL = 3;

    static final int HISTOGRAM_BINS = 4096;
    static final int MAX_GROUP = 16;
    /** Barriers and arrivals that there are counters for. */
    static final int COUNTERS = 64;

    static final int COUNTER_BYTES = 768;

    /** Pages that one thread block asks for at a time. */
    private static final int PAGES_AT_A_TIME = 16;

    /** Bytes of the struct. */
    private static final int BYTES = 248;

    private static final int BLOCKS = 0;
    private static final int RANGES = 8;
    private static final int QUERIES = 16;
    private static final int Q = 24;
    private static final int K = 32;
    private static final int V = 40;
    private static final int OUT = 48;
    private static final int PARTIALS = 56;
    private static final int HISTOGRAM = 64;
    private static final int BINS = 72;
    private static final int SELECTED = 80;
    private static final int SHARES = 88;
    private static final int COUNTS = 96;
    private static final int SCORES = 104;
    private static final int HEADS = 112;
    private static final int KV_HEADS = 116;
    private static final int HEAD_SIZE = 120;
    private static final int KIND = 124;
    private static final int BITS = 128;
    private static final int INDEX_BITS = 132;
    private static final int BFLOAT16_ROWS = 136;
    private static final int RECORD_BYTES = 140;
    private static final int INDEX_BYTES = 144;
    private static final int PACKED_BYTES = 148;
    private static final int SEALED = 152;
    private static final int LENGTH = 156;
    private static final int N = 160;
    private static final int BUDGET = 164;
    private static final int SINKS = 168;
    private static final int CHANNELS = 172;
    private static final int PER_HEAD = 176;
    private static final int RING = 180;
    private static final int SCALE = 184;
    private static final int SOFT_CAP = 188;
    private static final int COUNTERS_AT = 192;
    private static final int STAGED = 200;
    private static final int FLAG = 208;
    private static final int TICKET = 216;
    private static final int TOUCHING = 220;
    private static final int NEXT_BLOCKS = 224;
    private static final int NEXT_SEALED = 232;
    private static final int INDEXED_COUNT = 236;
    private static final int INDEXED = 240;

    private final MemorySegment struct = MemorySegment
            .ofBuffer(ByteBuffer.allocateDirect(BYTES).order(ByteOrder.nativeOrder()));
    private final Settings settings;

    /** Writes what never changes. */
    GpuArguments(AttentionShape shape, Settings settings) {
        this.settings = settings;
        number(HEADS, shape.heads());
        number(KV_HEADS, shape.kvHeads());
        number(HEAD_SIZE, shape.headSize());
        number(BITS, settings.bits());
        number(INDEX_BITS, settings.indexBits());
        number(BFLOAT16_ROWS, settings.rows() == Settings.Rows.BF16 ? 1 : 0);
        number(RECORD_BYTES, recordBytes(shape, settings));
        number(INDEX_BYTES, indexBytes(shape, settings));
        number(PACKED_BYTES, packedBytes(shape, settings));
        number(SINKS, settings.sinks());
        number(CHANNELS, settings.channels());
        number(PER_HEAD, settings.selection() == Settings.Selection.PER_HEAD ? 1 : 0);
        number(RING, settings.queries());
        number(INDEXED_COUNT, settings.indexedChannels(shape.headSize()));
        struct.set(ValueLayout.JAVA_FLOAT, SCALE, shape.scale());
        struct.set(ValueLayout.JAVA_FLOAT, SOFT_CAP, shape.softCap());
    }

    /** As {@link Gpu#launch} takes it. */
    MemorySegment struct() {
        return struct;
    }

    /** Bytes of the tile of one block, all KV heads. */
    static long tileBytes(AttentionShape shape) {
        return 2L * shape.kvHeads() * BlockLayout.BLOCK * shape.headSize() * Float.BYTES;
    }

    /** Bytes of the row of one token of one KV head. */
    static int recordBytes(AttentionShape shape, Settings settings) {
        int headSize = shape.headSize();
        int bytes = settings.rows() == Settings.Rows.BF16
                ? 4 * headSize
                : 2 * headSize + 4 * BlockLayout.groups(headSize);
        return (bytes + 15) & -16;
    }

    /** Bytes of the index of one block of one KV head. */
    static int indexBytes(AttentionShape shape, Settings settings) {
        int codes = settings.indexedChannels(shape.headSize()) * 8 * settings.indexBits();
        return (codes + 3 * shape.headSize() + 15) & -16;
    }

    /** Bytes of a quantized block of one KV head. */
    static int packedBytes(AttentionShape shape, Settings settings) {
        int headSize = shape.headSize();
        int codes = 2 * BlockLayout.BLOCK * headSize * settings.bits() / 8;
        return (codes + 4 * headSize + 4 * BlockLayout.BLOCK * BlockLayout.groups(headSize) + 15) & -16;
    }

    private void number(int offset, int value) {
        struct.set(ValueLayout.JAVA_INT, offset, value);
    }

    private void address(int offset, long value) {
        struct.set(ValueLayout.JAVA_LONG, offset, value);
    }

    /**
     * Of the layer at hand.
     *
     * @param ranges of the key channels
     * @param queries ring of the newest ones, 0 for none
     * @param indexed channels that the index holds, 0 while they are not chosen
     */
    void layer(long blocks, int kind, int sealed, int length, long ranges, long queries, long indexed) {
        address(BLOCKS, blocks);
        number(KIND, kind);
        number(SEALED, sealed);
        number(BUDGET, settings.budgetAt(sealed * BlockLayout.BLOCK));
        number(LENGTH, length);
        address(RANGES, ranges);
        address(QUERIES, queries);
        address(INDEXED, indexed);
    }

    void staged(int n, long q, long k, long v, long out) {
        number(N, n);
        address(Q, q);
        address(K, k);
        address(V, v);
        address(OUT, out);
    }

    /** Where a decode step finds q, k and v, one after the other, and where it writes {@code ticket} in the end. */
    void step(long staged, long flag, int ticket, long counters) {
        address(STAGED, staged);
        address(FLAG, flag);
        number(TICKET, ticket);
        address(COUNTERS_AT, counters);
    }

    /** The retrieval layer whose turn is next; none where {@code blocks} is 0. */
    void next(long blocks, int sealed) {
        number(TOUCHING, PAGES_AT_A_TIME);
        address(NEXT_BLOCKS, blocks);
        number(NEXT_SEALED, sealed);
    }

    void scratch(long partials, long histogram, long bins, long selected, long shares, long counts,
            long scores) {
        address(PARTIALS, partials);
        address(HISTOGRAM, histogram);
        address(BINS, bins);
        address(SELECTED, selected);
        address(SHARES, shares);
        address(COUNTS, counts);
        address(SCORES, scores);
    }
}
