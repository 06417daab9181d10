package io.github.tailorkv.cuda;

import com.google.common.base.Throwables;
import io.github.tailorkv.config.Settings;
import io.github.tailorkv.kernels.AttentionShape;
import io.github.tailorkv.kernels.BlockLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.IntConsumer;
import java.util.stream.IntStream;
import org.jspecify.annotations.Nullable;

/**
 * Staging and scratch memory of one model, and the calls that use it. The device does one thing after another on one
 * stream, so a model has one workspace, and its sessions take turns.
 *
 * <p>A decode step is one call of the driver: a launch that carries the arguments; the kernel reads q, k and v from mapped
 * memory and writes the output there, then a number that the host waits for. A chunk of a prompt goes segment by segment:
 * sealed blocks and tiles are brought to BF16, then the tensor cores attend to them; every token before the chunk is attended
 * in the precision it is stored in (8 bits while the layer is open) rounded to BF16, as are the chunk's own.
 */
final class GpuWorkspace implements AutoCloseable {

    /** Tokens of a prompt attended at once; a longer chunk is cut. */
    private static final int MOST_TOKENS = 512;

    /** Tokens that there is always room for: a chunk as Jlama sends them. */
    private static final int FIRST_TOKENS = 256;

    private static final long SEGMENT_BYTES = 64L << 20;
    private static final long COPY_PIECE = 512 << 10;
    private static final int MOST_PARTS = 64;
    private static final int MOST_SPLITS = 32;
    private static final float BINS_PER_NAT = 32;

    /** Attention weight in the middle of each bin. */
    private static final double[] BIN_WEIGHTS = new double[GpuKernels.PREFERENCE_BINS];

    static {
        Arrays.setAll(BIN_WEIGHTS, bin -> Math.exp(-(bin + 0.5) / BINS_PER_NAT));
    }

    private final Gpu gpu;
    private final GpuBudget budget;
    private final GpuKernels kernels;
    private final AttentionShape shape;
    private final Settings settings;
    private final int queryFloats;
    private final int keyFloats;
    private final int chunks;
    private final int mostParts;
    private final int segmentTokens;

    private Gpu.@Nullable Pinned staging;
    private Gpu.@Nullable Pinned output;
    private @Nullable GpuArguments block;
    private final MemorySegment stepArguments = MemorySegment.ofBuffer(
            ByteBuffer.allocateDirect(GpuArguments.STRUCT_BYTES).order(ByteOrder.nativeOrder()));
    private final GpuArguments step;
    private int ticket;
    private long deviceStaging;
    private int stagedTokens;
    /** Whether a copy from the staging memory may be under way. */
    private boolean uploading;

    private final GrowingDeviceMemory partials;
    private final GrowingDeviceMemory bins;
    private final GrowingDeviceMemory scores;
    private final GrowingDeviceMemory expanded;
    private final GrowingDeviceMemory states;
    private final GrowingDeviceMemory outputs;
    private final GrowingDeviceMemory preference;
    private long selection;
    private final long selectionBytes;
    private final long histogramBytes;
    private final long selectedBytes;
    private final long sharesBytes;
    private final long countsBytes;

