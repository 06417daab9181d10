package io.github.tailorkv.cache;

import io.github.tailorkv.memory.SystemMemory;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;

/**
 * An append-only sequence of equal entries of off-heap memory, one entry per block of 64 tokens of a layer or per panel of
 * many of them. An entry may consist of parts, one per KV head: whoever reads one head from end to end or all over its blocks
 * has its parts of a chunk side by side, and with them the pages and what translates their addresses.
 *
 * <p>Entries lie in chunks; a chunk is one arena (or one stretch of a file), so that a store that is dropped gives its
 * memory back at once. Chunks grow with the store, from a few entries to a sixteenth of what is there: at most a sixteenth is
 * unused, and a store of 2,048 entries (128k tokens) consists of about 80 chunks.
 */
final class BlockStore implements AutoCloseable {

    /** Where chunks come from. Chunks are released in the opposite order of their allocation. */
    interface Source extends AutoCloseable {
        /** A new zeroed chunk of {@code bytes}, aligned to cache lines. */
        Chunk allocate(long bytes);

        @Override
        void close();
    }

    /** One stretch of memory and how to give it back. */
    record Chunk(MemorySegment memory, Runnable release) {}

    /** Anonymous memory. */
    static final Source RAM = new Source() {
        @Override
        public Chunk allocate(long bytes) {
            Arena arena = Arena.ofShared();
            MemorySegment memory = SystemMemory.allocate(bytes, arena);
            return new Chunk(memory == null ? arena.allocate(bytes, 64) : memory, arena::close);
        }

        @Override
        public void close() {
            // nothing but chunks, and these are released one by one
        }
    };

    private static final int FIRST_CHUNK = 4;

    private final int firstChunk;
    private final int parts;
    private final long partBytes;
    private final Source source;
    private Chunk[] chunks = new Chunk[0];
    private int[] chunkStart = {0};
    private MemorySegment[] segments = new MemorySegment[0];
    private long[] offsets = new long[0];
    /** Bytes from a part of an entry to the next part. */
    private long[] strides = new long[0];
    private int size;

    BlockStore(long entryBytes, Source source) {
        this(1, entryBytes, FIRST_CHUNK, source);
    }

    /** @param parts of an entry, each of {@code partBytes} */
    BlockStore(int parts, long partBytes, Source source) {
        this(parts, partBytes, FIRST_CHUNK, source);
    }

    /** @param firstChunk entries to start with */
    BlockStore(int parts, long partBytes, int firstChunk, Source source) {
        this.parts = parts;
        this.partBytes = partBytes;
        this.firstChunk = firstChunk;
        this.source = source;
    }

    /** Entries in use. */
    int size() {
        return size;
    }

    /** Adds an entry and returns its index. */
    int add() {
        add(1);
        return size - 1;
    }

    /** Adds {@code count} entries; nothing if it throws. */
    void add(int count) {
        if (size + count > segments.length) {
            grow(size + count - segments.length);
        }
        size += count;
    }

    /** Makes room for {@code least} more entries than there is room for. */
    private void grow(int least) {
        int room = segments.length;
        int entries = Math.max(least, Math.max(firstChunk, room / 16));
        Chunk chunk = source.allocate(entries * (parts * partBytes));
        chunks = Arrays.copyOf(chunks, chunks.length + 1);
        chunks[chunks.length - 1] = chunk;
        chunkStart = Arrays.copyOf(chunkStart, chunks.length + 1);
        chunkStart[chunks.length] = room + entries;
        segments = Arrays.copyOf(segments, room + entries);
        offsets = Arrays.copyOf(offsets, room + entries);
        strides = Arrays.copyOf(strides, room + entries);
        for (int i = 0; i < entries; i++) {
            segments[room + i] = chunk.memory();
            offsets[room + i] = i * partBytes;
            strides[room + i] = entries * partBytes;
        }
    }

    MemorySegment segment(int index) {
        return segments[index];
    }

    long offset(int index) {
        return offsets[index];
    }

    long offset(int index, int part) {
        return offsets[index] + part * strides[index];
    }

    /** Drops all entries from {@code newSize} on and the chunks that hold none any more. */
    void truncate(int newSize) {
        if (newSize >= size) {
            return;
        }
        size = newSize;
        int keep = chunks.length;
        while (keep > 0 && chunkStart[keep - 1] >= newSize) {
            chunks[--keep].release().run();
        }
        chunks = Arrays.copyOf(chunks, keep);
        chunkStart = Arrays.copyOf(chunkStart, keep + 1);
        segments = Arrays.copyOf(segments, chunkStart[keep]);
        offsets = Arrays.copyOf(offsets, chunkStart[keep]);
        strides = Arrays.copyOf(strides, chunkStart[keep]);
    }

    /** Bytes allocated, used or not. */
    long bytes() {
        return segments.length * (parts * partBytes);
    }

    @Override
    public void close() {
        truncate(0);
        source.close();
    }
}
