package io.github.tailorkv.cuda;

import java.lang.foreign.MemorySegment;

/**
 * What this package needs of a GPU: memory, copies and launches on one stream, in order, and copies of rows beside them
 * ({@link #send}). Addresses are unified: pinned host memory has an address that kernels can use. One implementation drives a real device; tests have others that fail
 * where a device would.
 *
 * <p>All methods throw {@link GpuException}. {@link #bind} must have been called on the thread before any other.
 */
interface Gpu extends AutoCloseable {

    /** How many marks there are. */
    int MARKS = 8;

    /** Pinned host memory: its address for kernels, and for the host. */
    record Pinned(long address, MemorySegment segment) {}

    /** A kernel with the dynamic shared memory that it is launched with. */
    interface Kernel {

        /** Thread blocks of this kernel that the whole device can hold at once. */
        int residentBlocks();
    }

    /** Name of the device, for logs. */
    String name();

    int multiprocessors();

    /** Whether there are the kernels for tensor cores that warpgroups feed, which Hopper alone has. */
    boolean warpgroups();

    /** Bytes of device memory that are free now. */
    long freeBytes();

    /** Makes the device the calling thread's. */
    void bind();

    long allocate(long bytes);

    void free(long address);

    Pinned allocatePinned(long bytes);

    void freePinned(Pinned memory);

    /** Copies from pinned memory to the device once all that was asked for before is done. */
    void upload(Pinned source, long offset, long target, long bytes);

    /** Copies from pinned memory to the device at once, beside what was asked for before. Several threads may send. */
    void send(Pinned source, long offset, long target, long bytes);

    /** What is asked for from here on waits for all that was sent. */
    void follow();

    /**
     * Copies from the device to pinned memory once all that was asked for before is done, beside what is asked for from here on.
     *
     * @param mark that {@link #await(int)} waits for it by, below {@link #MARKS}
     */
    void fetch(long source, Pinned target, long offset, long bytes, int mark);

    /** Copies from the device to pinned memory. */
    void download(long source, Pinned target, long offset, long bytes);

    /** Sets device memory to zero. */
    void clear(long address, long bytes);

    Kernel kernel(String name, int threads, int sharedBytes);

    /**
     * Launches a kernel.
     *
     * @param cooperative whether all thread blocks must be resident at once
     * @param parameters each a {@link Long}, an address, an {@link Integer}, or a {@link MemorySegment}, a struct by value
     */
    void launch(Kernel kernel, int x, int y, int z, boolean cooperative, Object... parameters);

    /** Waits until everything is done. */
    void synchronize();

    /** A number that stands for all that was asked for so far. */
    long asked();

    /** Waits until what a number of {@link #asked} stands for is done; does nothing where this is known. */
    void settle(long asked);

    /** Waits for a copy of {@link #fetch}, and so for everything that was asked for before it. */
    void await(int mark);

    /**
     * Waits until a kernel has written a number to pinned memory, which it does when all else that it writes is there; what
     * was asked for before that kernel is then done, too.
     */
    void await(Pinned memory, long offset, int number);

    /** Frees what the device holds for this object. */
    @Override
    void close();
}
