package io.github.tailorkv.cuda;

import io.github.tailorkv.cuda.GpuException.Kind;
import io.github.tailorkv.memory.SystemMemory;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.VarHandle;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.channels.OverlappingFileLockException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.LockSupport;
import jcuda.Pointer;
import jcuda.driver.CUcontext;
import jcuda.driver.CUdevice;
import jcuda.driver.CUdevice_attribute;
import jcuda.driver.CUdeviceptr;
import jcuda.driver.CUevent;
import jcuda.driver.CUevent_flags;
import jcuda.driver.CUfunction;
import jcuda.driver.CUfunction_attribute;
import jcuda.driver.CUmodule;
import jcuda.driver.CUresult;
import jcuda.driver.CUstream;
import jcuda.driver.CUstream_flags;
import jcuda.driver.JCudaDriver;
import org.jspecify.annotations.Nullable;

/** A CUDA device through JCuda's binding of the driver API. The only class that touches JCuda. */
final class JCudaGpu implements Gpu {

    /** Errors after which the context can do nothing any more. */
    private static final Set<Integer> OF_A_CALL = Set.of(
            CUresult.CUDA_ERROR_INVALID_VALUE,
            CUresult.CUDA_ERROR_INVALID_HANDLE,
            CUresult.CUDA_ERROR_NOT_FOUND,
            CUresult.CUDA_ERROR_NOT_READY,
            CUresult.CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES,
            CUresult.CUDA_ERROR_NO_BINARY_FOR_GPU,
            CUresult.CUDA_ERROR_INVALID_PTX,
            CUresult.CUDA_ERROR_NOT_SUPPORTED);

    private static final VarHandle NUMBER = ValueLayout.JAVA_INT.varHandle();
    /** Bytes from which on memory to pin is taken in large pages. */
    private static final long LARGE = 2L << 20;
    private static final long PAGE = 4 << 10;
    private static final int OLDEST = 8;
    private static final int HOPPER = 9;
    private static final int LOOKS = 64;
    private static final long PATIENCE_NANOS = 1_000_000;
    private static final long LOCKED_NANOS = 10_000_000;

    private final CUdevice device = new CUdevice();
    private final CUcontext context = new CUcontext();
    private final CUmodule module = new CUmodule();
    private final CUstream stream = new CUstream();
    private final CUstream rows = new CUstream();
    private final CUevent sent = new CUevent();
    private final CUevent computed = new CUevent();
    private final CUevent[] marks = new CUevent[MARKS];
    /** What each mark stands for, as {@link #asked} counts. */
    private final long[] marked = new long[MARKS];
    private long asked;
    private final AtomicLong done = new AtomicLong();
    private final Map<Long, Host> pinned = new HashMap<>();
    private final String name;
    private final int multiprocessors;
    /** Its major number. */
    private final int computeCapability;
    private boolean closed;

    /**
     * Opens a device and loads the kernels.
     *
     * @param image the kernels for all architectures
     * @throws GpuException of the kind {@code UNUSABLE} with the reason
     */
    static JCudaGpu open(int ordinal, byte[] image) {
        String os = System.getProperty("os.name", "").toLowerCase(Locale.ROOT);
        String architecture = System.getProperty("os.arch", "").toLowerCase(Locale.ROOT);
        if (!os.startsWith("linux") || !Set.of("amd64", "x86_64").contains(architecture)) {
            throw new GpuException(
                    Kind.UNUSABLE, "there are native libraries for Linux on x86-64 only, not for " + os + " on "
                            + architecture);
        }
        try (Arena arena = Arena.ofConfined()) {
            SymbolLookup.libraryLookup("libcuda.so.1", arena);
        } catch (IllegalArgumentException e) {
            throw new GpuException(Kind.UNUSABLE, "no NVIDIA driver is installed (libcuda.so.1 is not there)");
        }
        try {
            loadNatives();
            return new JCudaGpu(ordinal, image);
        } catch (LinkageError e) {
            throw new GpuException(Kind.UNUSABLE, "JCuda's native library does not load: " + e.getMessage());
        }
    }

