package io.github.tailorkv.cuda;

import io.github.tailorkv.cuda.GpuException.Kind;
import java.util.HashMap;
import java.util.Map;

/** Device memory up to a limit, which is the user's or most of what was free at the start; frees what is left at the end. */
final class GpuBudget implements AutoCloseable {

    private final Gpu gpu;
    private final long limit;
    private final Map<Long, Long> held = new HashMap<>();
    private long used;

    GpuBudget(Gpu gpu, long limit) {
        this.gpu = gpu;
        this.limit = limit;
    }

    /**
     * The address of device memory.
     *
     * @throws GpuException of the kind {@code OUT_OF_MEMORY} if the limit or the device has no more
     */
    long allocate(long bytes) {
        if (used + bytes > limit) {
            throw new GpuException(Kind.OUT_OF_MEMORY, used + " of " + limit + " bytes are in use");
        }
        long address = gpu.allocate(bytes);
        held.put(address, bytes);
        used += bytes;
        return address;
    }

    void free(long address) {
        Long bytes = held.remove(address);
        if (bytes != null) {
            used -= bytes;
            gpu.free(address);
        }
    }

    long used() {
        return used;
    }

    @Override
    public void close() {
        for (long address : java.util.List.copyOf(held.keySet())) {
            free(address);
        }
    }
}