    GpuWorkspace(Gpu gpu, GpuBudget budget, GpuKernels kernels, AttentionShape shape, Settings settings) {
        this.gpu = gpu;
        this.budget = budget;
        this.kernels = kernels;
        this.shape = shape;
        this.settings = settings;
        queryFloats = shape.heads() * shape.headSize();
        keyFloats = shape.kvHeads() * shape.headSize();
        chunks = (shape.groupSize() + GpuKernels.CHUNK_HEADS - 1) / GpuKernels.CHUNK_HEADS;
        if (kernels.decode.residentBlocks() < chunks * shape.kvHeads()) {
            throw new GpuException(
                    GpuException.Kind.UNUSABLE, gpu.name() + " is too small for " + shape.kvHeads() + " KV heads of "
                            + shape.groupSize() + " query heads each");
        }
        mostParts = Math.clamp(kernels.decode.residentBlocks() / (chunks * shape.kvHeads()), 1, MOST_PARTS);
        long tokenBytes = 2L * shape.kvHeads() * kernels.paddedHeadSize * Short.BYTES;
        segmentTokens = Math.clamp(SEGMENT_BYTES / tokenBytes, 1024, 65536) & -kernels.tileTokens;
        partials = new GrowingDeviceMemory(gpu, budget);
        bins = new GrowingDeviceMemory(gpu, budget);
        scores = new GrowingDeviceMemory(gpu, budget);
        expanded = new GrowingDeviceMemory(gpu, budget);
        states = new GrowingDeviceMemory(gpu, budget);
        outputs = new GrowingDeviceMemory(gpu, budget);
        preference = new GrowingDeviceMemory(gpu, budget);
        histogramBytes = (long) shape.kvHeads() * GpuArguments.HISTOGRAM_BINS * Integer.BYTES;
        selectedBytes = aligned((long) shape.kvHeads() * (settings.budget() + settings.sinks()) * Integer.BYTES);
        long members = (long) shape.kvHeads() * mostParts * chunks;
        sharesBytes = members * GpuArguments.MAX_GROUP * 2 * Float.BYTES;
        countsBytes = aligned(members * 2 * Integer.BYTES);
        selectionBytes = histogramBytes + selectedBytes + sharesBytes + countsBytes + GpuArguments.COUNTER_BYTES;
        selection = budget.allocate(selectionBytes);
        step = new GpuArguments(stepArguments, shape, settings);
        try {
            gpu.clear(selection + selectionBytes - GpuArguments.COUNTER_BYTES, GpuArguments.COUNTER_BYTES);
            partials.atLeast(members * GpuKernels.CHUNK_HEADS * (shape.headSize() + 2) * Float.BYTES);
            stage(FIRST_TOKENS);
        } catch (RuntimeException e) {
            close();
            throw e;
        }
    }

    private static long aligned(long bytes) {
        return (bytes + 255) & -256;
    }

    /**
     * Makes the staging memory large enough for {@code n} tokens, or for as many as there is room for.
     *
     * @return how many of them to attend at once
     */
    int admit(int n) {
        int wanted = Math.min(n, MOST_TOKENS);
        if (wanted > stagedTokens) {
            try {
                stage(wanted);
            } catch (GpuException e) {
                if (e.kind() != GpuException.Kind.OUT_OF_MEMORY || stagedTokens == 0) {
                    throw e;
                }
            }
        }
        return Math.min(wanted, stagedTokens);
    }

    private void stage(int n) {
        gpu.synchronize();
        long bytes = stagingBytes(n);
        long device = budget.allocate(bytes);
        Gpu.Pinned memory;
        Gpu.Pinned results;
        try {
            memory = gpu.allocatePinned(bytes);
            results = gpu.allocatePinned(flagAt(n) + Integer.BYTES);
        } catch (GpuException e) {
            budget.free(device);
            throw e;
        }
        freeStaging();
        deviceStaging = device;
        staging = memory;
        output = results;
        results.segment().set(ValueLayout.JAVA_INT, flagAt(n), ticket);
        stagedTokens = n;
        uploading = false;
        block = new GpuArguments(memory.segment().asSlice(0, GpuArguments.BYTES), shape, settings);
    }

    // The staging memory of n tokens: the argument block, then q, k and v, the same here and on the device.

    private static long queriesAt() {
        return GpuArguments.BYTES;
    }

    private long keysAt(int n) {
        return queriesAt() + (long) n * queryFloats * Float.BYTES;
    }

    private long valuesAt(int n) {
        return keysAt(n) + (long) n * keyFloats * Float.BYTES;
    }

    private long stagingBytes(int n) {
        return valuesAt(n) + (long) n * keyFloats * Float.BYTES;
    }

    /** Behind the output of {@code n} tokens: the ticket of the decode step that was done last. */
    private long flagAt(int n) {
        return (long) n * queryFloats * Float.BYTES;
    }

    private void freeStaging() {
        if (deviceStaging != 0) {
            budget.free(deviceStaging);
            deviceStaging = 0;
        }
        if (staging != null) {
            gpu.freePinned(staging);
            staging = null;
        }
        if (output != null) {
            gpu.freePinned(output);
            output = null;
        }
        stagedTokens = 0;
    }