    /**
     * JCuda unpacks its native library into the temporary directory unless there is one, and loads what is there: half a
     * library, and the end of the JVM (SIGBUS), where another process is just unpacking it. So processes take turns.
     */
    private static void loadNatives() {
        Path file = Path.of(System.getProperty("java.io.tmpdir"), "tailorkv-jcuda.lock");
        inTurn(file, () -> JCudaDriver.setExceptionsEnabled(false));
    }

    /** Loads while no other process, and no copy of this class in another class loader, does so with the same file. */
    static synchronized void inTurn(Path file, Runnable load) {
        try (FileChannel channel = FileChannel.open(file, StandardOpenOption.CREATE, StandardOpenOption.WRITE)) {
            lock(channel);
            load.run();
        } catch (IOException e) {
            // Another user's file, or nowhere to write: as JCuda does it.
            load.run();
        }
    }

    /** Until the channel is closed. Java waits for other processes only: the lock belongs to the whole JVM. */
    private static void lock(FileChannel channel) throws IOException {
        while (true) {
            try {
                channel.lock();
                return;
            } catch (OverlappingFileLockException e) {
                LockSupport.parkNanos(LOCKED_NANOS);
            }
        }
    }

    private JCudaGpu(int ordinal, byte[] image) {
        unusable(JCudaDriver.cuInit(0), "the driver does not start");
        int[] number = new int[1];
        unusable(JCudaDriver.cuDeviceGetCount(number), "devices cannot be counted");
        if (number[0] <= ordinal) {
            throw new GpuException(Kind.UNUSABLE, "the driver knows no GPU");
        }
        unusable(JCudaDriver.cuDeviceGet(device, ordinal), "the GPU cannot be opened");
        byte[] text = new byte[128];
        unusable(JCudaDriver.cuDeviceGetName(text, text.length, device), "the GPU has no name");
        int end = 0;
        while (end < text.length && text[end] != 0) {
            end++;
        }
        name = new String(text, 0, end, StandardCharsets.UTF_8);
        multiprocessors = attribute(CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
        computeCapability = attribute(CUdevice_attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
        if (computeCapability < OLDEST) {
            throw new GpuException(Kind.UNUSABLE, name + " is older than compute capability 8.0");
        }
        if (attribute(CUdevice_attribute.CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING) == 0
                || attribute(CUdevice_attribute.CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH) == 0) {
            throw new GpuException(Kind.UNUSABLE, name + " lacks unified addressing or cooperative launches");
        }
        unusable(JCudaDriver.cuDevicePrimaryCtxRetain(context, device), "no context can be made on " + name);
        try {
            unusable(JCudaDriver.cuCtxSetCurrent(context), "the context of " + name + " cannot be used");
            int loaded = JCudaDriver.cuModuleLoadData(module, image);
            if (loaded != CUresult.CUDA_SUCCESS) {
                int[] version = new int[1];
                JCudaDriver.cuDriverGetVersion(version);
                throw new GpuException(
                        Kind.UNUSABLE, "the kernels do not load on " + name + " (" + nameOf(loaded)
                                + "); the driver is for CUDA " + version[0] / 1000 + "." + version[0] % 1000 / 10
                                + ", the kernels were built for 13.0");
            }
            unusable(
                    JCudaDriver.cuStreamCreate(stream, CUstream_flags.CU_STREAM_NON_BLOCKING),
                    "no stream can be made on " + name);
            unusable(
                    JCudaDriver.cuStreamCreate(rows, CUstream_flags.CU_STREAM_NON_BLOCKING),
                    "no second stream can be made on " + name);
            create(sent);
            create(computed);
            for (int i = 0; i < MARKS; i++) {
                marks[i] = new CUevent();
                create(marks[i]);
            }
        } catch (GpuException e) {
            JCudaDriver.cuDevicePrimaryCtxRelease(device);
            throw e;
        }
    }

    private void create(CUevent event) {
        unusable(
                JCudaDriver.cuEventCreate(event, CUevent_flags.CU_EVENT_DISABLE_TIMING),
                "no event can be made on " + name);
    }

    private int attribute(int attribute) {
        int[] value = new int[1];
        unusable(JCudaDriver.cuDeviceGetAttribute(value, attribute, device), "the GPU tells nothing of itself");
        return value[0];
    }

    private static String nameOf(int result) {
        return CUresult.stringFor(result);
    }

    private static void unusable(int result, String what) {
        if (result != CUresult.CUDA_SUCCESS) {
            throw new GpuException(Kind.UNUSABLE, what + " (" + nameOf(result) + ")");
        }
    }

    private static void check(int result, String what) {
        if (result == CUresult.CUDA_SUCCESS) {
            return;
        }
        if (result == CUresult.CUDA_ERROR_OUT_OF_MEMORY) {
            throw new GpuException(Kind.OUT_OF_MEMORY, what + ": out of memory");
        }
        throw new GpuException(
                OF_A_CALL.contains(result) ? Kind.UNUSABLE : Kind.LOST, what + " failed (" + nameOf(result) + ")");
    }

    @Override
    public String name() {
        return name;
    }

    @Override
    public int multiprocessors() {
        return multiprocessors;
    }

    @Override
    public boolean warpgroups() {
        return computeCapability == HOPPER;
    }

    @Override
    public long freeBytes() {
        long[] free = new long[1];
        check(JCudaDriver.cuMemGetInfo(free, new long[1]), "cuMemGetInfo");
        return free[0];
    }

    @Override
    public void bind() {
        check(JCudaDriver.cuCtxSetCurrent(context), "cuCtxSetCurrent");
    }

    /** Device memory whose address can be read. */
    private static final class DevicePointer extends CUdeviceptr {

        long address() {
            return getNativePointer() + getByteOffset();
        }
    }

    /** Host memory whose address can be read. */
    private static final class HostPointer extends Pointer {

        HostPointer() {}

        HostPointer(long address) {
            super(address);
        }

        long address() {
            return getNativePointer() + getByteOffset();
        }
    }

    /**
     * Pinned memory.
     *
     * @param arena what it was taken in before it was pinned; null where the driver made it
     */
    private record Host(Pointer pointer, @Nullable Arena arena) {

        int free() {
            if (arena == null) {
                return JCudaDriver.cuMemFreeHost(pointer);
            }
            int result = JCudaDriver.cuMemHostUnregister(pointer);
            arena.close();
            return result;
        }
    }

    private static CUdeviceptr at(long address) {
        return new CUdeviceptr().withByteOffset(address);
    }

    @Override
    public long allocate(long bytes) {
        DevicePointer pointer = new DevicePointer();
        check(JCudaDriver.cuMemAlloc(pointer, bytes), "allocating " + bytes + " bytes on " + name);
        return pointer.address();
    }

    @Override
    public void free(long address) {
        check(JCudaDriver.cuMemFree(at(address)), "cuMemFree");
    }

    /**
     * The driver takes its time for every page: 0.6 ms a MiB on a machine where large pages of the system's cost 0.25, zeroing
     * included.
     */
    @Override
    public Pinned allocatePinned(long bytes) {
        Pinned large = bytes < LARGE ? null : pinLarge(bytes);
        return large == null ? pinnedByDriver(bytes) : large;
    }

    /** The arena is closed when the memory is freed. */
    @SuppressWarnings("MustBeClosedChecker")
    private @Nullable Pinned pinLarge(long bytes) {
        Arena arena = Arena.ofShared();
        MemorySegment memory = SystemMemory.allocate(bytes, arena);
        if (memory == null) {
            arena.close();
            return null;
        }
        for (long at = 0; at < bytes; at += PAGE) {
            memory.set(ValueLayout.JAVA_BYTE, at, (byte) 0);
        }
        Pointer host = new HostPointer(memory.address());
        int flags = JCudaDriver.CU_MEMHOSTREGISTER_DEVICEMAP | JCudaDriver.CU_MEMHOSTREGISTER_PORTABLE;
        if (JCudaDriver.cuMemHostRegister(host, bytes, flags) != CUresult.CUDA_SUCCESS) {
            arena.close();
            return null;
        }
        return keep(new Host(host, arena), memory);
    }

    private Pinned pinnedByDriver(long bytes) {
        HostPointer host = new HostPointer();
        int flags = JCudaDriver.CU_MEMHOSTALLOC_DEVICEMAP | JCudaDriver.CU_MEMHOSTALLOC_PORTABLE;
        check(JCudaDriver.cuMemHostAlloc(host, bytes, flags), "allocating " + bytes + " bytes of pinned memory");
        return keep(new Host(host, null), MemorySegment.ofAddress(host.address()).reinterpret(bytes));
    }

    private Pinned keep(Host host, MemorySegment memory) {
        DevicePointer mapped = new DevicePointer();
        check(JCudaDriver.cuMemHostGetDevicePointer(mapped, host.pointer(), 0), "mapping pinned memory");
        synchronized (pinned) {
            pinned.put(mapped.address(), host);
        }
        return new Pinned(mapped.address(), memory);
    }

    @Override
    public void freePinned(Pinned memory) {
        Host host;
        synchronized (pinned) {
            host = pinned.remove(memory.address());
        }
        if (host != null) {
            check(host.free(), "freeing pinned memory");
        }
    }

    private Pointer hostPointer(Pinned memory, long offset) {
        synchronized (pinned) {
            Host host = pinned.get(memory.address());
            if (host == null) {
                throw new IllegalStateException("pinned memory was freed");
            }
            return host.pointer().withByteOffset(offset);
        }
    }

    @Override
    public void upload(Pinned source, long offset, long target, long bytes) {
        asked++;
        check(JCudaDriver.cuMemcpyHtoDAsync(at(target), hostPointer(source, offset), bytes, stream),
                "copying to the GPU");
    }

    @Override
    public void send(Pinned source, long offset, long target, long bytes) {
        check(
                JCudaDriver.cuMemcpyHtoDAsync(at(target), hostPointer(source, offset), bytes, rows),
                "copying rows to the GPU");
    }

    @Override
    public void follow() {
        check(JCudaDriver.cuEventRecord(sent, rows), "cuEventRecord");
        check(JCudaDriver.cuStreamWaitEvent(stream, sent, 0), "cuStreamWaitEvent");
    }

    @Override
    public void fetch(long source, Pinned target, long offset, long bytes, int mark) {
        marked[mark] = asked;
        check(JCudaDriver.cuEventRecord(computed, stream), "cuEventRecord");
        check(JCudaDriver.cuStreamWaitEvent(rows, computed, 0), "cuStreamWaitEvent");
        check(
                JCudaDriver.cuMemcpyDtoHAsync(hostPointer(target, offset), at(source), bytes, rows),
                "copying rows from the GPU");
        check(JCudaDriver.cuEventRecord(marks[mark], rows), "cuEventRecord");
    }

    @Override
    public void download(long source, Pinned target, long offset, long bytes) {
        asked++;
        check(
                JCudaDriver.cuMemcpyDtoHAsync(hostPointer(target, offset), at(source), bytes, stream),
                "copying from the GPU");
    }

    @Override
    public void clear(long address, long bytes) {
        asked++;
        check(JCudaDriver.cuMemsetD8Async(at(address), (byte) 0, bytes, stream), "cuMemsetD8Async");
    }

    /** A kernel and the memory that its parameters are written to; the driver copies them when it launches. */
    private static final class Function implements Kernel {

        private static final int MOST_BYTES = 512;

        final String name;
        final CUfunction function;
        final int threads;
        final int sharedBytes;
        final int residentBlocks;
        final MemorySegment values = MemorySegment.ofBuffer(
                ByteBuffer.allocateDirect(MOST_BYTES).order(ByteOrder.nativeOrder()));
        Pointer pointers = new Pointer();
        int count = -1;

        Function(String name, CUfunction function, int threads, int sharedBytes, int residentBlocks) {
            this.name = name;
            this.function = function;
            this.threads = threads;
            this.sharedBytes = sharedBytes;
            this.residentBlocks = residentBlocks;
        }

        @Override
        public int residentBlocks() {
            return residentBlocks;
        }

        /** Writes the parameters, always the same kinds of them for a kernel, and says where each lies. */
        Pointer parameters(Object... all) {
            long[] offsets = new long[all.length];
            long at = 0;
            for (int i = 0; i < all.length; i++) {
                offsets[i] = at;
                switch (all[i]) {
                    case Long address -> values.set(ValueLayout.JAVA_LONG, at, address);
                    case Integer number -> values.set(ValueLayout.JAVA_INT, at, number);
                    case MemorySegment struct -> MemorySegment.copy(struct, 0, values, at, struct.byteSize());
                    default -> throw new IllegalArgumentException("no parameter of a kernel: " + all[i]);
                }
                at += all[i] instanceof MemorySegment struct ? (struct.byteSize() + 7) & -8 : Long.BYTES;
            }
            if (count != all.length) {
                Pointer base = Pointer.toBuffer(values.asByteBuffer());
                Pointer[] each = new Pointer[all.length];
                Arrays.setAll(each, i -> base.withByteOffset(offsets[i]));
                pointers = Pointer.to(each);
                count = all.length;
            }
            return pointers;
        }
    }

    @Override
    public Kernel kernel(String kernelName, int threads, int sharedBytes) {
        CUfunction function = new CUfunction();
        check(JCudaDriver.cuModuleGetFunction(function, module, kernelName), "finding the kernel " + kernelName);
        check(
                JCudaDriver.cuFuncSetAttribute(
                        function, CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, sharedBytes),
                "giving " + sharedBytes + " bytes of shared memory to " + kernelName);
        int[] blocks = new int[1];
        check(
                JCudaDriver.cuOccupancyMaxActiveBlocksPerMultiprocessor(blocks, function, threads, sharedBytes),
                "cuOccupancyMaxActiveBlocksPerMultiprocessor");
        return new Function(kernelName, function, threads, sharedBytes, blocks[0] * multiprocessors);
    }

    @Override
    public void launch(Kernel kernel, int x, int y, int z, boolean cooperative, Object... parameters) {
        asked++;
        Function function = (Function) kernel;
        Pointer all = function.parameters(parameters);
        CUfunction code = function.function;
        int threads = function.threads;
        int shared = function.sharedBytes;
        int result = cooperative
                ? JCudaDriver.cuLaunchCooperativeKernel(code, x, y, z, threads, 1, 1, shared, stream, all)
                : JCudaDriver.cuLaunchKernel(code, x, y, z, threads, 1, 1, shared, stream, all, null);
        check(result, "launching " + function.name);
    }

    @Override
    public void synchronize() {
        check(JCudaDriver.cuStreamSynchronize(rows), "waiting for rows on their way to the GPU");
        check(JCudaDriver.cuStreamSynchronize(stream), "waiting for the GPU");
        know(asked);
    }

    private void know(long number) {
        done.accumulateAndGet(number, Math::max);
    }

    @Override
    public long asked() {
        return asked;
    }

    @Override
    public void settle(long number) {
        if (done.get() < number) {
            synchronize();
        }
    }

    @Override
    public void await(int mark) {
        check(JCudaDriver.cuEventSynchronize(marks[mark]), "waiting for the GPU");
        know(marked[mark]);
    }

    /**
     * Looks at the memory itself: the driver learns of a kernel's end some microseconds later. If it takes long, the driver is
     * asked after all, who alone knows of a kernel that failed.
     */
    @Override
    public void await(Pinned memory, long offset, int number) {
        long begin = System.nanoTime();
        for (int looks = 1; (int) NUMBER.getAcquire(memory.segment(), offset) != number; looks++) {
            Thread.onSpinWait();
            if (looks % LOOKS == 0 && System.nanoTime() - begin > PATIENCE_NANOS) {
                synchronize();
                if ((int) NUMBER.getAcquire(memory.segment(), offset) != number) {
                    throw new GpuException(Kind.LOST, "a kernel came to its end and left no result");
                }
                return;
            }
        }
        know(asked);
    }

    @Override
    public void close() {
        if (closed) {
            return;
        }
        closed = true;
        // What a lost device answers here is of no interest.
        JCudaDriver.cuCtxSetCurrent(context);
        synchronized (pinned) {
            pinned.values().forEach(Host::free);
            pinned.clear();
        }
        for (CUevent mark : marks) {
            JCudaDriver.cuEventDestroy(mark);
        }
        JCudaDriver.cuEventDestroy(sent);
        JCudaDriver.cuEventDestroy(computed);
        JCudaDriver.cuStreamDestroy(rows);
        JCudaDriver.cuStreamDestroy(stream);
        JCudaDriver.cuModuleUnload(module);
        JCudaDriver.cuDevicePrimaryCtxRelease(device);
    }
}
