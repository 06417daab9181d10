package io.github.tailorkv.cache;

import io.github.tailorkv.config.Settings;
import io.github.tailorkv.cuda.CudaBackend;
import io.github.tailorkv.spi.KvCacheProvider;
import io.github.tailorkv.spi.ModelCache;
import io.github.tailorkv.spi.ModelShape;
import java.util.Optional;

/** The cache of this project: exact, quantized and retrieval layers, on a GPU where there is one, else on the CPU. */
public final class HybridCacheProvider implements KvCacheProvider {

    @Override
    public String name() {
        return "hybrid";
    }

    @Override
    public Optional<String> unsupported(ModelShape shape) {
        int headSize = shape.attention().headSize();
        return headSize % 16 == 0
                ? Optional.empty()
                : Optional.of("its head size " + headSize + " is not a multiple of 16");
    }

    @Override
    public ModelCache open(ModelShape shape, Settings settings) {
        HybridModelCache.checkBudget(shape, settings);
        return CudaBackend.open(shape, settings, () -> gpuPolicy(shape, settings), () -> onCpu(shape, settings))
                .orElseGet(() -> onCpu(shape, settings));
    }

    private static CudaBackend.LayerPolicy gpuPolicy(ModelShape shape, Settings settings) {
        LayerKinds kinds = LayerKinds.of(shape, settings);
        return new CudaBackend.LayerPolicy(kinds.kinds(), kinds.origin());
    }

    private static ModelCache onCpu(ModelShape shape, Settings settings) {
        return new HybridModelCache(shape, settings);
    }
}
