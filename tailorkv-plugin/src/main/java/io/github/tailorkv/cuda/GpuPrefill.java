package io.github.tailorkv.cuda;

import io.github.tailorkv.kernels.AttentionShape;
import io.github.tailorkv.kernels.BlockLayout;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;

/**
 * Attention of a chunk of a prompt, segment by segment of the context: sealed blocks and tiles are brought to BF16, then the
 * tensor cores attend to them; every token before the chunk is attended in the precision it is stored in (8 bits while the
 * layer is open) rounded to BF16, as are the chunk's own.
 *
 * <p>Up to some ten thousand tokens the way to the GPU and back takes as long as the attention, and what the host does no less.
 * So rows are sent first of all, the tokens of the past are expanded while they are on their way, the chunk is attended from
 * in waves, and what is left to do for the layer, such as sealing, is asked for before the output is waited for.
 */
final class GpuPrefill implements AutoCloseable {

    private static final int MOST_SPLITS = 32;
    private static final int MOST_WAVES = 2;
    /** Segments of a context up to which a chunk is attended from in waves. */
    private static final int MOST_SEGMENTS = 2;

    private final Gpu gpu;
    private final GpuKernels kernels;
    private final AttentionShape shape;
    private final GpuStaging staging;
    private final ExpandedTokens expanded;
    private final GrowingDeviceMemory states;
    private final GrowingDeviceMemory outputs;

    GpuPrefill(
            Gpu gpu, GpuBudget budget, GpuKernels kernels, AttentionShape shape, GpuStaging staging,
            ExpandedTokens expanded) {
        this.gpu = gpu;
        this.kernels = kernels;
        this.shape = shape;
        this.staging = staging;
        this.expanded = expanded;
        states = new GrowingDeviceMemory(gpu, budget);
        outputs = new GrowingDeviceMemory(gpu, budget);
    }

    /**
     * Appends {@code n} tokens and attends from each.
     *
     * @param firstToken the first of them in the rows
     * @param meanwhile run when all is asked for and nothing is there yet; the layer holds the tokens by then
     */
    void attend(
            GpuLayer layer, int n, MemorySegment q, MemorySegment k, MemorySegment v, MemorySegment out,
            long firstToken, GpuArguments arguments, Runnable meanwhile) {
        Waves waves = new Waves(n, layer.length() + n);
        try {
            staging.send(n, waves.queries(0), q, k, v, firstToken);
            layer.reserve(n);
            layer.describe(arguments);
            staging.describe(arguments, n, staging.outputOnDevice(n));
            List<GpuStaging.Part> parts = launch(waves, layer.length(), n, q, out, firstToken, arguments.struct(),
                    layer.remembers());
            layer.advance(n);
            meanwhile.run();
            staging.take(parts, out, firstToken);
        } catch (RuntimeException | Error e) {
            leaveRows(e);
            throw e;
        }
    }

    /** Waits until nothing reads or writes the caller's rows any more. */
    private void leaveRows(Throwable cause) {
        try {
            gpu.synchronize();
        } catch (GpuException e) {
            cause.addSuppressed(e);
        }
    }

    /**
     * A chunk's rows in stretches one after the other: while one is attended from, the queries of the next are on their way to the
     * device, and the output of the last to the host. Where the context is long this is no part of the whole any more, and
     * less would be shared.
     */
    private final class Waves {

        private final int n;
        private final int tiles;
        private final int count;

        Waves(int n, int length) {
            this.n = n;
            tiles = (n * shape.groupSize() + kernels.prefillRows - 1) / kernels.prefillRows;
            count = length <= MOST_SEGMENTS * expanded.segmentTokens() ? Math.min(tiles, MOST_WAVES) : 1;
        }

        /** The first tile of rows of a wave. */
        int tile(int wave) {
            return tiles * wave / count;
        }

