package io.github.tailorkv.cuda;

import org.jspecify.annotations.Nullable;

/**
 * Scratch memory that is replaced by a larger piece when more is asked for; what it held is lost then. Once the device is
 * full the piece lies in pinned host memory.
 */
final class GrowingDeviceMemory implements AutoCloseable {

    /** Bytes from which on nothing is taken in advance. */
    private static final long MUCH = 32L << 20;

    private final Gpu gpu;
    private final GpuBudget budget;
    private long address;
    private long bytes;
    private Gpu.@Nullable Pinned pinned;

    GrowingDeviceMemory(Gpu gpu, GpuBudget budget) {
        this.gpu = gpu;
        this.budget = budget;
    }

    long address() {
        return address;
    }

    /** The address of at least so many bytes. */
    long atLeast(long wanted) {
        if (wanted > bytes) {
            long larger = wanted < MUCH ? wanted + wanted / 4 + 4096 : wanted;
            gpu.synchronize();
            close();
            try {
                address = budget.allocate(larger);
            } catch (GpuException e) {
                if (e.kind() != GpuException.Kind.OUT_OF_MEMORY) {
                    throw e;
                }
                Gpu.Pinned memory = gpu.allocatePinned(larger);
                pinned = memory;
                address = memory.address();
            }
            bytes = larger;
        }
        return address;
    }

    @Override
    public void close() {
        if (pinned != null) {
            gpu.freePinned(pinned);
            pinned = null;
        } else if (address != 0) {
            budget.free(address);
        }
        address = 0;
        bytes = 0;
    }
}
