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
import java.util.concurrent.ConcurrentHashMap;
import org.jspecify.annotations.Nullable;

/** A device that computes nothing, keeps account of its memory, and fails when it is told to. */
final class FakeGpu implements Gpu {

    /** Offsets in {@code struct Arguments}. */
    private static final int Q = 24;

    private static final int K = 32;
    private static final int V = 40;
    private static final int HEADS = 112;
    private static final int KV_HEADS = 116;
    private static final int HEAD_SIZE = 120;
    private static final int N = 160;

    private static final int ROWS_OF_A_TILE = 128;

    final Map<Long, Long> device = new HashMap<>();
    final Map<Long, Pinned> host = new ConcurrentHashMap<>();
    final List<String> launched = new ArrayList<>();
    /** The struct that the last kernel with one was launched with. */
    ByteBuffer struct = ByteBuffer.allocate(0);
    /** What was copied to the device, by several threads. */
    final List<Upload> uploads = Collections.synchronizedList(new ArrayList<>());
    /** Where rows were fetched from and to. */
    final List<Fetch> fetches = new ArrayList<>();
    long deviceBytes = 1L << 40;
    @Nullable
    GpuException failure;
    /** Called at each copy of rows to the device. */
    Runnable onSend = () -> {};
    boolean closed;
    /** How often everything was waited for. */
    int waited;
    /** The most uploads that were waited for. */
    long settled;
    /** Copies of rows that nothing waits for yet. */
    private final List<Upload> unfollowed = Collections.synchronizedList(new ArrayList<>());
    private long next = 1L << 32;
    private final Arena arena = Arena.ofShared();

    record Upload(long target, ByteBuffer bytes) {}

    record Fetch(long source, long target, long bytes) {}

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
        long address = place(bytes);
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
        Pinned memory = new Pinned(place(bytes), arena.allocate(bytes, 64));
        host.put(memory.address(), memory);
        return memory;
    }

    /** Pinned memory is also taken by a thread of its own. */
    private synchronized long place(long bytes) {
        long address = next;
        next += (bytes + 511) & -256;
        return address;
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
        record(source, offset, target, bytes);
    }

    @Override
    public void send(Pinned source, long offset, long target, long bytes) {
        check();
        onSend.run();
        unfollowed.add(record(source, offset, target, bytes));
    }

    @Override
    public void follow() {
        check();
        unfollowed.clear();
    }

    private Upload record(Pinned source, long offset, long target, long bytes) {
        Upload upload = new Upload(target,
                ByteBuffer.wrap(source.segment().asSlice(offset, bytes).toArray(ValueLayout.JAVA_BYTE))
                        .order(ByteOrder.nativeOrder()));
        uploads.add(upload);
        return upload;
    }

    @Override
    public void fetch(long source, Pinned target, long offset, long bytes, int mark) {
        check();
        fetches.add(new Fetch(source, target.address() + offset, bytes));
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
        String name = ((Named) kernel).name();
        launched.add(name);
        if (parameters[0] instanceof MemorySegment values) {
            struct = ByteBuffer.wrap(values.toArray(ValueLayout.JAVA_BYTE)).order(ByteOrder.nativeOrder());
            checkRows(name, x, parameters[parameters.length - 1]);
        }
    }

    /** Refuses a kernel that reads rows which may still be on their way. */
    private void checkRows(String name, int x, Object lastParameter) {
        int tokens = struct.getInt(N);
        int keyBytes = struct.getInt(KV_HEADS) * struct.getInt(HEAD_SIZE) * Float.BYTES;
        int queryBytes = struct.getInt(HEADS) * struct.getInt(HEAD_SIZE) * Float.BYTES;
        if (name.equals("append")) {
            checkArrived(struct.getLong(K), (long) tokens * keyBytes);
            checkArrived(struct.getLong(V), (long) tokens * keyBytes);
        } else if (name.equals("remember")) {
            checkArrived(struct.getLong(Q), (long) tokens * queryBytes);
        } else if (name.startsWith("warpgroupPrefill")) {
            int group = struct.getInt(HEADS) / struct.getInt(KV_HEADS);
            int rows = ((int) lastParameter + x) * ROWS_OF_A_TILE;
            checkArrived(struct.getLong(Q), (long) Math.min(tokens, (rows + group - 1) / group) * queryBytes);
        }
    }

    private void checkArrived(long address, long bytes) {
        synchronized (unfollowed) {
            for (Upload upload : unfollowed) {
                if (upload.target() < address + bytes && address < upload.target() + upload.bytes().capacity()) {
                    throw new IllegalStateException("a kernel reads rows that are on their way");
                }
            }
        }
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
        waited++;
    }

    @Override
    public long asked() {
        return uploads.size();
    }

    @Override
    public void settle(long asked) {
        check();
        settled = Math.max(settled, asked);
    }

    @Override
    public void close() {
        if (!closed) {
            closed = true;
            arena.close();
        }
    }
}
