package io.github.tailorkv.jlama;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.tailorkv.cache.HybridCacheProvider;
import io.github.tailorkv.config.Settings;
import io.github.tailorkv.kernels.AttentionShape;
import io.github.tailorkv.spi.ModelCache;
import io.github.tailorkv.spi.ModelShape;
import java.util.Optional;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class SelfTestTest {
    private static final AttentionShape SHAPE = new AttentionShape(6, 2, 32, 0.2f, 20);

    private static ModelShape model(boolean bfloat16) {
        return new ModelShape("LLAMA", 2, SHAPE, 1000, bfloat16, 1, Optional.empty());
    }

    @ParameterizedTest
    @ValueSource(strings = {"exact", "balanced", "compact", "paper"})
    void everyPresetPasses(String preset) {
        for (boolean bfloat16 : new boolean[] {false, true}) {
            try (ModelCache cache = new HybridCacheProvider().open(model(bfloat16), Settings.preset(preset))) {
                assertEquals(Optional.empty(), SelfTest.complaint(cache, SHAPE));
            }
        }
    }

    @Test
    void cacheThatAnswersNothingFails() {
        ModelCache silent = new CountingProvider().open(model(false), Settings.preset("exact"));
        assertTrue(SelfTest.complaint(silent, SHAPE).orElse("").startsWith("head 0 of token 0 gives 0.0 instead of "));
    }

    /** What a mistake in the geometry looks like: heads in other groups, another scale, no cap. */
    @Test
    void cacheOfAnotherGeometryFails() {
        for (AttentionShape other : new AttentionShape[] {
            new AttentionShape(6, 2, 32, 0.4f, 20),
            new AttentionShape(6, 2, 32, 0.2f, 0.5f),
            new AttentionShape(3, 1, 64, 0.2f, 20)}) {
            ModelShape shape = new ModelShape("LLAMA", 2, other, 1000, false, 1, Optional.empty());
            try (ModelCache cache = new HybridCacheProvider().open(shape, Settings.preset("exact"))) {
                assertTrue(SelfTest.complaint(cache, SHAPE).isPresent());
            }
        }
    }
}
