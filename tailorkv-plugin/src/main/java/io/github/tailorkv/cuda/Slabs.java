package io.github.tailorkv.cuda;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.Executor;
import org.jspecify.annotations.Nullable;

/**
 * Pieces of one size, cut from slabs that are taken from the driver a few at a time, for each such call costs a good part
 * of a millisecond, and pinning memory several per MiB. A new slab is a part of what there is, from 2 to 64 MiB. Slabs in
 * pinned memory are made ready by another thread while the last one is used up. An empty slab goes back to the driver when
 * another one has room, or nothing is in use any more.
 */
final class Slabs implements AutoCloseable {

    private static final long LEAST = 2L << 20;
    private static final long MOST = 64L << 20;
    /** A new slab is this part of what there is; with a sixteenth, decode steps at 128k tokens took 7 % longer. */
    private static final int PART = 8;

    private final Gpu gpu;
    private final GpuBudget budget;
    private final @Nullable Executor pinning;
    private final long pieceBytes;
    private final TreeMap<Long, Slab> slabs = new TreeMap<>();
    private final List<Slab> withRoom = new ArrayList<>();
    private @Nullable CompletableFuture<Gpu.Pinned> next;
    private long total;
    private int used;

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

    private Slabs(Gpu gpu, GpuBudget budget, @Nullable Executor pinning, long pieceBytes) {
        this.gpu = gpu;
        this.budget = budget;
        this.pinning = pinning;
        this.pieceBytes = (pieceBytes + 255) & -256;
    }

    /** Pieces of device memory. */
    static Slabs onDevice(Gpu gpu, GpuBudget budget, long pieceBytes) {
        return new Slabs(gpu, budget, null, pieceBytes);
    }

    /**
     * Pieces of pinned host memory.
     *
     * @param pinning runs what makes the next slab ready, one after the other
     */
    static Slabs pinned(Gpu gpu, GpuBudget budget, Executor pinning, long pieceBytes) {
        return new Slabs(gpu, budget, pinning, pieceBytes);
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
        used++;
        if (slab.freeCount == 0) {
            withRoom.removeLast();
        }
        if (pinning != null && next == null && withRoom.size() <= 1 && slab.freeCount <= slab.free.length / 2) {
            long bytes = nextBytes();
            next = CompletableFuture.supplyAsync(() -> {
                gpu.bind();
                return gpu.allocatePinned(bytes);
            }, pinning);
        }
        return address;
    }

    /** Bytes of the next slab, whole pages of 2 MiB. */
    private long nextBytes() {
        long wanted = Math.clamp(total / PART, LEAST, MOST) & -LEAST;
        return Math.max(wanted, (pieceBytes + LEAST - 1) & -LEAST);
    }

    private void grow() {
        Gpu.Pinned memory = pinning == null ? null : pinnedMemory();
        long bytes = memory == null ? nextBytes() : memory.segment().byteSize();
        long address = memory == null ? budget.allocate(bytes) : memory.address();
        Slab slab = new Slab(address, bytes, (int) (bytes / pieceBytes), pieceBytes, memory);
        slabs.put(slab.address, slab);
        withRoom.add(slab);
        total += bytes;
    }

    private Gpu.Pinned pinnedMemory() {
        Gpu.Pinned memory = takeNext();
        // Once more here, where somebody waits for it: it may work now, and says why if it does not.
        return memory != null ? memory : gpu.allocatePinned(nextBytes());
    }

    /** What the other thread has made ready; null if that is nothing. */
    private Gpu.@Nullable Pinned takeNext() {
        CompletableFuture<Gpu.Pinned> ready = next;
        next = null;
        try {
            return ready == null ? null : ready.join();
        } catch (CompletionException e) {
            return null;
        }
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
        used--;
        if (used == 0) {
            close();
        } else if (slab.freeCount == slab.free.length && withRoom.size() > 1) {
            withRoom.remove(slab);
            slabs.remove(slab.address);
            total -= slab.bytes;
            gpu.synchronize();
            release(slab);
        }
    }

    private void release(Slab slab) {
        if (slab.memory == null) {
            budget.free(slab.address);
        } else {
            gpu.freePinned(slab.memory);
        }
    }

    /** Gives everything back to the driver. */
    @Override
    public void close() {
        gpu.synchronize();
        slabs.values().forEach(this::release);
        slabs.clear();
        withRoom.clear();
        total = 0;
        used = 0;
        Gpu.Pinned memory = takeNext();
        if (memory != null) {
            gpu.freePinned(memory);
        }
    }
}
