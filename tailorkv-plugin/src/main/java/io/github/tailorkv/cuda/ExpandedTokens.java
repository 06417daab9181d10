package io.github.tailorkv.cuda;

import io.github.tailorkv.kernels.AttentionShape;
import io.github.tailorkv.kernels.BlockLayout;
import java.lang.foreign.MemorySegment;

/**
 * Keys and values of a segment of the context in BF16, as tensor cores take them. A context is attended segment by segment,
 * so that what the expansion takes of the device does not grow with it.
 */
final class ExpandedTokens implements AutoCloseable {

    private static final long SEGMENT_BYTES = 64L << 20;

    private final Gpu gpu;
    private final GpuKernels kernels;
    private final AttentionShape shape;
    private final GrowingDeviceMemory memory;
    private final int segmentTokens;
    private final long tokenBytes;

    ExpandedTokens(Gpu gpu, GpuBudget budget, GpuKernels kernels, AttentionShape shape) {
        this.gpu = gpu;
        this.kernels = kernels;
        this.shape = shape;
        memory = new GrowingDeviceMemory(gpu, budget);
        tokenBytes = (long) kernels.paddedHeadSize * Short.BYTES;
        segmentTokens = Math.clamp(SEGMENT_BYTES / (2L * shape.kvHeads() * tokenBytes), 1024, 65536)
                & -kernels.tileTokens;
    }

    /** The most tokens of a segment, whole tiles. */
    int segmentTokens() {
        return segmentTokens;
    }

    /** Address of the keys, {@code [kvHead][segmentTokens][padded]}. */
    long keys() {
        return memory.atLeast(2 * partBytes());
    }

    /** Address of the values, likewise. */
    long values() {
        return keys() + partBytes();
    }

    private long partBytes() {
        return (long) shape.kvHeads() * segmentTokens * tokenBytes;
    }

    /**
     * Brings the tokens {@code [from, end)} of the segment that begins at {@code first} to BF16; nothing if there are none.
     *
     * @param arguments that describe the layer
     * @param from whole tiles behind {@code first}
     * @param length tokens that the layer holds; zeros stand for what a last tile has room for behind them
     * @param tiles whether in tiles as warpgroups multiply them, or row by row
     */
    void expand(MemorySegment arguments, int first, int from, int end, int length, boolean tiles) {
        if (from >= end) {
            return;
        }
        int unit = tiles ? kernels.tileTokens : BlockLayout.BLOCK;
        int blocks = (end - from + unit - 1) / unit * (unit / BlockLayout.BLOCK);
        long offset = (from - first) * tokenBytes;
        gpu.launch(
                kernels.expand, blocks, shape.kvHeads(), 1, false, arguments, from / BlockLayout.BLOCK, length,
                segmentTokens, kernels.paddedHeadSize, tiles ? 1 : 0, keys() + offset, values() + offset);
    }

    @Override
    public void close() {
        memory.close();
    }
}
