package io.github.tailorkv.jlama;

import com.github.tjake.jlama.model.AbstractModel;
import com.github.tjake.jlama.model.DistributedContext;
import com.github.tjake.jlama.model.ModelSupport.ModelType;
import com.github.tjake.jlama.model.TransformerBlock;
import com.github.tjake.jlama.safetensors.Config;
import com.github.tjake.jlama.safetensors.DType;
import com.github.tjake.jlama.util.PhysicalCoreExecutor;
import io.github.tailorkv.config.Settings;
import io.github.tailorkv.config.SettingsException;
import io.github.tailorkv.kernels.AttentionShape;
import io.github.tailorkv.spi.KvCacheProvider;
import io.github.tailorkv.spi.ModelShape;
import java.io.File;
import java.lang.System.Logger;
import java.lang.System.Logger.Level;
import java.nio.file.Path;
import java.util.Optional;
import java.util.UUID;
import org.jspecify.annotations.Nullable;

/**
 * Decides whether a loaded model is served, and by which provider. A model that is not stays as it is, and one line says
 * why.
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
            Replacement.put(model, symbols, blocks, provider, shape, settings);
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
}