    private static <T> T there(@Nullable T object) {
        if (object == null) {
            throw new IllegalStateException("the model is closed");
        }
        return object;
    }

    /** Address of the argument block on the device: the parameter of every kernel. */
    Long arguments() {
        return deviceStaging;
    }

    /** Brings the argument block up to date for a layer, without any tokens. */
    void describe(GpuLayer layer) {
        settleUploads();
        layer.describe(there(block));
        gpu.upload(there(staging), 0, deviceStaging, GpuArguments.BYTES);
        uploading = true;
    }

    private void settleUploads() {
        if (uploading) {
            gpu.synchronize();
            uploading = false;
        }
    }

    /** Fills in the argument block for a call of {@code n} tokens. */
    private void prepare(GpuLayer layer, int n) {
        settleUploads();
        layer.describe(there(block));
        there(block).staged(
                n, deviceStaging + queriesAt(), deviceStaging + keysAt(n), deviceStaging + valuesAt(n),
                there(output).address());
        uploading = true;
    }

    /** Cuts the rows of {@code n} tokens into pieces of the staging memory. */
    private List<Piece> pieces(int n, MemorySegment q, MemorySegment k, MemorySegment v, long firstToken) {
        List<Piece> pieces = new ArrayList<>();
        cut(q, firstToken * queryFloats * Float.BYTES, queriesAt(), keysAt(n), pieces);
        cut(k, firstToken * keyFloats * Float.BYTES, keysAt(n), valuesAt(n), pieces);
        cut(v, firstToken * keyFloats * Float.BYTES, valuesAt(n), stagingBytes(n), pieces);
        return pieces;
    }

    /** A stretch of rows and where it goes. One core copies slower than the link to the GPU, so that several share them. */
    private record Piece(MemorySegment source, long from, long target, long bytes) {

        void copyTo(MemorySegment memory) {
            MemorySegment.copy(source, from, memory, target, bytes);
        }
    }

    /** Cuts the rows that go to the bytes {@code [target, end)}. */
    private static void cut(MemorySegment source, long from, long target, long end, List<Piece> pieces) {
        for (long at = target; at < end; at += COPY_PIECE) {
            pieces.add(new Piece(source, from + at - target, at, Math.min(COPY_PIECE, end - at)));
        }
    }

    /** Takes what the kernels have written before a mark. */
    private void takeOutput(int from, int to, MemorySegment out, long firstToken) {
        long rowBytes = (long) queryFloats * Float.BYTES;
        MemorySegment.copy(
                there(output).segment(), from * rowBytes, out, (firstToken + from) * rowBytes, (to - from) * rowBytes);
    }

    // ---- decode ----------------------------------------------------------------------------------------------------

    /**
     * Appends one token, for which there is a tile, and attends from it.
     *
     * @param next the layer whose turn is next
     */
    void decode(
            GpuLayer layer, @Nullable GpuLayer next, MemorySegment q, MemorySegment k, MemorySegment v,
            MemorySegment out) {
        int sealed = layer.sealed();
        int rest = layer.length() + 1 - sealed * BlockLayout.BLOCK;
        long binBytes = (long) shape.kvHeads() * sealed * BlockLayout.BLOCK * Short.BYTES;
        long histogram = selection;
        long selected = histogram + histogramBytes;
        long shares = selected + selectedBytes;
        long counts = shares + sharesBytes;
        step.scratch(
                partials.address(), histogram, bins.atLeast(layer.selects() ? binBytes : 0), selected, shares, counts,
                scores.atLeast(layer.selects() ? (long) shape.heads() * sealed * BlockLayout.BLOCK * Float.BYTES : 0));
        layer.describe(step);
        Gpu.Pinned rows = there(staging);
        Gpu.Pinned result = there(output);
        long flag = flagAt(stagedTokens);
        ticket++;
        step.staged(
                1, deviceStaging + queriesAt(), deviceStaging + keysAt(1), deviceStaging + valuesAt(1),
                result.address());
        step.step(rows.address() + queriesAt(), result.address() + flag, ticket, counts + countsBytes);
        MemorySegment.copy(q, 0, rows.segment(), queriesAt(), (long) queryFloats * Float.BYTES);
        MemorySegment.copy(k, 0, rows.segment(), keysAt(1), (long) keyFloats * Float.BYTES);
        MemorySegment.copy(v, 0, rows.segment(), valuesAt(1), (long) keyFloats * Float.BYTES);
        int parts = Math.clamp(Math.max(sealed / 4, rest / 8), 1, mostParts);
        step.next(0, 0);
        if (next != null && mostParts > 1 && next.describeAsNext(step)) {
            parts = Math.min(parts + 1, mostParts);
        }
        gpu.launch(kernels.decode, parts, chunks, shape.kvHeads(), true, stepArguments);
        gpu.await(result, flag, ticket);
        uploading = false;
        takeOutput(0, 1, out, 0);
    }

