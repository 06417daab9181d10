package io.github.tailorkv.jlama;

import com.github.tjake.jlama.model.AbstractModel;
import com.github.tjake.jlama.model.DistributedContext;
import com.github.tjake.jlama.model.ModelSupport.ModelType;
import com.github.tjake.jlama.model.TransformerBlock;
import com.github.tjake.jlama.safetensors.Config;
import com.github.tjake.jlama.safetensors.DType;
import com.github.tjake.jlama.tensor.KvBufferCache;
import com.github.tjake.jlama.util.PhysicalCoreExecutor;
import io.github.tailorkv.config.Settings;
import io.github.tailorkv.config.SettingsException;
import io.github.tailorkv.kernels.AttentionKernels;
import io.github.tailorkv.kernels.AttentionShape;
import io.github.tailorkv.kernels.KernelLadder;
import io.github.tailorkv.spi.KvCacheProvider;
import io.github.tailorkv.spi.ModelCache;
import io.github.tailorkv.spi.ModelShape;
import java.io.File;
import java.lang.System.Logger;
import java.lang.System.Logger.Level;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Optional;
import java.util.UUID;
import org.jspecify.annotations.Nullable;

/**
 * Puts our attention and cache under a loaded model, or leaves it as it is and says why in one line. Everything new is
 * built and tested before the first field of the model is written; the two writes are undone if the result is not what it
 * should be.
 */
public final class Installer {
    private static final Logger LOG = System.getLogger("io.github.tailorkv");

    private Installer() {}

    /**
     * Installs TailorKV in a model; does nothing if it is there already. The parameter is an {@code Object} because the
     * hook woven into Jlama calls this through a loader that need not know Jlama.
     *
     * @throws SettingsException if a {@code tailorkv.*} property has a value that is not allowed
     */
    public static void install(Object model) {
        install(model, null);
    }

    /**
     * As {@link #install(Object)}, for a caller that knows where the model was loaded from.
     *
     * @param folder the model's folder or a file in it, where a profile may lie; null if it is not known
     */
    public static void install(Object model, @Nullable File folder) {
        JlamaSymbols symbols;
        try {
            symbols = JlamaSymbols.resolve();
        } catch (JlamaSymbols.MismatchException | LinkageError e) {
            LOG.log(Level.WARNING, "TailorKV stands aside: it was built for Jlama " + JlamaSymbols.BUILT_FOR
                    + ", and this one lacks " + e.getMessage());
            return;
        }
        synchronized (model) {
            if (model instanceof AbstractModel jlama && !(symbols.bufferCache(jlama) instanceof TailorKvBufferCache)) {
                install(jlama, symbols, Optional.ofNullable(folder));
            }
        }
    }

    /** Forgets a session of a model and frees its memory. */
    public static void closeSession(AbstractModel model, UUID session) {
        try {
            if (JlamaSymbols.resolve().bufferCache(model) instanceof TailorKvBufferCache cache) {
                cache.forget(session);
            }
        } catch (JlamaSymbols.MismatchException e) {
            LOG.log(Level.DEBUG, "No session to close, TailorKV is not installed", e);
        }
    }

    private static void install(AbstractModel model, JlamaSymbols symbols, Optional<File> folder) {
        ModelType type = model.getModelType();
        TransformerBlock[] blocks = symbols.blocks(model);
        if (type == ModelType.BERT) {
            LOG.log(Level.DEBUG, "TailorKV leaves {0} as it is: no decoder, so no KV cache", type);
            return;
        }
        if (blocks == null || blocks.length == 0) {
            LOG.log(Level.DEBUG, "TailorKV leaves this {0} as it is: it runs no layers in this process", type);
            return;
        }
        Optional<String> obstacle = obstacle(model);
        if (obstacle.isPresent()) {
            standAside(type, obstacle.get());
            return;
        }
        Settings settings = Settings.fromSystemProperties();
        KvCacheProvider provider = Providers.named(settings.provider());
        ModelShape shape = shape(model, blocks.length, folder);
        Optional<String> unsupported = provider.unsupported(shape);
        if (unsupported.isPresent()) {
            standAside(type, "provider " + provider.name() + ": " + unsupported.get());
            return;
        }
        try {
            replace(model, symbols, blocks, provider, shape, settings);
        } catch (SettingsException e) {
            throw e;
        } catch (RuntimeException | LinkageError e) {
            LOG.log(Level.WARNING, "TailorKV stands aside from this " + type + " model, which runs unchanged: " + e);
            LOG.log(Level.DEBUG, "The cause", e);
        }
    }

    private static void standAside(ModelType type, String reason) {
        LOG.log(Level.WARNING, "TailorKV stands aside from this " + type + " model, which runs unchanged: " + reason);
    }

