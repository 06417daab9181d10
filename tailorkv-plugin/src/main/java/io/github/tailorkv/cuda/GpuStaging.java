package io.github.tailorkv.cuda;

import com.google.common.base.Throwables;
import io.github.tailorkv.kernels.AttentionShape;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.IntConsumer;
import java.util.stream.IntStream;
import org.jspecify.annotations.Nullable;

/**
 * The way of q, k and v to the device and of the output back. Rows that the caller has in memory from {@link #lend} are
 * copied by the device from where they are, and the output to where it belongs. Others go through pinned memory of the same
 * layout, copied by several threads, for one core copies slower than the link to the GPU.
 */
final class GpuStaging implements AutoCloseable {

    /** Tokens of a prompt attended at once; a longer chunk is cut. */
    private static final int MOST_TOKENS = 512;

    /** Tokens that there is always room for: a chunk as Jlama sends them. */
    private static final int FIRST_TOKENS = 256;

    private static final long COPY_PIECE = 512 << 10;

    private final Gpu gpu;
    private final GpuBudget budget;
    private final long queryBytes;
    private final long keyBytes;
    private final List<Gpu.Pinned> lent = new ArrayList<>();
    private Gpu.@Nullable Pinned rows;
    private Gpu.@Nullable Pinned output;
    private long device;
    private int tokens;

    GpuStaging(Gpu gpu, GpuBudget budget, AttentionShape shape) {
        this.gpu = gpu;
        this.budget = budget;
        queryBytes = (long) shape.heads() * shape.headSize() * Float.BYTES;
        keyBytes = (long) shape.kvHeads() * shape.headSize() * Float.BYTES;
        grow(FIRST_TOKENS);
    }

    /**
     * Makes room for {@code n} tokens, or for as many as there is memory for.
     *
     * @return how many of them to attend at once
     */
    int admit(int n) {
        int wanted = Math.min(n, MOST_TOKENS);
        if (wanted > tokens) {
            try {
                grow(wanted);
            } catch (GpuException e) {
                if (e.kind() != GpuException.Kind.OUT_OF_MEMORY || tokens == 0) {
                    throw e;
                }
            }
        }
        return Math.min(wanted, tokens);
    }

    private void grow(int n) {
        gpu.synchronize();
        long bytes = bytes(n);
        long newDevice = budget.allocate(bytes + n * queryBytes);
        Gpu.Pinned newRows = null;
        Gpu.Pinned newOutput;
        try {
            newRows = gpu.allocatePinned(bytes);
            newOutput = gpu.allocatePinned(n * queryBytes + Integer.BYTES);
        } catch (GpuException e) {
            budget.free(newDevice);
            if (newRows != null) {
                gpu.freePinned(newRows);
            }
            throw e;
        }
        int ticket = output == null ? 0 : ticket();
        free();
        device = newDevice;
        rows = newRows;
        output = newOutput;
        tokens = n;
        newOutput.segment().set(ValueLayout.JAVA_INT, ticketAt(), ticket);
    }

    // The rows of n tokens: q, then k, then v, the same here and on the device, where the output follows.

    private long keysAt(int n) {
        return n * queryBytes;
    }

    private long valuesAt(int n) {
        return keysAt(n) + n * keyBytes;
    }

    private long bytes(int n) {
        return valuesAt(n) + n * keyBytes;
    }

    private static <T> T there(@Nullable T object) {
        if (object == null) {
            throw new IllegalStateException("the model is closed");
        }
        return object;
    }

    /** Says where kernels find the rows of {@code n} tokens, and where they write the output. */
    void describe(GpuArguments arguments, int n, long out) {
        arguments.staged(n, device, device + keysAt(n), device + valuesAt(n), out);
    }

    // ---- memory of the callers ------------------------------------------------------------------------------------

    /** Pinned memory for rows, until this object is closed. */
    MemorySegment lend(long bytes) {
        Gpu.Pinned memory = gpu.allocatePinned(bytes);
        lent.add(memory);
        return memory.segment();
    }

    /** Rows in lent memory. */
    private record Place(Gpu.Pinned memory, long offset) {}

    private @Nullable Place find(MemorySegment segment) {
        for (Gpu.Pinned memory : lent) {
            long offset = segment.address() - memory.segment().address();
            if (offset >= 0 && offset + segment.byteSize() <= memory.segment().byteSize()) {
                return new Place(memory, offset);
            }
        }
        return null;
    }

    // ---- a chunk of a prompt --------------------------------------------------------------------------------------

    /** A stretch of rows and where it goes. */
    private record Piece(MemorySegment source, long from, long target, long bytes) {}

    /** Sends k, v and the first {@code queries} rows of q, of {@code n} tokens, to the device. */
    void send(int n, int queries, MemorySegment q, MemorySegment k, MemorySegment v, long firstToken) {
        List<Piece> pieces = new ArrayList<>();
        send(k, firstToken * keyBytes, keysAt(n), valuesAt(n), pieces);
        send(v, firstToken * keyBytes, valuesAt(n), bytes(n), pieces);
        send(q, firstToken * queryBytes, 0, queries * queryBytes, pieces);
        copyAndSend(pieces);
    }

