package io.github.tailorkv.cuda;

/** Device memory that is replaced by a larger piece when more is asked for; what it held is lost then. */
final class GrowingDeviceMemory implements AutoCloseable {

    /** Bytes from which on nothing is taken in advance. */
    private static final long MUCH = 32L << 20;

    private final Gpu gpu;
    private final GpuBudget budget;
    private long address;
    private long bytes;

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
            address = budget.allocate(larger);
            bytes = larger;
        }
        return address;
    }

    @Override
    public void close() {
        if (address != 0) {
            budget.free(address);
            address = 0;
            bytes = 0;
        }
    }
}
