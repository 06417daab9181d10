package io.github.tailorkv.cuda;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.jspecify.annotations.Nullable;

/**
 * Pieces of one size, cut from slabs that are taken from the driver a few at a time, for each such call costs a good part
 * of a millisecond, and pinning memory several per MiB. A new slab is an eighth of what there is, from 2 to 64 MiB; one that
 * is empty goes back to the driver.
 */
final class Slabs implements AutoCloseable {

    private static final long LEAST = 2L << 20;
    private static final long MOST = 64L << 20;

    private final Gpu gpu;
    private final GpuBudget budget;
    private final boolean pinned;
    private final long pieceBytes;
    private final TreeMap<Long, Slab> slabs = new TreeMap<>();
    private final List<Slab> withRoom = new ArrayList<>();
    private long total;

    private static final class Slab {

        final long address;
        final long bytes;
        final Gpu.@Nullable Pinned memory;
        final long[] free;
        int freeCount;

        Slab(long address, long bytes, int pieces, long pieceBytes, Gpu.@Nullable Pinned memory) {
            this.address = address;
            this.bytes = bytes;
            this.memory = memory;
            free = new long[pieces];
            for (int i = pieces - 1; i >= 0; i--) {
                free[freeCount++] = address + i * pieceBytes;
            }
        }
    }

    /** @param pinned whether the pieces lie in pinned host memory; device memory otherwise */
    Slabs(Gpu gpu, GpuBudget budget, boolean pinned, long pieceBytes) {
        this.gpu = gpu;
        this.budget = budget;
        this.pinned = pinned;
        this.pieceBytes = (pieceBytes + 255) & -256;
    }

    long pieceBytes() {
        return pieceBytes;
    }

    /**
     * The address of a piece.
     *
     * @throws GpuException of the kind {@code OUT_OF_MEMORY}
     */
    long take() {
        if (withRoom.isEmpty()) {
            grow();
        }
        Slab slab = withRoom.getLast();
        long address = slab.free[--slab.freeCount];
        if (slab.freeCount == 0) {
            withRoom.removeLast();
        }
        return address;
    }

    private void grow() {
        long wanted = Math.clamp(total / 8, LEAST, MOST);
        int pieces = (int) Math.max(1, wanted / pieceBytes);
        long bytes = pieces * pieceBytes;
        Slab slab;
        if (pinned) {
            Gpu.Pinned memory = gpu.allocatePinned(bytes);
            slab = new Slab(memory.address(), bytes, pieces, pieceBytes, memory);
        } else {
            slab = new Slab(budget.allocate(bytes), bytes, pieces, pieceBytes, null);
        }
        slabs.put(slab.address, slab);
        withRoom.add(slab);
        total += bytes;
    }

    /** Gives a piece back; a kernel that was launched before may still use it. */
    void give(long address) {
        Map.Entry<Long, Slab> entry = slabs.floorEntry(address);
        if (entry == null) {
            throw new IllegalArgumentException("no piece of these slabs");
        }
        Slab slab = entry.getValue();
        if (slab.freeCount == 0) {
            withRoom.add(slab);
        }
        slab.free[slab.freeCount++] = address;
        if (slab.freeCount == slab.free.length) {
            withRoom.remove(slab);
            slabs.remove(slab.address);
            total -= slab.bytes;
            release(slab);
        }
    }

    private void release(Slab slab) {
        gpu.synchronize();
        if (slab.memory == null) {
            budget.free(slab.address);
        } else {
            gpu.freePinned(slab.memory);
        }
    }

    @Override
    public void close() {
        slabs.values().forEach(this::release);
        slabs.clear();
        withRoom.clear();
        total = 0;
    }
}
