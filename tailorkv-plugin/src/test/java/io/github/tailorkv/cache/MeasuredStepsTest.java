package io.github.tailorkv.cache;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.tailorkv.config.LayerKind;
import io.github.tailorkv.config.Settings;
import io.github.tailorkv.kernels.AttentionShape;
import io.github.tailorkv.kernels.BlockLayout;
import io.github.tailorkv.kernels.KernelLadder;
import io.github.tailorkv.spi.StepSample;
import io.github.tailorkv.spi.StepSample.Phase;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** What a decode step tells of itself when it is measured. */
class MeasuredStepsTest {
    private static final AttentionShape SHAPE = new AttentionShape(4, 2, 64, 0.125f, 0);
    private static final long TOKEN_BYTES = 2L * SHAPE.headSize() * Float.BYTES;

    private static SessionDriver driver(String... words) {
        return new SessionDriver(SHAPE, SessionDriver.settings(words), 1);
    }

    /** One decode step behind {@code prompt} random tokens. */
    private static StepSample step(SessionDriver driver, int prompt, boolean recall) {
        driver.feed(prompt, 1);
        driver.feed(1, 1);
        StepSample sample = new StepSample(1);
        sample.begin(recall ? 0 : -1);
        driver.session.measure(sample);
        driver.feed(1, 1);
        return sample;
    }

    private static long nanos(StepSample sample) {
        return Arrays.stream(Phase.values()).mapToLong(phase -> sample.nanos(0, phase)).sum();
    }

