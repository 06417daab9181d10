package io.github.tailorkv.cuda;

import java.lang.foreign.ValueLayout;
import java.util.Arrays;

/**
 * Where the parts of each block of one layer lie: five tables of addresses by block, here and on the device. An address in
 * pinned host memory is marked here by its sign, for only this side needs to tell.
 */
final class BlockTables implements AutoCloseable {

    static final int TILES = 0;
    static final int INDEX = 1;
    static final int ROWS = 2;
    static final int PACKED = 3;
    /** Second home of the rows, in host memory, while the first is on the device. */
    static final int HOST_ROWS = 4;

    private static final int TABLES = 5;
    private static final long PINNED = Long.MIN_VALUE;

    private final Gpu gpu;
    private final GpuBudget budget;
    private final long[][] entries = new long[TABLES][0];
    private final long[] onDevice = new long[TABLES];
    private Gpu.Pinned staging;
    private long device;
    private int capacity = 64;
    private boolean stale;
    private boolean closed;

    BlockTables(Gpu gpu, GpuBudget budget) {
        this.gpu = gpu;
        this.budget = budget;
        staging = gpu.allocatePinned(bytes());
        try {
            device = budget.allocate(bytes());
        } catch (RuntimeException e) {
            gpu.freePinned(staging);
            throw e;
        }
        place();
    }

    private long bytes() {
        return (long) TABLES * capacity * Long.BYTES;
    }

    private void place() {
        for (int table = 0; table < TABLES; table++) {
            entries[table] = Arrays.copyOf(entries[table], capacity);
            onDevice[table] = device + (long) table * capacity * Long.BYTES;
        }
        stale = true;
    }

    /** Makes room for {@code blocks} blocks. */
    void reserve(int blocks) {
        if (blocks <= capacity) {
            return;
        }
        int larger = Math.max(blocks, 2 * capacity);
        long largerBytes = (long) TABLES * larger * Long.BYTES;
        gpu.synchronize();
        Gpu.Pinned newStaging = gpu.allocatePinned(largerBytes);
        long newDevice;
        try {
            newDevice = budget.allocate(largerBytes);
        } catch (GpuException e) {
            if (e.kind() != GpuException.Kind.OUT_OF_MEMORY) {
                throw e;
            }
            // The kernels read the tables where they are written.
            newDevice = newStaging.address();
        }
        free();
        staging = newStaging;
        device = newDevice;
        capacity = larger;
        place();
    }

    /** The address in a table, 0 for none. */
    long get(int table, int block) {
        return entries[table][block] & ~PINNED;
    }

    boolean pinned(int table, int block) {
        return entries[table][block] < 0;
    }

    void set(int table, int block, long address, boolean pinned) {
        entries[table][block] = pinned ? address | PINNED : address;
        stale = true;
    }

    void clear(int table, int block) {
        set(table, block, 0, false);
    }

    /** Addresses of the tables on the device, brought up to date by what is launched next. */
    long[] upload() {
        if (stale) {
            // The copy before this one may still read the staging memory.
            gpu.synchronize();
            for (int table = 0; table < TABLES; table++) {
                for (int block = 0; block < capacity; block++) {
                    staging.segment()
                            .setAtIndex(
                                    ValueLayout.JAVA_LONG,
                                    (long) table * capacity + block,
                                    entries[table][block] & ~PINNED);
                }
            }
            if (device != staging.address()) {
                gpu.upload(staging, 0, device, bytes());
            }
            stale = false;
        }
        return onDevice;
    }

    long bytesOnDevice() {
        return bytes();
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
