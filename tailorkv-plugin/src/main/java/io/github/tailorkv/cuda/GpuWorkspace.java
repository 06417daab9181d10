package io.github.tailorkv.cuda;

import io.github.tailorkv.config.Settings;
import io.github.tailorkv.kernels.AttentionShape;
import io.github.tailorkv.kernels.BlockLayout;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;

/**
 * Staging and scratch memory of one model, and the calls that use it. The device does one thing after another, so a model has
 * one workspace, and its sessions take turns.
 *
 * <p>A decode step is one call of the driver: a launch that carries the arguments; the kernel reads q, k and v from mapped
 * memory and writes the output there, then a number that the host waits for. A chunk of a prompt is {@link GpuPrefill}'s.
 */
final class GpuWorkspace implements AutoCloseable {

    private static final int MOST_PARTS = 64;

    private final Gpu gpu;
    private final GpuBudget budget;
    private final GpuKernels kernels;
    private final AttentionShape shape;
    private final int chunks;
    private final int mostParts;
    private final GpuArguments arguments;
    private final GpuStaging staging;
    private final GpuPrefill prefill;
    private final GpuPreference preference;
    private final List<Runnable> ends = new ArrayList<>();
    private int ticket;

    private final GrowingDeviceMemory partials;
    private final GrowingDeviceMemory bins;
    private final GrowingDeviceMemory scores;
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
        chunks = (shape.groupSize() + GpuKernels.CHUNK_HEADS - 1) / GpuKernels.CHUNK_HEADS;
        if (kernels.decode.residentBlocks() < chunks * shape.kvHeads()) {
            throw new GpuException(
                    GpuException.Kind.UNUSABLE, gpu.name() + " is too small for " + shape.kvHeads() + " KV heads of "
                            + shape.groupSize() + " query heads each");
        }
        mostParts = Math.clamp(kernels.decode.residentBlocks() / (chunks * shape.kvHeads()), 1, MOST_PARTS);
        arguments = new GpuArguments(shape, settings);
        partials = owned(new GrowingDeviceMemory(gpu, budget), GrowingDeviceMemory::close);
        bins = owned(new GrowingDeviceMemory(gpu, budget), GrowingDeviceMemory::close);
        scores = owned(new GrowingDeviceMemory(gpu, budget), GrowingDeviceMemory::close);
        ExpandedTokens expanded = owned(new ExpandedTokens(gpu, budget, kernels, shape), ExpandedTokens::close);
        preference = new GpuPreference(gpu, budget, kernels, shape, settings, expanded);
        histogramBytes = (long) shape.kvHeads() * GpuArguments.HISTOGRAM_BINS * Integer.BYTES;
        selectedBytes = aligned((long) shape.kvHeads() * (settings.budget() + settings.sinks()) * Integer.BYTES);
        long members = (long) shape.kvHeads() * mostParts * chunks;
        sharesBytes = members * GpuArguments.MAX_GROUP * 2 * Float.BYTES;
        countsBytes = aligned(members * 2 * Integer.BYTES);
        selectionBytes = histogramBytes + selectedBytes + sharesBytes + countsBytes + GpuArguments.COUNTER_BYTES;
        selection = budget.allocate(selectionBytes);
        try {
            gpu.clear(selection + selectionBytes - GpuArguments.COUNTER_BYTES, GpuArguments.COUNTER_BYTES);
            partials.atLeast(members * GpuKernels.CHUNK_HEADS * (shape.headSize() + 2) * Float.BYTES);
            staging = owned(new GpuStaging(gpu, budget, shape), GpuStaging::close);
        } catch (RuntimeException e) {
            close();
            throw e;
        }
        prefill = owned(new GpuPrefill(gpu, budget, kernels, shape, staging, expanded), GpuPrefill::close);
    }

    private <T> T owned(T part, Consumer<T> end) {
        ends.add(() -> end.accept(part));
        return part;
    }

    static long aligned(long bytes) {
        return (bytes + 255) & -256;
    }

    GpuStaging staging() {
        return staging;
    }

    /** The arguments of a kernel that is about a layer and needs no rows. */
    MemorySegment describe(GpuLayer layer) {
        layer.describe(arguments);
        return arguments.struct();
    }

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
        arguments.scratch(
                partials.address(), histogram, bins.atLeast(layer.selects() ? binBytes : 0), selected, shares, counts,
                scores.atLeast(layer.selects() ? (long) shape.heads() * sealed * BlockLayout.BLOCK * Float.BYTES : 0));
        layer.describe(arguments);
        ticket++;
        staging.describe(arguments, 1, staging.outputAddress());
        arguments.step(staging.put(q, k, v), staging.ticketAddress(), ticket, counts + countsBytes);
        int parts = Math.clamp(Math.max(sealed / 4, rest / 8), 1, mostParts);
        arguments.next(0, 0);
        if (next != null && mostParts > 1 && next.describeAsNext(arguments)) {
            parts = Math.min(parts + 1, mostParts);
        }
        gpu.launch(kernels.decode, parts, chunks, shape.kvHeads(), true, arguments.struct());
        staging.take(ticket, out);
    }

    /** Appends {@code n} tokens and attends from each, see {@link GpuPrefill#attend}. */
    void prefill(
            GpuLayer layer, int n, MemorySegment q, MemorySegment k, MemorySegment v, MemorySegment out,
            long firstToken, Runnable meanwhile) {
        prefill.attend(layer, n, q, k, v, out, firstToken, arguments, meanwhile);
    }

    /** The dense preference score of a layer from its newest queries, in [0, 1]. */
    double densePreference(GpuLayer layer, int queries) {
        return preference.of(layer, queries, describe(layer));
    }

    @Override
    public void close() {
        if (selection != 0) {
            budget.free(selection);
            selection = 0;
        }
        ends.forEach(Runnable::run);
        ends.clear();
    }
}
