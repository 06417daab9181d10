package io.github.tailorkv.jlama;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.EnumMap;
import java.util.Map;
import java.util.concurrent.ConcurrentLinkedDeque;

/**
 * F32 rows for one forward call, used where Jlama's tensors cannot be handed on as they are: BF16 activations, and shards,
 * whose rows are a part of wider ones. Grown as needed and reused; a model has as many as it ever had calls at once.
 */
final class Scratch {
    /** The scratch memory of one model. */
    static final class Pool {
        private final ConcurrentLinkedDeque<Scratch> free = new ConcurrentLinkedDeque<>();

        Scratch take() {
            Scratch scratch = free.pollFirst();
            return scratch != null ? scratch : new Scratch();
        }

        void giveBack(Scratch scratch) {
            free.addFirst(scratch);
        }
    }

    /** What the rows are for. */
    enum Use {
        QUERY, KEY, VALUE, OUTPUT
    }

    private final Map<Use, MemorySegment> segments = new EnumMap<>(Use.class);

    private Scratch() {}

    /** Room for {@code floats} floats; what they held before is undefined. */
    MemorySegment floats(Use use, long floats) {
        long bytes = floats * Float.BYTES;
        MemorySegment segment = segments.getOrDefault(use, MemorySegment.NULL);
        if (segment.byteSize() < bytes) {
            segment = Arena.ofAuto().allocate(bytes, 64);
            segments.put(use, segment);
        }
        return segment.asSlice(0, bytes);
    }
}
