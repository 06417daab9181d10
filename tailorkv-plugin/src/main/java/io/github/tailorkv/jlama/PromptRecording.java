package io.github.tailorkv.jlama;

import io.github.tailorkv.spi.SessionCache;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;

/**
 * Keys, values and the newest queries of a prompt in all layers, as the attention received them, and the logits behind it:
 * as much memory as an exact cache of the prompt.
 */
public final class PromptRecording implements AutoCloseable {

    /** Chunks whose queries are kept; a chunk but the last has as many tokens as any policy asks about. */
    private static final int CHUNKS_WITH_QUERIES = 2;

    private final Arena arena = Arena.ofShared();
    private final List<List<Chunk>> layers = new ArrayList<>();
    private final int start;
    private final int tokens;
    private float[] logits = {};
    private MemorySegment noQueries = MemorySegment.NULL;

    /** One call of the attention. */
    private static final class Chunk {
        private final int start;
        private final int n;
        private final MemorySegment k;
        private final MemorySegment v;
        private final long queryBytes;
        private MemorySegment q;

        private Chunk(int start, int n, MemorySegment q, MemorySegment k, MemorySegment v) {
            this.start = start;
            this.n = n;
            this.q = q;
            this.k = k;
            this.v = v;
            queryBytes = q.byteSize();
        }
    }

    PromptRecording(int start, int tokens) {
        this.start = start;
        this.tokens = tokens;
    }

    /** Tokens of the prompt. */
    public int tokens() {
        return tokens;
    }

    /** Logits of the token after the prompt. */
    public float[] logits() {
        return logits.clone();
    }

    void add(int layer, int startPosition, int n, MemorySegment q, MemorySegment k, MemorySegment v) {
        while (layers.size() <= layer) {
            layers.add(new ArrayList<>());
        }
        List<Chunk> chunks = layers.get(layer);
        chunks.add(
                new Chunk(startPosition, n, Arena.ofAuto().allocate(q.byteSize(), 64).copyFrom(q), copy(k), copy(v)));
        if (chunks.size() > CHUNKS_WITH_QUERIES) {
            chunks.get(chunks.size() - 1 - CHUNKS_WITH_QUERIES).q = MemorySegment.NULL;
        }
    }

    private MemorySegment copy(MemorySegment source) {
        return arena.allocate(source.byteSize(), 64).copyFrom(source);
    }

    void end(float[] logitsBehind) {
        logits = logitsBehind;
        long most = layers.stream().flatMap(List::stream).mapToLong(chunk -> chunk.queryBytes).max().orElse(0);
        noQueries = arena.allocate(most, 64);
    }

    void appendTo(SessionCache cache, int position) {
        if (position != start) {
            throw new IllegalStateException("the prompt was read at position " + start + ", not " + position);
        }
        for (int layer = 0; layer < layers.size(); layer++) {
            for (Chunk chunk : layers.get(layer)) {
                MemorySegment q = chunk.q.equals(MemorySegment.NULL) ? noQueries.asSlice(0, chunk.queryBytes) : chunk.q;
                cache.append(layer, chunk.start, chunk.n, q, chunk.k, chunk.v);
            }
        }
    }

    /** Frees the memory. */
    @Override
    public void close() {
        if (arena.scope().isAlive()) {
            arena.close();
        }
    }
}
