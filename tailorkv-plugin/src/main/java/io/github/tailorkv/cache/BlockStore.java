package io.github.tailorkv.cache;

import io.github.tailorkv.memory.SystemMemory;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;

/**
 * An append-only sequence of equal entries of off-heap memory, one entry per block of 64 tokens of a layer or per panel of
 * many of them.
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
    private final long entryBytes;
    private final Source source;
    private Chunk[] chunks = new Chunk[0];
    private int[] chunkStart = {0};
    private MemorySegment[] segments = new MemorySegment[0];
    private long[] offsets = new long[0];
    private int size;

    BlockStore(long entryBytes, Source source) {
        this(entryBytes, FIRST_CHUNK, source);
    }

    /** @param firstChunk entries to start with */
    BlockStore(long entryBytes, int firstChunk, Source source) {
        this.entryBytes = entryBytes;
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
        Chunk chunk = source.allocate(entries * entryBytes);
        chunks = Arrays.copyOf(chunks, chunks.length + 1);
        chunks[chunks.length - 1] = chunk;
        chunkStart = Arrays.copyOf(chunkStart, chunks.length + 1);
        chunkStart[chunks.length] = room + entries;
        segments = Arrays.copyOf(segments, room + entries);
        offsets = Arrays.copyOf(offsets, room + entries);
        for (int i = 0; i < entries; i++) {
            segments[room + i] = chunk.memory();
            offsets[room + i] = i * entryBytes;
        }
    }

    MemorySegment segment(int index) {
        return segments[index];
    }

    long offset(int index) {
        return offsets[index];
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
    }

    /** Bytes allocated, used or not. */
    long bytes() {
        return segments.length * entryBytes;
    }

    @Override
    public void close() {
        truncate(0);
        source.close();
    }
}