    // ---- prefill ---------------------------------------------------------------------------------------------------

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

    /** Appends {@code n} tokens, for which there are tiles, and attends from each. */
    void prefill(
            GpuLayer layer, int n, MemorySegment q, MemorySegment k, MemorySegment v, MemorySegment out,
            long firstToken) {
        prepare(layer, n);
        gpu.upload(there(staging), 0, deviceStaging, GpuArguments.BYTES);
        int length = layer.length() + n;
        long keys = 0;
        if (layer.length() >= segmentTokens) {
            // Nothing of this chunk is in the first segment: the GPU has something to do while the host copies.
            keys = expand(0, segmentTokens, length, kernels.tiled);
        }
        List<Piece> pieces = pieces(n, q, k, v, firstToken);
        inParallel(pieces.size(), i -> {
            Piece piece = pieces.get(i);
            piece.copyTo(there(staging).segment());
            gpu.bind();
            gpu.upload(there(staging), piece.target(), deviceStaging + piece.target(), piece.bytes());
        });
        gpu.launch(kernels.append, n, shape.kvHeads(), 1, false, arguments());

        int rows = n * shape.groupSize();
        int rowTiles = (rows + kernels.prefillRows - 1) / kernels.prefillRows;
        int paddedRows = rowTiles * kernels.prefillRows;
        int blocks = (length + BlockLayout.BLOCK - 1) / BlockLayout.BLOCK;
        int splits = Math.clamp(kernels.prefill.residentBlocks() / (rowTiles * shape.kvHeads()), 1, MOST_SPLITS);
        splits = Math.min(splits, Math.max(1, Math.min(blocks, segmentTokens / BlockLayout.BLOCK) / 4));
        long stateRows = (long) splits * shape.kvHeads() * paddedRows;
        long state = states.atLeast(stateRows * 2 * Float.BYTES);
        long acc = outputs.atLeast(stateRows * kernels.paddedHeadSize * Float.BYTES);
        for (int first = 0; first < length; first += segmentTokens) {
            int end = Math.min(length, first + segmentTokens);
            if (first > 0 || keys == 0) {
                keys = expand(first, end, length, kernels.tiled);
            }
            gpu.launch(
                    kernels.prefill, rowTiles, shape.kvHeads(), splits, false, arguments(), keys, values(keys), first,
                    end, segmentTokens, state, acc, paddedRows, first == 0 ? 1 : 0);
        }
        int parts = Math.min(n, Gpu.MARKS);
        for (int part = 0; part < parts; part++) {
            int from = n * part / parts;
            gpu.launch(
                    kernels.combine, n * (part + 1) / parts - from, shape.heads(), 1, false, arguments(), state, acc,
                    paddedRows, kernels.paddedHeadSize, splits, from);
            gpu.mark(part);
        }
        // The host takes one part while the GPU writes the next.
        inParallel(parts, part -> {
            gpu.bind();
            gpu.await(part);
            takeOutput(n * part / parts, n * (part + 1) / parts, out, firstToken);
        });
        uploading = false;
    }

