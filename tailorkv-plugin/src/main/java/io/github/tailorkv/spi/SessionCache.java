package io.github.tailorkv.spi;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.List;
import org.jspecify.annotations.Nullable;

/**
 * Keys and values of one session in all layers, and the attention over them. Used by one thread at a time; several
 * sessions of a model run on several threads at once.
 */
public interface SessionCache extends AutoCloseable {

    /** Tokens that every layer holds. */
    int length();

    /**
     * Truncates a layer to {@code startPosition}, appends {@code n} tokens and attends causally: token i sees all tokens
     * up to and including {@code startPosition + i}.
     *
     * <p>All segments are native F32 memory that any thread may use, rows contiguous: {@code q} and {@code out} are
     * {@code [n][heads * headSize]}, {@code k} and {@code v} are {@code [n][kvHeads * headSize]}; positions are already
     * applied to q and k.
     *
     * @throws IllegalStateException if {@code startPosition} lies beyond the tokens that the layer holds, or the session
     *     is closed
     * @throws java.io.UncheckedIOException if the offload tier cannot be written
     */
    void attend(
            int layer, int startPosition, int n, MemorySegment q, MemorySegment k, MemorySegment v, MemorySegment out);

    /**
     * Appends tokens to a layer as {@link #attend} does, for a caller that has no use for what they attend to: one that fills
     * a session with keys and values that it knows already. What the session holds is the same afterwards.
     *
     * @param startPosition tokens that the layer holds
     */
    default void append(int layer, int startPosition, int n, MemorySegment q, MemorySegment k, MemorySegment v) {
        try (Arena arena = Arena.ofShared()) {
            attend(layer, startPosition, n, q, k, v, arena.allocate(q.byteSize(), 64));
        }
    }

    /** Forgets all tokens from position {@code length} on. */
    void truncate(int length);

    /** What each layer holds now. */
    List<LayerStatistics> statistics();

    /**
     * Measures the decode steps that follow, until called with null. A cache that cannot measure does nothing.
     *
     * @param step filled in by {@link #attend}
     */
    default void measure(@Nullable StepSample step) {}

    /** Frees all memory and files; closing twice is harmless. */
    @Override
    void close();
}
