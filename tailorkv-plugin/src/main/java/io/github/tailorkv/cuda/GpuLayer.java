package io.github.tailorkv.cuda;

import io.github.tailorkv.config.LayerKind;
import io.github.tailorkv.config.Settings;
import io.github.tailorkv.kernels.AttentionShape;
import io.github.tailorkv.kernels.BlockLayout;
import io.github.tailorkv.live.FlightEvents;
import io.github.tailorkv.spi.LayerStatistics;
import java.lang.foreign.MemorySegment;
import org.jspecify.annotations.Nullable;

/**
 * Keys and values of one layer of one session: the GPU's {@code LayerCache}, with the same blocks, windows and life. The
 * newest blocks are exact F32 tiles; older ones are sealed:
 *
 * <pre>
 *   open        index and rows on the device, a copy of the rows in pinned host memory, made while the host computes on
 *   retrieval   the index stays, the rows on the device are given back
 *   quantized   packed blocks on the device, nothing else
 *   exact       never sealed
 * </pre>
 *
 * <p>A part that finds no room on the device goes to pinned host memory, whatever it is: kernels read it where it lies, and
 * the session goes on, slower.
 */
final class GpuLayer implements AutoCloseable {

    private final GpuModel model;
    private final Gpu gpu;
    private final int index;
    private final AttentionShape shape;
    private final Settings settings;
    private final @Nullable LayerKind fixed;
    private final BlockTable table;
    private final int indexedCount;
    /** Ranges of the key channels, then the list of those that the index holds. */
    private final long ranges;
    private final long rangeBytes;
    private final long listBytes;
    private boolean channelsChosen;
    /** Whether the kind of the layer, or the channels that its index holds, depend on the prompt. */
    private final boolean promptDecides;
    private long queries;
    private final long queryBytes;
    private int queryCount;
    private int queryEnd;
    private @Nullable LayerKind kind;
    private double densePreference = Double.NaN;
    private int sealed;
    private int tileEnd;
    private int length;
    private long deviceBytes;
    private long hostBytes;
    private boolean closed;

    GpuLayer(GpuModel model, int index) {
        this.model = model;
        this.index = index;
        gpu = model.gpu();
        shape = model.shape().attention();
        settings = model.settings();
        fixed = model.fixedKind(index);
        kind = fixed == LayerKind.EXACT ? LayerKind.EXACT : null;
        indexedCount = settings.indexedChannels(shape.headSize());
        channelsChosen = indexedCount == shape.headSize();
        rangeBytes = 2L * shape.kvHeads() * shape.headSize() * Integer.BYTES;
        listBytes = (long) shape.kvHeads() * indexedCount * Short.BYTES;
        promptDecides = fixed == null || (fixed == LayerKind.RETRIEVAL && !channelsChosen);
        queryBytes = promptDecides ? (long) settings.queries() * shape.heads() * shape.headSize() * Float.BYTES : 0;
        table = new BlockTable(gpu, model.budget());
        try {
            ranges = model.budget().allocate(rangeBytes + listBytes);
        } catch (RuntimeException e) {
            table.close();
            throw e;
        }
        gpu.launch(
                model.kernels().clearRanges, shape.kvHeads(), 1, 1, false, ranges, shape.headSize(), list(),
                indexedCount);
    }

    /** Address of the list of the channels that the index holds. */
    private long list() {
        return ranges + rangeBytes;
    }

    int length() {
        return length;
    }

    int sealed() {
        return sealed;
    }

    /** Whether decode steps choose tokens. */
    boolean selects() {
        return kind == LayerKind.RETRIEVAL;
    }

    /** The kind as kernels know it. */
    private int code() {
        if (kind == null) {
            return GpuArguments.OPEN;
        }
        return switch (kind) {
            case EXACT -> GpuArguments.EXACT;
            case QUANTIZED -> GpuArguments.QUANTIZED;
            case RETRIEVAL -> GpuArguments.RETRIEVAL;
        };
    }

    /** Fills in what the kernels must know of this layer. */
    void describe(GpuArguments arguments) {
        arguments.layer(
                table.upload(), code(), sealed, length, ranges, kind == null ? queries : 0,
                channelsChosen ? list() : 0);
    }

    /** Tells a decode step of the layer before this one where this one's rows are; false if they do not matter. */
    boolean describeAsNext(GpuArguments arguments) {
        int held = sealed * BlockLayout.BLOCK;
        boolean matters = selects() && held > settings.budgetAt(held) + settings.sinks();
        arguments.next(matters ? table.upload() : 0, sealed);
        return matters;
    }