    /**
     * Brings the tokens {@code [first, end)} to BF16.
     *
     * @param tiles whether in tiles as warpgroups multiply them, or row by row
     * @return the address of the keys
     */
    private long expand(int first, int end, int length, boolean tiles) {
        long bytes = (long) shape.kvHeads() * segmentTokens * kernels.paddedHeadSize * Short.BYTES;
        long keys = expanded.atLeast(2 * bytes);
        int unit = tiles ? kernels.tileTokens : BlockLayout.BLOCK;
        int blocks = (end - first + unit - 1) / unit * (unit / BlockLayout.BLOCK);
        gpu.launch(
                kernels.expand, blocks, shape.kvHeads(), 1, false, arguments(), first / BlockLayout.BLOCK, length,
                segmentTokens, kernels.paddedHeadSize, tiles ? 1 : 0, keys, values(keys));
        return keys;
    }

    private long values(long keys) {
        return keys + (long) shape.kvHeads() * segmentTokens * kernels.paddedHeadSize * Short.BYTES;
    }

    // ---- dense preference ------------------------------------------------------------------------------------------

    /** The dense preference score of a layer from its newest queries, in [0, 1]. */
    double densePreference(GpuLayer layer, int queries) {
        int length = layer.length();
        int group = shape.groupSize();
        int rows = queries * group;
        int rowTiles = (rows + GpuKernels.PREFERENCE_ROWS - 1) / GpuKernels.PREFERENCE_ROWS;
        int splits = Math.clamp(2 * gpu.multiprocessors() / (rowTiles * shape.kvHeads()) + 1, 1, 16);
        int segments = (length + segmentTokens - 1) / segmentTokens;
        int parts = splits * segments;
        long partBytes = aligned((long) shape.kvHeads() * rows * parts * 2 * Float.BYTES);
        long countBytes = (long) shape.kvHeads() * rows * GpuKernels.PREFERENCE_BINS * Integer.BYTES;
        long partial = preference.atLeast(partBytes + countBytes);
        long counts = partial + partBytes;
        describe(layer);
        gpu.clear(counts, countBytes);
        for (int segment = 0; segment < segments; segment++) {
            int first = segment * segmentTokens;
            int end = Math.min(length, first + segmentTokens);
            gpu.launch(
                    kernels.preferenceSums, splits, rowTiles, shape.kvHeads(), false, arguments(),
                    expand(first, end, length, false), first, end, segmentTokens, kernels.paddedHeadSize, queries,
                    length, partial, segment * splits, parts);
        }
        for (int segment = 0; segment < segments; segment++) {
            int first = segment * segmentTokens;
            int end = Math.min(length, first + segmentTokens);
            gpu.launch(
                    kernels.preferenceWeights, splits, rowTiles, shape.kvHeads(), false, arguments(),
                    expand(first, end, length, false), first, end, segmentTokens, kernels.paddedHeadSize, queries,
                    length, partial, parts, counts);
        }
        Gpu.Pinned result = gpu.allocatePinned(countBytes);
        try {
            gpu.download(counts, result, 0, countBytes);
            gpu.synchronize();
            double outside = 0;
            for (int row = 0; row < shape.kvHeads() * rows; row++) {
                int seen = length - queries + row % rows / group + 1;
                int keep = Math.max(1, (int) (settings.keep() * seen));
                outside += 1 - topMass(result.segment(), row, keep);
            }
            return outside / ((double) shape.kvHeads() * rows);
        } finally {
            gpu.freePinned(result);
            preference.close();
        }
    }

    /** Every weight counts as the middle of its bin; only ratios matter. */
    private static double topMass(MemorySegment counts, int row, int keep) {
        double top = 0;
        double all = 0;
        int left = keep;
        for (int bin = 0; bin < GpuKernels.PREFERENCE_BINS; bin++) {
            int count = counts.getAtIndex(ValueLayout.JAVA_INT, (long) row * GpuKernels.PREFERENCE_BINS + bin);
            double weight = BIN_WEIGHTS[bin];
            int taken = Math.min(left, count);
            all += count * weight;
            top += taken * weight;
            left -= taken;
        }
        return all == 0 ? 1 : top / all;
    }

    @Override
    public void close() {
        freeStaging();
        block = null;
        if (selection != 0) {
            budget.free(selection);
            selection = 0;
        }
        for (GrowingDeviceMemory memory : new GrowingDeviceMemory[] {
            partials, bins, scores, expanded, states, outputs, preference
        }) {
            memory.close();
        }
    }
}
