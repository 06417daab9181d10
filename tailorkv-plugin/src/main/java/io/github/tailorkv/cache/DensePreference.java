package io.github.tailorkv.cache;

import io.github.tailorkv.kernels.AttentionKernels;
import io.github.tailorkv.kernels.AttentionShape;
import io.github.tailorkv.kernels.BlockLayout;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/**
 * The dense preference score of a layer (TailorKV, section 3.1): the attention mass that each of the newest queries
 * leaves outside its top tokens, P = 1 - mean over queries and heads of the mass on the top alpha of the tokens. Near 0
 * for a layer that attends to a few tokens, near 1 - alpha for one that attends to all alike.
 *
 * <p>The attention matrix is never held. The blocks are walked twice: once for each row's log-sum-exp, once to sort the
 * attention weights of each row into a histogram of their logarithms, from whose upper end the mass of the top tokens is
 * read. Bins are 1/32 wide in the natural logarithm; only within the bin where the count runs out is a mean weight taken
 * for the exact ones, which moves P by less than 1e-3.
 */
final class DensePreference {

    private static final int BINS = 1024;
    private static final float BINS_PER_UNIT = 32;

    /** Weights above e^-4 are few and may decide alone: they are summed exactly, the others as the middle of their bin. */
    private static final int EXACT_BINS = 4 * (int) BINS_PER_UNIT;

    private static final double[] MIDDLE = new double[BINS];

    static {
        for (int bin = 0; bin < BINS; bin++) {
            MIDDLE[bin] = Math.exp(-(bin + 0.5) / BINS_PER_UNIT);
        }
    }

    private final LayerContext context;
    private final LayerCache layer;
    private final RecentQueries queries;
    private final AttentionShape shape;

    DensePreference(LayerContext context, LayerCache layer, RecentQueries queries) {
        this.context = context;
        this.layer = layer;
        this.queries = queries;
        shape = context.shape();
    }

    /** The scores of the query heads, each in [0, 1]; that of the layer is their mean. */
    double[] perHead(Workers workers) {
        double[] outside = new double[shape.heads()];
        workers.run((head, slot) -> addOutside(head, outside), shape.kvHeads());
        for (int head = 0; head < outside.length; head++) {
            outside[head] /= queries.count();
        }
        return outside;
    }

    /** Adds the mass outside the top tokens, summed over the queries, for the query heads of a KV head. */
    private void addOutside(int head, double[] outside) {
        AttentionKernels kernels = context.kernels();
        int headSize = shape.headSize();
        int group = shape.groupSize();
        int rows = queries.count() * group;
        long rowBytes = (long) headSize * Float.BYTES;
        try (Arena arena = Arena.ofConfined();
                DecodeScratch tiles = new DecodeScratch(kernels, shape)) {
            MemorySegment q = arena.allocate(rows * rowBytes, 64);
            for (int i = 0; i < queries.count(); i++) {
                queries.copyGroup(i, head * group, group, headSize, q, (long) i * group * rowBytes);
            }
            MemorySegment scores = arena.allocate((long) rows * BlockLayout.BLOCK * Float.BYTES, 64);
            MemorySegment states = arena.allocate(8L * rows, 64);
            DecodeScratch.resetState(states, 0, rows);
            for (int block = 0; block < layer.blocks(); block++) {
                scoreBlock(block, head, q, rows, tiles, scores);
                for (int row = 0; row < rows; row++) {
                    kernels.logSumExpStep(scores, rowAt(row), visible(block, row / group), states, 8L * row);
                }
            }
            float[] logSumExp = new float[rows];
            for (int row = 0; row < rows; row++) {
                float sum = states.get(ValueLayout.JAVA_FLOAT, 8L * row + 4);
                logSumExp[row] = states.get(ValueLayout.JAVA_FLOAT, 8L * row) + (float) Math.log(sum);
            }
            double[][] mass = new double[rows][BINS];
            int[][] count = new int[rows][BINS];
            for (int block = 0; block < layer.blocks(); block++) {
                scoreBlock(block, head, q, rows, tiles, scores);
                for (int row = 0; row < rows; row++) {
                    int seen = visible(block, row / group);
                    for (int t = 0; t < seen; t++) {
                        float log = scores.get(ValueLayout.JAVA_FLOAT, rowAt(row) + 4L * t) - logSumExp[row];
                        int bin = Math.clamp((long) (-log * BINS_PER_UNIT), 0, BINS - 1);
                        mass[row][bin] += bin < EXACT_BINS ? Math.exp(log) : MIDDLE[bin];
                        count[row][bin]++;
                    }
                }
            }
            for (int row = 0; row < rows; row++) {
                int tokens = queries.position(row / group) + 1;
                outside[head * group + row % group] += 1 - topMass(mass[row], count[row], keep(tokens));
            }
        }
    }

    /** Tokens that count as top ones of {@code tokens}. */
    private int keep(int tokens) {
        return Math.max(1, (int) (context.settings().keep() * tokens));
    }

    private static double topMass(double[] mass, int[] count, int keep) {
        double top = 0;
        double all = 0;
        int left = keep;
        for (int bin = 0; bin < BINS; bin++) {
            all += mass[bin];
            if (left >= count[bin]) {
                top += mass[bin];
                left -= count[bin];
            } else {
                top += mass[bin] * left / count[bin];
                left = 0;
            }
        }
        return top / all;
    }

    private void scoreBlock(int block, int head, MemorySegment q, int rows, DecodeScratch tiles, MemorySegment scores) {
        int headSize = shape.headSize();
        long rowBytes = (long) headSize * Float.BYTES;
        MemorySegment tile = tiles.memory;
        long keys = tiles.keys;
        if (block < layer.sealedBlocks()) {
            layer.sealed().load(block, head, tile, keys, tiles.values);
        } else {
            tile = layer.tileSegment(block);
            keys = layer.keyTile(block, head);
        }
        context.kernels().scores(tile, keys, headSize, q, 0, rowBytes, rows, scores, 0);
        context.kernels().scaleScores(scores, 0, rows * BlockLayout.BLOCK, shape.scale(), shape.softCap());
    }

    private int visible(int block, int query) {
        return Math.clamp(queries.position(query) + 1L - (long) block * BlockLayout.BLOCK, 0, BlockLayout.BLOCK);
    }

    private static long rowAt(int row) {
        return 4L * row * BlockLayout.BLOCK;
    }
}