    // ---- growing ---------------------------------------------------------------------------------------------------

    /**
     * Makes tiles for {@code n} more tokens, and homes for the blocks that leave the exact window because of them, so that the
     * table goes to the device once.
     */
    void reserve(int n) {
        int blocks = (length + n + BlockLayout.BLOCK - 1) / BlockLayout.BLOCK;
        table.reserve(blocks);
        if (kind == null && promptDecides && queries == 0) {
            queries = model.budget().allocate(queryBytes);
            deviceBytes += queryBytes;
        }
        while (tileEnd < blocks) {
            take(BlockTable.TILE, tileEnd, model.tiles());
            tileEnd++;
        }
        int end = sealedAt(length + n);
        for (int block = sealed; block < end; block++) {
            if (kind == LayerKind.QUANTIZED) {
                take(BlockTable.PACKED, block, model.packed());
            } else {
                takeRows(block);
            }
        }
    }

    /** How many blocks are sealed when the layer holds so many tokens. */
    private int sealedAt(int tokens) {
        return kind == LayerKind.EXACT ? 0 : Math.max(sealed, (tokens - window()) / BlockLayout.BLOCK);
    }

    /** Takes a piece on the device, in host memory if there is no room. */
    private void take(int part, int block, GpuModel.Homes homes) {
        if (table.get(part, block) != 0) {
            return;
        }
        try {
            table.set(part, block, homes.device().take(), false);
            deviceBytes += homes.device().pieceBytes();
        } catch (GpuException e) {
            if (e.kind() != GpuException.Kind.OUT_OF_MEMORY) {
                throw e;
            }
            model.sayThatMemoryIsFull(e);
            takePinned(part, block, homes);
        }
    }

    private void takePinned(int part, int block, GpuModel.Homes homes) {
        if (table.get(part, block) != 0) {
            return;
        }
        table.set(part, block, homes.pinned().take(), true);
        hostBytes += homes.pinned().pieceBytes();
    }

    private void give(int part, int block, GpuModel.Homes homes) {
        long address = table.get(part, block);
        if (address == 0) {
            return;
        }
        if (table.pinned(part, block)) {
            homes.pinned().give(address);
            hostBytes -= homes.pinned().pieceBytes();
        } else {
            homes.device().give(address);
            deviceBytes -= homes.device().pieceBytes();
        }
        table.clear(part, block);
    }

    /** How many of its newest queries the layer remembers; 0 where nobody asks for them any more. */
    int remembers() {
        return kind == null && queries != 0 ? settings.queries() : 0;
    }

    /** Counts {@code n} tokens that the kernels have written. */
    void advance(int n) {
        length += n;
        queryEnd = length;
        queryCount = Math.min(settings.queries(), queryCount + n);
    }

    /** Seals the blocks that have left the exact window, for which {@link #reserve} has made homes. */
    void sealOld(GpuWorkspace work) {
        int end = sealedAt(length);
        if (end <= sealed) {
            return;
        }
        int first = sealed;
        // The kernels see the tiles as they were: sealed blocks are counted afterwards.
        MemorySegment arguments = work.describe(this);
        GpuKernels kernels = model.kernels();
        int heads = shape.kvHeads();
        if (kind == LayerKind.QUANTIZED) {
            gpu.launch(kernels.sealPacked, heads, end - first, 1, false, arguments, first, 1);
        } else {
            gpu.launch(kernels.sealRows, heads, end - first, 1, false, arguments, first);
        }
        for (int block = first; block < end; block++) {
            give(BlockTable.TILE, block, model.tiles());
        }
        sealed = end;
    }

    private void takeRows(int block) {
        take(BlockTable.INDEX, block, model.index());
        if (kind == LayerKind.RETRIEVAL) {
            takePinned(BlockTable.ROWS, block, model.rows(index));
            return;
        }
        take(BlockTable.ROWS, block, model.rows(index));
        if (!table.pinned(BlockTable.ROWS, block) && fixed != LayerKind.QUANTIZED) {
            takePinned(BlockTable.HOST_ROWS, block, model.rows(index));
        }
    }

    private int window() {
        if (kind == null) {
            return Math.max(settings.recent(), settings.residual());
        }
        return kind == LayerKind.QUANTIZED ? settings.residual() : settings.recent();
    }

    // ---- shrinking -------------------------------------------------------------------------------------------------

