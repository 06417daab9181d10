package io.github.tailorkv.cache;

import io.github.tailorkv.kernels.AttentionShape;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Objects;
import org.jspecify.annotations.Nullable;

/**
 * The newest queries of a layer, from which its dense preference is judged: a ring of {@code float[heads][headSize]}.
 * Queries of a position that is written again are replaced, so a session that is rewound is judged by what it ends with.
 */
final class RecentQueries {

    private final int capacity;
    private final long rowBytes;
    private @Nullable MemorySegment ring;
    private int end;
    private int count;

    RecentQueries(int capacity, AttentionShape shape) {
        this.capacity = capacity;
        rowBytes = (long) shape.heads() * shape.headSize() * Float.BYTES;
    }

    /** Remembers the last of {@code n} queries, the first of which belongs to {@code position}. */
    void record(MemorySegment q, int n, int position) {
        if (ring == null) {
            // Small, one a layer, and released at the first decode step: the collector may own it.
            ring = Arena.ofAuto().allocate(capacity * rowBytes, 64);
        }
        for (int i = Math.max(0, n - capacity); i < n; i++) {
            MemorySegment.copy(q, i * rowBytes, ring, (position + i) % capacity * rowBytes, rowBytes);
        }
        end = position + n;
        count = Math.min(capacity, count + n);
    }

    /** Forgets queries of positions from {@code length} on. */
    void truncate(int length) {
        if (length < end) {
            count = Math.max(0, count - (end - length));
            end = length;
        }
    }

    /** Queries remembered; they belong to the positions {@code [position(0), position(0) + count)}. */
    int count() {
        return ring == null ? 0 : count;
    }

    /** Position of the i-th query remembered. */
    int position(int i) {
        return end - count + i;
    }

    /** Copies the rows of one head group of the i-th query. */
    void copyGroup(int i, int firstHead, int groupSize, int headSize, MemorySegment target, long offset) {
        MemorySegment source = Objects.requireNonNull(ring);
        long headBytes = (long) headSize * Float.BYTES;
        MemorySegment.copy(
                source, position(i) % capacity * rowBytes + firstHead * headBytes, target, offset,
                groupSize * headBytes);
    }

    long bytes() {
        return ring == null ? 0 : ring.byteSize();
    }

    void release() {
        ring = null;
        count = 0;
    }
}
