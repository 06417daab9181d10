package io.github.tailorkv.cache;

import io.github.tailorkv.config.LayerKind;
import io.github.tailorkv.config.Settings;
import io.github.tailorkv.kernels.KernelLadder;
import io.github.tailorkv.kernels.BlockLayout;
import io.github.tailorkv.spi.ModelShape;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;

/**
 * What sessions of a model will hold under given settings, for lengths that nobody has run: the storage of each kind of
 * layer is made for some blocks and asked for its size.
 */
public final class MemoryEstimate {
    private static final int BLOCKS = 128;

    private final ModelShape shape;
    private final Settings settings;
    private final Map<LayerKind, double[]> perBlock = new EnumMap<>(LayerKind.class);

    /** @param shape of the model */
    public MemoryEstimate(ModelShape shape, Settings settings) {
        this.shape = shape;
        this.settings = settings;
        LayerContext context = new LayerContext(
                shape.attention(), settings, KernelLadder.choose("auto"), Map.of(), shape.bfloat16());
        for (LayerKind kind : List.of(LayerKind.QUANTIZED, LayerKind.RETRIEVAL)) {
            perBlock.put(kind, measure(context, kind));
        }
    }

    private static double[] measure(LayerContext context, LayerKind kind) {
        Workers workers = new Workers(1);
        SealedBlocks blocks = context.openBlocks();
        try {
            blocks.add(BLOCKS);
            blocks = context.convert(blocks, kind, null, workers);
            return new double[] {
                (double) blocks.residentBytes() / BLOCKS, (double) blocks.offloadedBytes() / BLOCKS};
        } finally {
            blocks.close();
            workers.close();
        }
    }

    /** Bytes in RAM that a session of so many tokens holds, its layers being of these kinds. */
    public double resident(List<LayerKind> kinds, int tokens) {
        double sum = 0;
        for (LayerKind kind : kinds) {
            double[] bytes = perBlock.get(kind);
            sum += bytes == null ? exact(tokens) : tiles(window(kind, tokens) + 1) + bytes[0] * sealed(kind, tokens);
        }
        return sum;
    }

    /** Bytes in the offload tier. */
    public double offloaded(List<LayerKind> kinds, int tokens) {
        double sum = 0;
        for (LayerKind kind : kinds) {
            double[] bytes = perBlock.get(kind);
            sum += bytes == null ? 0 : bytes[1] * sealed(kind, tokens);
        }
        return sum;
    }

    private double exact(int tokens) {
        return (double) shape.stockBytesPerToken() / shape.layers() * tokens;
    }

    private int window(LayerKind kind, int tokens) {
        return tokens - sealed(kind, tokens) * BlockLayout.BLOCK;
    }

    private int sealed(LayerKind kind, int tokens) {
        int exact = kind == LayerKind.QUANTIZED ? settings.residual() : settings.recent();
        return Math.max(0, (tokens - exact) / BlockLayout.BLOCK);
    }

    private double tiles(int tokens) {
        return Math.ceil((double) tokens / BlockLayout.BLOCK) * LayerCache.tileBytes(shape.attention());
    }
}
