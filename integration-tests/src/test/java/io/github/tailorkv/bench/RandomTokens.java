package io.github.tailorkv.bench;

import io.github.tailorkv.cache.HybridCacheProvider;
import io.github.tailorkv.config.Settings;
import io.github.tailorkv.kernels.AttentionShape;
import io.github.tailorkv.spi.ModelCache;
import io.github.tailorkv.spi.ModelShape;
import io.github.tailorkv.spi.SessionCache;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Optional;

/** Random tokens for the cache alone, without Jlama: a model of Llama-3.2-1B's shape with any number of layers. */
final class RandomTokens {
    /** Jlama's own chunk length. */
    static final int CHUNK = 256;

    private static final AttentionShape SHAPE = new AttentionShape(32, 8, 64, 0.125f, 0);
    private static final int QUERY_FLOATS = SHAPE.heads() * SHAPE.headSize();
    private static final int KEY_FLOATS = SHAPE.kvHeads() * SHAPE.headSize();

    private final int layers;
    private final RandomRows keys = new RandomRows(1, Math.sqrt(2.75));
    private final RandomRows values = new RandomRows(2, 1);
    private final MemorySegment out = Arena.global().allocate((long) CHUNK * QUERY_FLOATS * Float.BYTES, 64)
            .fill((byte) 1);

    RandomTokens(int layers) {
        this.layers = layers;
    }

    /** Opens a cache with room for twice {@code tokens}. */
    ModelCache open(int tokens, Settings settings) {
        int threads = Math.max(2, Runtime.getRuntime().availableProcessors() / 2);
        return new HybridCacheProvider().open(
                new ModelShape("LLAMA", layers, SHAPE, 2 * tokens, false, threads, Optional.empty()), settings);
    }

    /** Appends {@code n} tokens to a layer that holds {@code at}. */
    void append(SessionCache session, int layer, int at, int n) {
        session.append(
                layer, at, n, keys.next(n * QUERY_FLOATS), keys.next(n * KEY_FLOATS), values.next(n * KEY_FLOATS));
    }

    /**
     * Appends {@code n} tokens, at most a chunk, to a layer that holds {@code at}, and attends from each.
     *
     * @return the nanoseconds that it took
     */
    long attend(SessionCache session, int layer, int at, int n) {
        MemorySegment q = keys.next(n * QUERY_FLOATS);
        MemorySegment k = keys.next(n * KEY_FLOATS);
        MemorySegment v = values.next(n * KEY_FLOATS);
        long start = System.nanoTime();
        session.attend(layer, at, n, q, k, v, out);
        return System.nanoTime() - start;
    }
}