    /** Forgets all tokens from {@code newLength} on. */
    void truncate(int newLength, GpuWorkspace work) {
        if (newLength >= length) {
            return;
        }
        int keptBlocks = (newLength + BlockLayout.BLOCK - 1) / BlockLayout.BLOCK;
        int whole = newLength / BlockLayout.BLOCK;
        while (tileEnd > Math.max(sealed, keptBlocks)) {
            give(BlockTable.TILE, --tileEnd, model.tiles());
            dropSealed(tileEnd);
        }
        if (whole < sealed) {
            if (whole < keptBlocks) {
                take(BlockTable.TILE, whole, model.tiles());
                gpu.launch(
                        model.kernels().restore, shape.kvHeads(), 1, 1, false, work.describe(this), whole,
                        table.get(BlockTable.TILE, whole));
            }
            for (int block = whole; block < sealed; block++) {
                dropSealed(block);
            }
            sealed = whole;
            tileEnd = keptBlocks;
        }
        length = newLength;
        if (newLength < queryEnd) {
            queryCount = Math.max(0, queryCount - (queryEnd - newLength));
            queryEnd = newLength;
        }
    }

    private void dropSealed(int block) {
        give(BlockTable.INDEX, block, model.index());
        give(BlockTable.ROWS, block, model.rows(index));
        give(BlockTable.HOST_ROWS, block, model.rows(index));
        give(BlockTable.PACKED, block, model.packed());
    }

    // ---- the kind --------------------------------------------------------------------------------------------------

    /** Fixes the kind of a layer that is still open when decoding starts, and turns its sealed blocks into that kind. */
    void settle(GpuWorkspace work) {
        if (kind != null) {
            return;
        }
        LayerKind decided = fixed;
        if (promptDecides) {
            int least = fixed == null ? settings.leastTokensToJudge() : settings.leastTokensToChoose();
            if (length < least || queryCount == 0 || sealed == 0) {
                return;
            }
        }
        if (decided == null) {
            densePreference = work.densePreference(this, queryCount);
            decided = densePreference > settings.threshold() ? LayerKind.QUANTIZED : LayerKind.RETRIEVAL;
        }
        if (decided == LayerKind.QUANTIZED) {
            quantize(work);
        } else {
            retrieve(work);
        }
        kind = decided;
        FlightEvents.settled(index, decided.label(), densePreference, length);
        if (queries != 0) {
            gpu.synchronize();
            model.budget().free(queries);
            deviceBytes -= queryBytes;
            queries = 0;
        }
    }

    private void quantize(GpuWorkspace work) {
        if (sealed == 0) {
            return;
        }
        for (int block = 0; block < sealed; block++) {
            take(BlockTable.PACKED, block, model.packed());
        }
        gpu.launch(model.kernels().sealPacked, shape.kvHeads(), sealed, 1, false, work.describe(this), 0, 0);
        for (int block = 0; block < sealed; block++) {
            give(BlockTable.INDEX, block, model.index());
            give(BlockTable.ROWS, block, model.rows(index));
            give(BlockTable.HOST_ROWS, block, model.rows(index));
        }
    }

    private void retrieve(GpuWorkspace work) {
        if (!channelsChosen) {
            channelsChosen = true;
            MemorySegment arguments = work.describe(this);
            gpu.launch(model.kernels().chooseIndexed, shape.kvHeads(), 1, 1, false, arguments, queryCount);
            gpu.launch(model.kernels().fillIndex, shape.kvHeads(), sealed, 1, false, arguments);
        }
        for (int block = 0; block < sealed; block++) {
            long copy = table.get(BlockTable.HOST_ROWS, block);
            if (copy != 0) {
                give(BlockTable.ROWS, block, model.rows(index));
                table.set(BlockTable.ROWS, block, copy, true);
                table.clear(BlockTable.HOST_ROWS, block);
            }
        }
    }

    LayerStatistics statistics() {
        LayerKind known = kind == null ? fixed : kind;
        String label = known == null ? LayerStatistics.OPEN : known.label();
        long resident = deviceBytes + table.bytesOnDevice() + rangeBytes + listBytes;
        return new LayerStatistics(index, label, densePreference, length, resident, hostBytes);
    }

    @Override
    public void close() {
        if (closed) {
            return;
        }
        closed = true;
        for (int block = 0; block < tileEnd; block++) {
            dropSealed(block);
            give(BlockTable.TILE, block, model.tiles());
        }
        if (queries != 0) {
            model.budget().free(queries);
            queries = 0;
        }
        model.budget().free(ranges);
        table.close();
        sealed = 0;
        tileEnd = 0;
        length = 0;
    }
}
