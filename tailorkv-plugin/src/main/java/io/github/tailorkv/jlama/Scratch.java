package io.github.tailorkv.jlama;

import com.github.tjake.jlama.tensor.AbstractTensor;
import com.github.tjake.jlama.tensor.FloatBufferTensor;
import com.github.tjake.jlama.tensor.TensorShape;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteOrder;
import java.util.EnumMap;
import java.util.Map;
import java.util.concurrent.ConcurrentLinkedDeque;
import java.util.function.LongFunction;
import org.jspecify.annotations.Nullable;

/**
 * F32 rows for one forward call: in memory that the cache lends, where it has such; otherwise used only where Jlama's tensors
 * cannot be handed on as they are, which are BF16 activations, and shards, whose rows are a part of wider ones. Grown as
 * needed and reused; a model has as many as it ever had calls at once.
 */
@SuppressWarnings("rawtypes")
final class Scratch {
    /** The scratch memory of the sessions of one model; it lives as long as their cache. */
    static final class Pool {
        private final ConcurrentLinkedDeque<Scratch> free = new ConcurrentLinkedDeque<>();
        private final LongFunction<@Nullable MemorySegment> lender;
        private volatile boolean lends = true;

        /** @param lender gives so many bytes of the cache's own memory, null if there are none */
        Pool(LongFunction<@Nullable MemorySegment> lender) {
            this.lender = lender;
        }

        Scratch take() {
            Scratch scratch = free.pollFirst();
            return scratch != null ? scratch : new Scratch(this);
        }

        void giveBack(Scratch scratch) {
            free.addFirst(scratch);
        }

        private @Nullable MemorySegment lend(long bytes) {
            MemorySegment segment = lends ? lender.apply(bytes) : null;
            lends = segment != null;
            return segment;
        }
    }

    /** What the rows are for. */
    enum Use {
        QUERY, KEY, VALUE, OUTPUT
    }

    private final Pool pool;
    private final Map<Use, MemorySegment> lent = new EnumMap<>(Use.class);
    private final Map<Use, MemorySegment> own = new EnumMap<>(Use.class);

    private Scratch(Pool pool) {
        this.pool = pool;
    }

    /** Room for {@code floats} floats; what they held before is undefined. */
    MemorySegment floats(Use use, long floats) {
        long bytes = floats * Float.BYTES;
        MemorySegment theirs = lent(use, bytes);
        if (theirs != null) {
            return theirs;
        }
        MemorySegment segment = own.getOrDefault(use, MemorySegment.NULL);
        if (segment.byteSize() < bytes) {
            segment = Arena.ofAuto().allocate(bytes, 64);
            own.put(use, segment);
        }
        return segment.asSlice(0, bytes);
    }

    /** An F32 tensor in memory that the cache lends, whose elements are undefined; null if it lends none. */
    @Nullable
    AbstractTensor tensor(Use use, int rows, int width) {
        MemorySegment segment = lent(use, (long) rows * width * Float.BYTES);
        return segment == null
                ? null
                : new FloatBufferTensor(
                        segment.asByteBuffer().order(ByteOrder.nativeOrder()).asFloatBuffer(),
                        TensorShape.of(rows, width), false);
    }

    /** What was lent once is not given back, so that it is taken in powers of two. */
    private @Nullable MemorySegment lent(Use use, long bytes) {
        MemorySegment segment = lent.getOrDefault(use, MemorySegment.NULL);
        if (segment.byteSize() < bytes) {
            segment = pool.lend(Math.max(1, Long.highestOneBit(2 * bytes - 1)));
            if (segment == null) {
                return null;
            }
            lent.put(use, segment);
        }
        return segment.asSlice(0, bytes);
    }
}
