package io.github.tailorkv.jlama;

import com.github.tjake.jlama.model.AbstractModel;
import com.github.tjake.jlama.model.TransformerBlock;
import com.github.tjake.jlama.model.functions.EmbedInput;
import com.github.tjake.jlama.tensor.KvBufferCache;
import io.github.tailorkv.config.Settings;
import io.github.tailorkv.kernels.AttentionKernels;
import io.github.tailorkv.kernels.AttentionShape;
import io.github.tailorkv.kernels.KernelLadder;
import io.github.tailorkv.spi.KvCacheProvider;
import io.github.tailorkv.spi.ModelCache;
import io.github.tailorkv.spi.ModelShape;
import java.lang.System.Logger;
import java.lang.System.Logger.Level;
import java.util.Arrays;
import java.util.Optional;
import org.jspecify.annotations.Nullable;

/**
 * The fields of a model that change: its layers, its cache, and for learned positions its embedding. Everything new is
 * built, and the provider tested, before the first field is written; the writes are undone if the result is not what it
 * should be.
 */
final class Replacement {
    private static final Logger LOG = System.getLogger("io.github.tailorkv");

    private final TransformerBlock[] blocks;
    private final KvBufferCache cache;
    private final @Nullable EmbedInput embedding;

    private Replacement(TransformerBlock[] blocks, KvBufferCache cache, @Nullable EmbedInput embedding) {
        this.blocks = blocks;
        this.cache = cache;
        this.embedding = embedding;
    }

    /**
     * Serves a model by a provider.
     *
     * @throws RuntimeException if that cannot be done; the model is as it was
     */
    static void put(
            AbstractModel model, JlamaSymbols symbols, TransformerBlock[] blocks, KvCacheProvider provider,
            ModelShape shape, Settings settings) {
        Replacement stock = new Replacement(blocks, symbols.bufferCache(model), symbols.embedding(model));
        ModelCache modelCache = provider.open(shape, settings);
        boolean done = false;
        try {
            SelfTest.complaint(modelCache, shape.attention()).ifPresent(complaint -> {
                throw new IllegalStateException(
                        "the self-test of provider " + provider.name() + " failed: " + complaint);
            });
            var cache = new TailorKvBufferCache(model, provider, modelCache, shape, settings);
            Replacement ours = stock.replaced(model, symbols, cache, shape, settings);
            ours.write(model, symbols);
            ours.verify(model, symbols);
            done = true;
        } finally {
            if (!done) {
                stock.write(model, symbols);
                modelCache.close();
            }
        }
        model.getConfig().ropeFreqs.ifPresent(Replacement::release);
        AttentionShape attention = shape.attention();
        LOG.log(Level.INFO, "TailorKV serves this " + shape.name() + " model (" + shape.layers() + " layers, "
                + attention.heads() + " query and " + attention.kvHeads() + " KV heads of " + attention.headSize()
                + "): provider " + provider.name() + ", backend " + modelCache.backend() + ", policy "
                + modelCache.policy());
    }

    private Replacement replaced(
            AbstractModel model, JlamaSymbols symbols, TailorKvBufferCache ours, ModelShape shape, Settings settings) {
        Optional<RotaryTable> rotary = model.getConfig().ropeFreqs
                .map(table -> RotaryTable.copyOf(table, shape.attention().headSize()));
        var bridge = new ModelBridge(ours, shape.attention(), rotary, kernels(settings.backend()));
        TransformerBlock[] served = new TransformerBlock[blocks.length];
        for (int i = 0; i < served.length; i++) {
            var attention = new TailorKvAttention(model, symbols.attention(blocks[i]), i, bridge, symbols);
            served[i] = new TailorKvBlock(model, blocks[i], i, served.length, attention, ours, symbols);
        }
        EmbedInput checked = embedding == null || rotary.isPresent()
                ? embedding
                : new LearnedPositions(embedding, model, shape.contextLength());
        return new Replacement(served, ours, checked);
    }

    /** For the work around the attention; where that itself runs is the provider's to say. */
    private static AttentionKernels kernels(Settings.Backend backend) {
        return KernelLadder.choose(backend == Settings.Backend.SCALAR ? "scalar" : "auto");
    }

    private void write(AbstractModel model, JlamaSymbols symbols) {
        symbols.setBlocks(model, blocks);
        symbols.setBufferCache(model, cache);
        symbols.setEmbedding(model, embedding);
    }

    private void verify(AbstractModel model, JlamaSymbols symbols) {
        TransformerBlock[] taken = symbols.blocks(model);
        boolean attention = taken != null && Arrays.stream(taken)
                .allMatch(block -> symbols.attention(block) instanceof TailorKvAttention);
        if (!attention || !symbols.bufferCache(model).equals(cache)) {
            throw new IllegalStateException("the model did not take the new attention and cache");
        }
    }

    /** Jlama's table of angles is millions of small arrays, and nothing but its own attention reads them. */
    private static void release(float[][] frequencies) {
        Arrays.fill(frequencies, null);
    }
}
