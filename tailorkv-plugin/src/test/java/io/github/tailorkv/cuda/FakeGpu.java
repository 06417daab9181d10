package io.github.tailorkv.cuda;

import io.github.tailorkv.cuda.GpuException.Kind;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/** A device that computes nothing, keeps account of its memory, and fails when it is told to. */
final class FakeGpu implements Gpu {

    final Map<Long, Long> device = new HashMap<>();
    final Map<Long, Pinned> host = new HashMap<>();
    final List<String> launched = new ArrayList<>();
    /** The struct that the last kernel with one was launched with. */
    ByteBuffer struct = ByteBuffer.allocate(0);
    /** What was copied to the device, by several threads. */
    final List<Upload> uploads = Collections.synchronizedList(new ArrayList<>());
    long deviceBytes = 1L << 40;
    @Nullable
    GpuException failure;
    /** Called at each copy of rows to the device. */
    Runnable onUpload = () -> {};
    boolean closed;
    private long next = 1L << 32;
    private final Arena arena = Arena.ofShared();

    record Upload(long target, ByteBuffer bytes) {}

    private record Named(String name) implements Kernel {

        @Override
        public int residentBlocks() {
            return 264;
        }
    }

    private void check() {
        if (closed) {
            throw new IllegalStateException("used after it was closed");
        }
        if (failure != null) {
            throw failure;
        }
    }

    long used() {
        return device.values().stream().mapToLong(Long::longValue).sum();
    }

    @Override
    public String name() {
        return "a GPU that computes nothing";
    }

    @Override
    public int multiprocessors() {
        return 132;
    }

    @Override
    public long freeBytes() {
        check();
        return deviceBytes - used();
    }

    @Override
    public void bind() {
        check();
    }

    @Override
    public long allocate(long bytes) {
        check();
        if (used() + bytes > deviceBytes) {
            throw new GpuException(Kind.OUT_OF_MEMORY, "no room for " + bytes + " bytes");
        }
        long address = next;
        next += (bytes + 511) & -256;
        device.put(address, bytes);
        return address;
    }

    @Override
    public void free(long address) {
        check();
        if (device.remove(address) == null) {
            throw new IllegalStateException("freed twice");
        }
    }

    @Override
    public Pinned allocatePinned(long bytes) {
        check();
        Pinned memory = new Pinned(next, arena.allocate(bytes, 64));
        next += (bytes + 511) & -256;
        host.put(memory.address(), memory);
        return memory;
    }

    @Override
    public void freePinned(Pinned memory) {
        check();
        if (host.remove(memory.address()) == null) {
            throw new IllegalStateException("freed twice");
        }
    }

    @Override
    public void upload(Pinned source, long offset, long target, long bytes) {
        check();
        if (offset >= GpuArguments.BYTES) {
            onUpload.run();
        }
        uploads.add(new Upload(target,
                ByteBuffer.wrap(source.segment().asSlice(offset, bytes).toArray(ValueLayout.JAVA_BYTE))
                        .order(ByteOrder.nativeOrder())));
    }

    @Override
    public void download(long source, Pinned target, long offset, long bytes) {
        check();
    }

    @Override
    public void clear(long address, long bytes) {
        check();
    }

    @Override
    public boolean warpgroups() {
        return true;
    }

    @Override
    public Kernel kernel(String name, int threads, int sharedBytes) {
        check();
        return new Named(name);
    }

    @Override
    public void launch(Kernel kernel, int x, int y, int z, boolean cooperative, Object... parameters) {
        check();
        launched.add(((Named) kernel).name());
        if (parameters[0] instanceof MemorySegment values) {
            struct = ByteBuffer.wrap(values.toArray(ValueLayout.JAVA_BYTE)).order(ByteOrder.nativeOrder());
        }
    }

    @Override
    public void mark(int mark) {
        check();
    }

    @Override
    public void await(int mark) {
        check();
    }

    @Override
    public void await(Pinned memory, long offset, int number) {
        check();
    }

    @Override
    public void synchronize() {
        check();
    }

    @Override
    public void close() {
        if (!closed) {
            closed = true;
            arena.close();
        }
    }
}
