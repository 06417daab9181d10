package io.github.tailorkv.cuda;

import io.github.tailorkv.config.LayerKind;
import io.github.tailorkv.config.Settings;
import io.github.tailorkv.config.SettingsException;
import io.github.tailorkv.kernels.AttentionShape;
import io.github.tailorkv.kernels.CudaImage;
import io.github.tailorkv.spi.ModelCache;
import io.github.tailorkv.spi.ModelShape;
import java.util.Map;
import java.util.Optional;
import java.util.function.Supplier;
import org.jspecify.annotations.Nullable;

/**
 * The way in: opens a model's cache on the GPU, or says why not. Forced ({@code tailorkv.backend=cuda}), a reason against
 * it is an error; with {@code auto} it is one line in the log and the CPU serves.
 */
public final class CudaBackend {

    private static final System.Logger LOG = System.getLogger("io.github.tailorkv");

    private CudaBackend() {}

    /** Makes a device from the kernels' image; throws {@link GpuException} where there is none. */
    interface Opener {
        Gpu open(byte[] image);
    }

    /**
     * What is decided before the first prompt.
     *
     * @param kinds kind by layer; a layer that is missing is decided by each prompt
     * @param origin the policy in force, for logs and the report
     */
    public record LayerPolicy(Map<Integer, LayerKind> kinds, String origin) {

        public LayerPolicy {
            kinds = Map.copyOf(kinds);
        }
    }

    /**
     * The model's cache on the GPU; empty where the settings ask for the CPU, or leave the choice and there is no usable
     * GPU.
     *
     * @param policy asked only if there is a GPU
     * @param cpu opens the cache on the CPU, for sessions after the GPU was lost
     * @throws SettingsException if the GPU is asked for and cannot serve
     */
    public static Optional<ModelCache> open(
            ModelShape shape, Settings settings, Supplier<LayerPolicy> policy, Supplier<ModelCache> cpu) {
        return open(shape, settings, policy, cpu, image -> JCudaGpu.open(0, image));
    }

    static Optional<ModelCache> open(
            ModelShape shape, Settings settings, Supplier<LayerPolicy> policy, Supplier<ModelCache> cpu,
            Opener opener) {
        boolean forced = settings.backend() == Settings.Backend.CUDA;
        if (!forced && settings.backend() != Settings.Backend.AUTO) {
            return Optional.empty();
        }
        String reason;
        try {
            Optional<String> unsupported = unsupported(shape.attention(), settings);
            if (unsupported.isEmpty()) {
                return Optional.of(onGpu(shape, settings, policy, forced ? null : cpu, opener));
            }
            reason = unsupported.get();
        } catch (GpuException e) {
            reason = String.valueOf(e.getMessage());
        }
        if (forced) {
            throw new SettingsException("tailorkv.backend=cuda cannot be served: " + reason
                    + "; use tailorkv.backend=auto to run on the CPU where there is no usable GPU");
        }
        LOG.log(System.Logger.Level.INFO, "No GPU is used, attention runs on the CPU: " + reason);
        return Optional.empty();
    }

    private static ModelCache onGpu(
            ModelShape shape, Settings settings, Supplier<LayerPolicy> policy, @Nullable Supplier<ModelCache> cpu,
            Opener opener) {
        byte[] image = CudaImage.load()
                .orElseThrow(() -> new GpuException(GpuException.Kind.UNUSABLE, "the jar holds no GPU kernels"));
        Gpu gpu = opener.open(image);
        try {
            GpuModel model = new GpuModel(gpu, shape, settings, policy.get(), cpu);
            LOG.log(System.Logger.Level.INFO, "Attention runs on " + gpu.name());
            return model;
        } catch (RuntimeException e) {
            gpu.close();
            throw e;
        }
    }

    /** Why the kernels cannot serve a model under these settings; empty if they can. */
    static Optional<String> unsupported(AttentionShape shape, Settings settings) {
        int headSize = shape.headSize();
        int chunks = (shape.groupSize() + GpuKernels.CHUNK_HEADS - 1) / GpuKernels.CHUNK_HEADS;
        if (headSize % 16 != 0 || headSize < 64 || headSize > 256) {
            return Optional.of("its head size " + headSize + " is not a multiple of 16 from 64 to 256");
        }
        if (shape.groupSize() > GpuArguments.MAX_GROUP || shape.kvHeads() * chunks > GpuArguments.COUNTERS) {
            return Optional.of(shape.heads() + " query heads and " + shape.kvHeads() + " KV heads are too many");
        }
        if (settings.tail()) {
            return Optional.of("tailorkv.tail=true is served on the CPU only");
        }
        if (settings.offload() == Settings.Offload.DISK) {
            return Optional.of("tailorkv.offload=disk is served on the CPU only");
        }
        if (settings.rows() == Settings.Rows.INT4) {
            return Optional.of("tailorkv.rows=int4 is served on the CPU only");
        }
        return Optional.empty();
    }
}
