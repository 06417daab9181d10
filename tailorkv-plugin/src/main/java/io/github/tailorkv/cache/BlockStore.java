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
    /** The first entry of each chunk, and last how many entries there is room for. */
    private int[] chunkStart = {0};
    /** The chunk of each entry. */
    private int[] chunkOf = new int[0];
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
        if (size + count > chunkOf.length) {
            grow(size + count - chunkOf.length);
        }
        size += count;
    }

    /** Makes room for {@code least} more entries than there is room for. */
    private void grow(int least) {
        int room = chunkOf.length;
        int entries = Math.max(least, Math.max(firstChunk, room / 16));
        Chunk chunk = source.allocate(entries * (parts * partBytes));
        int last = chunks.length;
        chunks = Arrays.copyOf(chunks, last + 1);
        chunks[last] = chunk;
        chunkStart = Arrays.copyOf(chunkStart, last + 2);
        chunkStart[last + 1] = room + entries;
        chunkOf = Arrays.copyOf(chunkOf, room + entries);
        Arrays.fill(chunkOf, room, room + entries, last);
    }

    MemorySegment segment(int index) {
        return chunks[chunkOf[index]].memory();
    }

    long offset(int index) {
        return offset(index, 0);
    }

    /** Where in its {@linkplain #segment segment} a part of an entry lies. */
    long offset(int index, int part) {
        int first = chunkBegin(index);
        return ((long) part * (chunkEnd(index) - first) + index - first) * partBytes;
    }

    /** The first of the entries that lie in one chunk with this one, each part side by side. */
    int chunkBegin(int index) {
        return chunkStart[chunkOf[index]];
    }

    /** Behind the last of those. */
    int chunkEnd(int index) {
        return chunkStart[chunkOf[index] + 1];
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
        chunkOf = Arrays.copyOf(chunkOf, chunkStart[keep]);
    }

    /** Bytes allocated, used or not. */
    long bytes() {
        return chunkOf.length * (parts * partBytes);
    }

    @Override
    public void close() {
        truncate(0);
        source.close();
    }
}