    @Test
    void exactLayersReadAllTokensAndDoNothingButAttend() {
        try (SessionDriver driver = driver("policy=exact")) {
            StepSample sample = step(driver, 300, true);
            assertEquals(302L * SHAPE.kvHeads() * TOKEN_BYTES, sample.bytesRead(0));
            assertTrue(sample.nanos(0, Phase.ATTEND) > 0 && sample.nanos(0, Phase.APPEND) > 0);
            assertEquals(0, sample.nanos(0, Phase.SCORE) + sample.nanos(0, Phase.GATHER));
            assertTrue(Double.isNaN(sample.recall(0)));
            assertEquals(-1, sample.recallLayer());
        }
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 2, 4, 8})
    void quantizedLayersReadAllBlocksAndTheExactWindow(int bits) {
        try (SessionDriver driver = driver("policy=quantize", "bits=" + bits)) {
            StepSample sample = step(driver, 300, true);
            // 302 tokens, of which 64 and what does not fill a block are exact: three blocks are sealed.
            long blocks = 3L * (BlockLayout.packedKeyBytes(bits, 64) + BlockLayout.packedValueBytes(bits, 64));
            assertEquals(SHAPE.kvHeads() * (blocks + (302 - 192) * TOKEN_BYTES), sample.bytesRead(0));
            assertTrue(sample.nanos(0, Phase.ATTEND) > 0);
            assertTrue(Double.isNaN(sample.recall(0)));
        }
    }

    @Test
    void retrievalLayersReadAShareOfTheIndexAndTheDominantTokens() {
        try (SessionDriver driver = driver("policy=retrieve", "budget=24", "sinks=8", "channels=16", "index=2")) {
            StepSample sample = step(driver, 300, false);
            long index = 3L * BlockLayout.packedKeyBytes(2, 64) * 16 / 64;
            // A byte a channel of key and value, a scale and a zero point of two bytes for each.
            long token = 2 * (64L + 4);
            assertEquals(
                    SHAPE.kvHeads() * (index + 32 * token + (302 - 192) * TOKEN_BYTES), sample.bytesRead(0));
            for (Phase phase : Phase.values()) {
                assertTrue(sample.nanos(0, phase) > 0, phase::toString);
            }
            assertTrue(Double.isNaN(sample.recall(0)), "not asked for");
            assertEquals(0, sample.recallNanos());
        }
    }

    @Test
    void tailsReadTheWholeIndexAndTheCoarseValues() {
        try (SessionDriver driver = driver("policy=retrieve", "budget=24", "sinks=8", "tail=true")) {
            StepSample sample = step(driver, 300, true);
            long resident = 3L * (BlockLayout.packedKeyBytes(4, 64) + BlockLayout.packedValueBytes(4, 64));
            long token = (32L + 4 * 64) + (32 + 4) + BlockLayout.lowRecordBytes(64);
            assertEquals(
                    SHAPE.kvHeads() * (resident + 32 * token + (302 - 192) * TOKEN_BYTES), sample.bytesRead(0));
            assertTrue(sample.recall(0) > 0.5, () -> "recall " + sample.recall(0));
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"rows=int8", "rows=bf16"})
    void recallRisesWithTheChannels(String rows) {
        double[] recall = new double[3];
        int[] channels = {1, 16, 64};
        for (int i = 0; i < channels.length; i++) {
            try (SessionDriver driver = driver("policy=retrieve", rows, "index=4", "budget=64",
                    "channels=" + channels[i])) {
                StepSample sample = step(driver, 1000, true);
                recall[i] = sample.recall(0);
                assertEquals(0, sample.recallLayer());
                assertTrue(sample.recallNanos() > 0);
            }
        }
        assertTrue(recall[0] < recall[1] && recall[1] < recall[2], () -> Arrays.toString(recall));
        assertTrue(recall[2] > 0.85 && recall[2] <= 1, () -> Arrays.toString(recall));
    }

    /** With scalar kernels: the vector ones add in another order once they are compiled, and so may choose another token. */
    @ParameterizedTest
    @ValueSource(strings = {"policy=exact", "policy=quantize", "policy=retrieve"})
    void measuringChangesNoAnswer(String policy) {
        String[] words = {policy, "budget=64", "backend=scalar"};
        try (SessionDriver plain = driver(words); SessionDriver measured = driver(words)) {
            StepSample sample = new StepSample(1);
            plain.feed(500, 1);
            measured.feed(500, 1);
            for (int i = 0; i < 70; i++) {
                sample.begin(0);
                measured.session.measure(i % 2 == 0 ? sample : null);
                long before = nanos(sample);
                assertEquals(plain.append(1, 1), measured.append(1, 1), "step " + i);
                assertEquals(i % 2 == 0, nanos(sample) > before, "step " + i);
            }
        }
    }

    // ---- recall, by hand -------------------------------------------------------------------------------------------

    /**
     * Two KV heads with two query heads each, 16 channels. The key of token t has {@code weight[head][t]} in the channel of
     * its KV head; the first query head of a group reads it, the second reads its negative times a hundredth.
     */
    private static double recall(float[][] weight, int sinks, int[][] chosen) {
        AttentionShape shape = new AttentionShape(4, 2, 16, 1, 0);
        Settings settings = SessionDriver.settings("policy=retrieve", "recent=1", "residual=1", "sinks=" + sinks);
        var kernels = KernelLadder.choose("scalar");
        int tokens = weight[0].length;
        try (Arena arena = Arena.ofShared();
                Workers workers = new Workers(2);
                TilePool pool = new TilePool(LayerCache.tileBytes(shape));
                DecodeScratch one = new DecodeScratch(kernels, shape);
                DecodeScratch two = new DecodeScratch(kernels, shape);
                LayerCache layer = new LayerCache(
                        new LayerContext(shape, settings, kernels, Map.of(0, LayerKind.RETRIEVAL), false), 0, pool);
                RecallCheck check = new RecallCheck(kernels, shape, sinks, new DecodeScratch[] {one, two})) {
            MemorySegment keys = arena.allocate(4L * tokens * 2 * 16, 64);
            for (int t = 0; t < tokens; t++) {
                for (int head = 0; head < 2; head++) {
                    keys.setAtIndex(ValueLayout.JAVA_FLOAT, (t * 2L + head) * 16 + head, weight[head][t]);
                }
            }
            MemorySegment q = arena.allocate(4L * 4 * 16, 64);
            for (int head = 0; head < 4; head++) {
                q.setAtIndex(ValueLayout.JAVA_FLOAT, head * 16L + head / 2, head % 2 == 0 ? 1 : -0.01f);
            }
            layer.reserve(tokens);
            layer.write(0, tokens, keys, keys);
            layer.write(1, tokens, keys, keys);
            layer.advance(tokens, q);
            layer.sealOld(workers);
            layer.settle(workers);
            int[] counts = Arrays.stream(chosen).mapToInt(head -> head.length).toArray();
            return check.share(layer, q, chosen, counts, workers);
        }
    }

    /** Weights that are 0 but at some tokens. */
    private static float[] peaks(int... tokens) {
        float[] weight = new float[129];
        for (int token : tokens) {
            weight[token] = 10;
        }
        return weight;
    }

    @Test
    void recallIsTheShareOfTheRightTokensOverAllHeads() {
        float[][] weight = {peaks(3, 40, 77, 100), peaks(10, 64)};
        assertEquals(1, recall(weight, 0, new int[][] {{3, 40, 77, 100}, {10, 64}}));
        assertEquals(5 / 6.0, recall(weight, 0, new int[][] {{3, 40, 77, 99}, {10, 64}}));
        assertEquals(2 / 4.0, recall(weight, 0, new int[][] {{3, 4}, {10, 65}}), "any two of the four are right");
        assertEquals(0, recall(weight, 0, new int[][] {{4}, {11, 12}}));
    }

    @Test
    void sinksDoNotCount() {
        float[][] weight = {peaks(3, 40), peaks(10, 64)};
        assertEquals(1, recall(weight, 4, new int[][] {{0, 1, 2, 3, 40}, {0, 1, 2, 3, 10, 64}}));
        assertEquals(0.5, recall(weight, 4, new int[][] {{0, 1, 2, 3, 40}, {0, 1, 2, 3, 11}}));
        assertTrue(Double.isNaN(recall(weight, 4, new int[][] {{0, 1, 2, 3}, {0, 1, 2, 3}})), "nothing to select");
    }
}
