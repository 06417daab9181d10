package io.github.tailorkv.cuda;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;

/**
 * Where the parts of each block of one layer lie: five addresses a block, here and on the device. An address in pinned host
 * memory is marked here by its sign, for only this side needs to tell.
 */
final class BlockTable implements AutoCloseable {

    static final int TILE = 0;
    static final int INDEX = 1;
    static final int ROWS = 2;
    static final int PACKED = 3;
    /** Second home of the rows, in host memory, while the first is on the device. */
    static final int HOST_ROWS = 4;

    private static final int PARTS = 5;
    private static final long PINNED = Long.MIN_VALUE;

    private final Gpu gpu;
    private final GpuBudget budget;
    private int capacity = 64;
    private long[] entries = new long[PARTS * capacity];
    private Gpu.Pinned staging;
    private long device;
    /** Blocks that the device knows differently: [staleFrom, staleTo). */
    private int staleFrom;
    private int staleTo;
    /** The newest copy of the staging memory, as {@link Gpu#asked} counts. */
    private long copied;
    private boolean closed;

    BlockTable(Gpu gpu, GpuBudget budget) {
        this.gpu = gpu;
        this.budget = budget;
        staging = gpu.allocatePinned(bytes());
        try {
            device = budget.allocate(bytes());
        } catch (RuntimeException e) {
            gpu.freePinned(staging);
            throw e;
        }
        staleTo = capacity;
    }

    private long bytes() {
        return (long) PARTS * capacity * Long.BYTES;
    }

    /** Makes room for {@code blocks} blocks. */
    void reserve(int blocks) {
        if (blocks <= capacity) {
            return;
        }
        int larger = Math.max(blocks, 2 * capacity);
        long largerBytes = (long) PARTS * larger * Long.BYTES;
        gpu.synchronize();
        Gpu.Pinned newStaging = gpu.allocatePinned(largerBytes);
        long newDevice;
        try {
            newDevice = budget.allocate(largerBytes);
        } catch (GpuException e) {
            if (e.kind() != GpuException.Kind.OUT_OF_MEMORY) {
                throw e;
            }
            // The kernels read the table where it is written.
            newDevice = newStaging.address();
        }
        free();
        staging = newStaging;
        device = newDevice;
        capacity = larger;
        entries = Arrays.copyOf(entries, PARTS * capacity);
        staleFrom = 0;
        staleTo = capacity;
    }

    /** The address of a part of a block, 0 for none. */
    long get(int part, int block) {
        return entries[block * PARTS + part] & ~PINNED;
    }

    boolean pinned(int part, int block) {
        return entries[block * PARTS + part] < 0;
    }

    void set(int part, int block, long address, boolean pinned) {
        entries[block * PARTS + part] = pinned ? address | PINNED : address;
        staleFrom = Math.min(staleFrom, block);
        staleTo = Math.max(staleTo, block + 1);
    }

    void clear(int part, int block) {
        set(part, block, 0, false);
    }

    /** Address of the table on the device, where what changed is brought up to date by what is launched next. */
    long upload() {
        if (staleFrom < staleTo) {
            // The copy before this one may still read the staging memory, or kernels may.
            if (device == staging.address()) {
                gpu.synchronize();
            } else {
                gpu.settle(copied);
            }
            MemorySegment copy = staging.segment();
            for (int i = staleFrom * PARTS; i < staleTo * PARTS; i++) {
                copy.setAtIndex(ValueLayout.JAVA_LONG, i, entries[i] & ~PINNED);
            }
            if (device != staging.address()) {
                long from = (long) staleFrom * PARTS * Long.BYTES;
                gpu.upload(staging, from, device + from, (long) (staleTo - staleFrom) * PARTS * Long.BYTES);
                copied = gpu.asked();
            }
            staleFrom = Integer.MAX_VALUE;
            staleTo = 0;
        }
        return device;
    }

    long bytesOnDevice() {
        return device == staging.address() ? 0 : bytes();
    }

    private void free() {
        if (device != staging.address()) {
            budget.free(device);
        }
        gpu.freePinned(staging);
    }

    @Override
    public void close() {
        if (!closed) {
            closed = true;
            free();
        }
    }
}