        /** Tokens whose queries a wave and those before it need. */
        int queries(int wave) {
            int group = shape.groupSize();
            return Math.min(n, (tile(wave + 1) * kernels.prefillRows + group - 1) / group);
        }

        /** Tokens all of whose heads have been attended from in the waves before this one. */
        int attended(int wave) {
            return Math.min(n, tile(wave) * kernels.prefillRows / shape.groupSize());
        }
    }

    private List<GpuStaging.Part> launch(
            Waves waves, int before, int n, MemorySegment q, MemorySegment out, long firstToken,
            MemorySegment arguments, int remembered) {
        int length = before + n;
        int segmentTokens = expanded.segmentTokens();
        int known = Math.min(before, segmentTokens) & -kernels.tileTokens;
        expanded.expand(arguments, 0, 0, known, length, kernels.tiled);
        gpu.follow();
        for (int wave = 1; wave < waves.count; wave++) {
            staging.sendQueries(waves.queries(wave - 1), waves.queries(wave), q, firstToken);
        }
        gpu.launch(kernels.append, n, shape.kvHeads(), 1, false, arguments);

        int paddedRows = waves.tiles * kernels.prefillRows;
        int blocks = (length + BlockLayout.BLOCK - 1) / BlockLayout.BLOCK;
        int waveTiles = (waves.tiles + waves.count - 1) / waves.count;
        int splits = Math.clamp(kernels.prefill.residentBlocks() / (waveTiles * shape.kvHeads()), 1, MOST_SPLITS);
        splits = Math.min(splits, Math.max(1, Math.min(blocks, segmentTokens / BlockLayout.BLOCK) / 4));
        long stateRows = (long) splits * shape.kvHeads() * paddedRows;
        long state = states.atLeast(stateRows * 2 * Float.BYTES);
        long acc = outputs.atLeast(stateRows * kernels.paddedHeadSize * Float.BYTES);
        List<GpuStaging.Part> parts = new ArrayList<>();
        for (int first = 0; first < length; first += segmentTokens) {
            int end = Math.min(length, first + segmentTokens);
            expanded.expand(arguments, first, first == 0 ? known : first, end, length, kernels.tiled);
            for (int wave = 0; wave < waves.count; wave++) {
                if (first == 0 && wave > 0) {
                    gpu.follow();
                }
                int tile = waves.tile(wave);
                gpu.launch(
                        kernels.prefill, waves.tile(wave + 1) - tile, shape.kvHeads(), splits, false, arguments,
                        expanded.keys(), expanded.values(), first, end, segmentTokens, state, acc, paddedRows,
                        first == 0 ? 1 : 0, tile);
                if (end == length) {
                    combine(waves, wave, n, out, firstToken, arguments, state, acc, paddedRows, splits, parts);
                }
            }
        }
        if (remembered > 0) {
            gpu.launch(kernels.remember, Math.min(n, remembered), shape.kvHeads(), 1, false, arguments);
        }
        return parts;
    }

    /** Writes the output of the tokens that a wave completes, and has it fetched. */
    private void combine(
            Waves waves, int wave, int n, MemorySegment out, long firstToken, MemorySegment arguments, long state,
            long acc, int paddedRows, int splits, List<GpuStaging.Part> parts) {
        int first = waves.attended(wave);
        int tokens = (wave + 1 == waves.count ? n : waves.attended(wave + 1)) - first;
        int count = Math.min(tokens, staging.parts(out, Gpu.MARKS / waves.count));
        for (int i = 0; i < count; i++) {
            GpuStaging.Part part = new GpuStaging.Part(
                    first + tokens * i / count, first + tokens * (i + 1) / count);
            gpu.launch(
                    kernels.combine, part.to() - part.from(), shape.heads(), 1, false, arguments, state, acc,
                    paddedRows, kernels.paddedHeadSize, splits, part.from());
            staging.fetch(parts.size(), part, n, out, firstToken);
            parts.add(part);
        }
    }

    @Override
    public void close() {
        states.close();
        outputs.close();
    }
}