    /** Sends the rows {@code [from, to)} of q. */
    void sendQueries(int from, int to, MemorySegment q, long firstToken) {
        List<Piece> pieces = new ArrayList<>();
        send(q, (firstToken + from) * queryBytes, from * queryBytes, to * queryBytes, pieces);
        copyAndSend(pieces);
    }

    /** Sends rows to the bytes {@code [target, end)}, or cuts them into pieces that are to be copied first. */
    private void send(MemorySegment source, long from, long target, long end, List<Piece> pieces) {
        Place place = find(source);
        if (place != null && target < end) {
            gpu.send(place.memory(), place.offset() + from, device + target, end - target);
            return;
        }
        for (long at = target; at < end; at += COPY_PIECE) {
            pieces.add(new Piece(source, from + at - target, at, Math.min(COPY_PIECE, end - at)));
        }
    }

    private void copyAndSend(List<Piece> pieces) {
        inParallel(pieces.size(), i -> {
            Piece piece = pieces.get(i);
            Gpu.Pinned memory = there(rows);
            MemorySegment.copy(piece.source(), piece.from(), memory.segment(), piece.target(), piece.bytes());
            gpu.bind();
            gpu.send(memory, piece.target(), device + piece.target(), piece.bytes());
        });
    }

    /** Output of the tokens {@code [from, to)} of a chunk, on its way to the host. */
    record Part(int from, int to) {}

    /** Where kernels write the output of a chunk of {@code n} tokens. */
    long outputOnDevice(int n) {
        return device + bytes(n);
    }

    /** In how many parts the output is fetched, at most {@link Gpu#MARKS}: one where the host need not copy it. */
    int parts(MemorySegment out, int most) {
        return find(out) == null ? most : 1;
    }

    /**
     * Has a part brought to the host once the kernels that were launched have written it.
     *
     * @param number of the part, from 0 on
     */
    void fetch(int number, Part part, int n, MemorySegment out, long firstToken) {
        Place place = find(out);
        Gpu.Pinned memory = place == null ? there(output) : place.memory();
        long offset = place == null ? 0 : place.offset() + firstToken * queryBytes;
        long from = part.from() * queryBytes;
        gpu.fetch(outputOnDevice(n) + from, memory, offset + from, part.to() * queryBytes - from, number);
    }

    /** Waits for all parts; copies each, if it is not where it belongs, while the next is on its way. */
    void take(List<Part> parts, MemorySegment out, long firstToken) {
        if (find(out) != null) {
            gpu.await(parts.size() - 1);
            return;
        }
        inParallel(parts.size(), i -> {
            gpu.bind();
            gpu.await(i);
            long from = parts.get(i).from() * queryBytes;
            long bytes = parts.get(i).to() * queryBytes - from;
            MemorySegment.copy(there(output).segment(), from, out, firstToken * queryBytes + from, bytes);
        });
    }

    /**
     * Runs {@code count} pieces and returns when none is under way any more, whatever one throws: a stream throws at once, and
     * its other threads would outlive the model's lock and read rows that are freed.
     */
    private static void inParallel(int count, IntConsumer action) {
        AtomicReference<@Nullable Throwable> failure = new AtomicReference<>();
        IntStream.range(0, count).parallel().forEach(piece -> {
            try {
                if (failure.get() == null) {
                    action.accept(piece);
                }
            } catch (RuntimeException | Error e) {
                failure.compareAndSet(null, e);
            }
        });
        Throwable thrown = failure.get();
        if (thrown != null) {
            Throwables.throwIfUnchecked(thrown);
        }
    }

    // ---- a decode step --------------------------------------------------------------------------------------------

    /** Puts the rows of a token where the kernel reads them, one after the other. */
    long put(MemorySegment q, MemorySegment k, MemorySegment v) {
        Gpu.Pinned memory = there(rows);
        MemorySegment.copy(q, 0, memory.segment(), 0, queryBytes);
        MemorySegment.copy(k, 0, memory.segment(), keysAt(1), keyBytes);
        MemorySegment.copy(v, 0, memory.segment(), valuesAt(1), keyBytes);
        return memory.address();
    }

    /** Address of the output of a token. */
    long outputAddress() {
        return there(output).address();
    }

    private long ticketAt() {
        return tokens * queryBytes;
    }

    private int ticket() {
        return there(output).segment().get(ValueLayout.JAVA_INT, ticketAt());
    }

    /** Address of the number of the step whose output is there. */
    long ticketAddress() {
        return there(output).address() + ticketAt();
    }

    /** Waits for a step's output and takes it. */
    void take(int ticket, MemorySegment out) {
        gpu.await(there(output), ticketAt(), ticket);
        MemorySegment.copy(there(output).segment(), 0, out, 0, queryBytes);
    }

    private void free() {
        if (device != 0) {
            budget.free(device);
            device = 0;
        }
        if (rows != null) {
            gpu.freePinned(rows);
            rows = null;
        }
        if (output != null) {
            gpu.freePinned(output);
            output = null;
        }
        tokens = 0;
    }

    @Override
    public void close() {
        free();
        lent.forEach(gpu::freePinned);
        lent.clear();
    }
}
