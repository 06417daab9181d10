package io.github.tailorkv.cuda;

import io.github.tailorkv.config.Settings;
import io.github.tailorkv.kernels.AttentionShape;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;

/** The dense preference of a layer (TailorKV, section 3.2), from histograms that the device makes of attention weights. */
final class GpuPreference {

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
    private final ExpandedTokens expanded;

    GpuPreference(
            Gpu gpu, GpuBudget budget, GpuKernels kernels, AttentionShape shape, Settings settings,
            ExpandedTokens expanded) {
        this.gpu = gpu;
        this.budget = budget;
        this.kernels = kernels;
        this.shape = shape;
        this.settings = settings;
        this.expanded = expanded;
    }

    /**
     * The dense preference score of a layer from its newest queries, in [0, 1].
     *
     * @param arguments that describe the layer
     */
    double of(GpuLayer layer, int queries, MemorySegment arguments) {
        int length = layer.length();
        int group = shape.groupSize();
        int rows = queries * group;
        int rowTiles = (rows + GpuKernels.PREFERENCE_ROWS - 1) / GpuKernels.PREFERENCE_ROWS;
        int splits = Math.clamp(2 * gpu.multiprocessors() / (rowTiles * shape.kvHeads()) + 1, 1, 16);
        int segmentTokens = expanded.segmentTokens();
        int segments = (length + segmentTokens - 1) / segmentTokens;
        int parts = splits * segments;
        long partBytes = GpuWorkspace.aligned((long) shape.kvHeads() * rows * parts * 2 * Float.BYTES);
        long countBytes = (long) shape.kvHeads() * rows * GpuKernels.PREFERENCE_BINS * Integer.BYTES;
        try (GrowingDeviceMemory memory = new GrowingDeviceMemory(gpu, budget)) {
            long partial = memory.atLeast(partBytes + countBytes);
            long counts = partial + partBytes;
            gpu.clear(counts, countBytes);
            for (int segment = 0; segment < segments; segment++) {
                int first = segment * segmentTokens;
                int end = Math.min(length, first + segmentTokens);
                expanded.expand(arguments, first, first, end, length, false);
                gpu.launch(
                        kernels.preferenceSums, splits, rowTiles, shape.kvHeads(), false, arguments, expanded.keys(),
                        first, end, segmentTokens, kernels.paddedHeadSize, queries, length, partial, segment * splits,
                        parts);
            }
            for (int segment = 0; segment < segments; segment++) {
                int first = segment * segmentTokens;
                int end = Math.min(length, first + segmentTokens);
                expanded.expand(arguments, first, first, end, length, false);
                gpu.launch(
                        kernels.preferenceWeights, splits, rowTiles, shape.kvHeads(), false, arguments,
                        expanded.keys(), first, end, segmentTokens, kernels.paddedHeadSize, queries, length, partial,
                        parts, counts);
            }
            return read(counts, countBytes, rows, row -> length - queries + row % rows / group + 1);
        }
    }

    private interface Seen {
        int tokens(int row);
    }

    private double read(long counts, long countBytes, int rows, Seen seen) {
        Gpu.Pinned result = gpu.allocatePinned(countBytes);
        try {
            gpu.download(counts, result, 0, countBytes);
            gpu.synchronize();
            double outside = 0;
            for (int row = 0; row < shape.kvHeads() * rows; row++) {
                int keep = Math.max(1, (int) (settings.keep() * seen.tokens(row)));
                outside += 1 - topMass(result.segment(), row, keep);
            }
            return outside / ((double) shape.kvHeads() * rows);
        } finally {
            gpu.freePinned(result);
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
}