    static Optional<String> obstacle(AbstractModel model) {
        Config config = model.getConfig();
        DistributedContext context = config.dctx();
        DType working = model.getWorkingDType();
        if (working != DType.F32 && working != DType.BF16) {
            return Optional.of("its working type is " + working + ", not F32 or BF16");
        }
        boolean whole = context.attentionSegmentStart % config.headSize == 0
                && context.attentionSegmentLength % config.headSize == 0
                && context.kvSegmentStart % config.headSize == 0
                && context.kvSegmentLength % config.headSize == 0
                && context.kvSegmentLength > 0;
        return whole
                ? Optional.empty()
                : Optional.of("its shard cuts through a head (" + config.numberOfKeyValueHeads + " KV heads of "
                        + config.headSize + ")");
    }

    static ModelShape shape(AbstractModel model, int layers, Optional<File> folder) {
        Optional<Path> directory = folder.map(File::getAbsoluteFile)
                .map(file -> file.isFile() ? file.getParentFile() : file)
                .map(File::toPath);
        Config config = model.getConfig();
        DistributedContext context = config.dctx();
        float scale = config.attentionMultiplier != null
                ? config.attentionMultiplier
                : (float) (1 / StrictMath.sqrt(config.headSize));
        float softCap = config.attnLogitSoftCapping != null ? config.attnLogitSoftCapping : 0;
        AttentionShape attention = new AttentionShape(
                context.attentionSegmentLength / config.headSize, context.kvSegmentLength / config.headSize,
                config.headSize,
                scale, softCap);
        return new ModelShape(
                model.getModelType().name(), layers, attention, config.contextLength,
                model.getWorkingDType() == DType.BF16, PhysicalCoreExecutor.instance.get().getCoreCount(), directory);
    }

    static void replace(
            AbstractModel model, JlamaSymbols symbols, TransformerBlock[] stock, KvCacheProvider provider,
            ModelShape shape,
            Settings settings) {
        KvBufferCache stockCache = symbols.bufferCache(model);
        ModelCache modelCache = provider.open(shape, settings);
        boolean done = false;
        try {
            SelfTest.complaint(modelCache, shape.attention()).ifPresent(complaint -> {
                throw new IllegalStateException(
                        "the self-test of provider " + provider.name() + " failed: " + complaint);
            });
            var cache = new TailorKvBufferCache(model, provider, modelCache, shape, settings);
            Optional<RotaryTable> rotary = model.getConfig().ropeFreqs
                    .map(table -> RotaryTable.copyOf(table, shape.attention().headSize()));
            var bridge = new ModelBridge(cache, shape.attention(), rotary, kernels(settings.backend()));
            TransformerBlock[] blocks = new TransformerBlock[stock.length];
            for (int i = 0; i < stock.length; i++) {
                var attention = new TailorKvAttention(model, symbols.attention(stock[i]), i, bridge, symbols);
                blocks[i] = new TailorKvBlock(model, stock[i], i, stock.length, attention, cache, symbols);
            }
            symbols.setBlocks(model, blocks);
            symbols.setBufferCache(model, cache);
            verify(model, symbols, cache);
            done = true;
        } finally {
            if (!done) {
                symbols.setBlocks(model, stock);
                symbols.setBufferCache(model, stockCache);
                modelCache.close();
            }
        }
        model.getConfig().ropeFreqs.ifPresent(Installer::release);
        AttentionShape attention = shape.attention();
        LOG.log(Level.INFO, "TailorKV serves this " + shape.name() + " model (" + shape.layers() + " layers, "
                + attention.heads() + " query and " + attention.kvHeads() + " KV heads of " + attention.headSize()
                + "): provider " + provider.name() + ", backend " + modelCache.backend() + ", policy "
                + modelCache.policy());
    }

    /** For the work around the attention; where that itself runs is the provider's to say. */
    private static AttentionKernels kernels(Settings.Backend backend) {
        return KernelLadder.choose(backend == Settings.Backend.SCALAR ? "scalar" : "auto");
    }

    private static void verify(AbstractModel model, JlamaSymbols symbols, TailorKvBufferCache cache) {
        TransformerBlock[] blocks = symbols.blocks(model);
        if (blocks == null || symbols.bufferCache(model) != cache) {
            throw new IllegalStateException("the model did not take the new cache");
        }
        for (TransformerBlock block : blocks) {
            if (!(symbols.attention(block) instanceof TailorKvAttention)) {
                throw new IllegalStateException("the model did not take the new attention");
            }
        }
    }

    /** Jlama's table of angles is millions of small arrays; nothing but its own attention reads them. */
    private static void release(float[][] frequencies) {
        Arrays.fill(frequencies, null);
    }
}
