package io.github.tailorkv.tools;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.tailorkv.config.LayerKind;
import io.github.tailorkv.config.Profile;
import io.github.tailorkv.kernels.AttentionShape;
import io.github.tailorkv.spi.ModelShape;
import io.github.tailorkv.tools.html.BarChart;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import org.junit.jupiter.api.Test;

class ForecastTest {

    /** Llama-3.1-8B: 32 layers, 32 query and 8 KV heads of 128, 256 KiB a token. */
    @Test
    void eightBillionWeightsAt128k() {
        ModelShape shape = shape(32, 32, 8, 128);
        Forecast forecast = new Forecast(shape, profile(32), 8192, 131_072);
        assertEquals(List.of("8k", "128k"), forecast.contexts());
        assertEquals(List.of("Jlama", "2.00 GiB", "32.00 GiB"), forecast.memoryRows().getFirst());
        for (BarChart.Series policy : forecast.memoryRatios()) {
            // Percent: an index of two bits in 31 layers of 32, four bits in the other, or one bit and an index of eight.
            assertTrue(policy.values().getLast() > 3 && policy.values().getLast() < 20, policy.toString());
        }
        assertTrue(forecast.speedRows().isEmpty());
        assertTrue(forecast.speedNotes().isEmpty());
    }

    /** What is measured differs from machine to machine; that it grows, and that the parts add up, does not. */
    @Test
    void attentionTakesLongerBehindMoreTokens() {
        Forecast forecast = new Forecast(shape(2, 4, 2, 64), profile(2), 1024, 1_048_576)
                .withSpeed(1000, 16).checked(List.of(LayerKind.QUANTIZED, LayerKind.RETRIEVAL), 1024, 1000);
        assertEquals(PlannedPolicy.values().length, forecast.speedRows().size());
        for (BarChart.Series policy : forecast.speeds()) {
            double few = policy.values().getFirst();
            double many = policy.values().getLast();
            assertTrue(few > 900 && few < 1100 && many > few, policy.toString());
        }
        assertTrue(forecast.speedNotes().getLast().startsWith("Checked once: behind 1024 tokens"));
    }

    private static ModelShape shape(int layers, int heads, int kvHeads, int headSize) {
        return new ModelShape(
                "LLAMA", layers, new AttentionShape(heads, kvHeads, headSize, (float) (1 / Math.sqrt(headSize)), 0),
                131_072, false, 2, Optional.empty());
    }

    /** The first layer is dense, the others are sparse. */
    private static Profile profile(int layers) {
        List<Profile.Layer> all = new ArrayList<>();
        for (int i = 0; i < layers; i++) {
            all.add(
                    i == 0
                            ? new Profile.Layer(0.6, 0.5, 0.7, LayerKind.QUANTIZED)
                            : new Profile.Layer(0.1, 0, 0.15, LayerKind.RETRIEVAL));
        }
        return new Profile(
                new Profile.Model("LLAMA", "a model", layers, 32, 8, 128, ""), 0.2, all,
                List.of(), "2026-01-01");
    }
}
