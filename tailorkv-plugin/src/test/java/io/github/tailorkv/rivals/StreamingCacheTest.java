package io.github.tailorkv.rivals;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.tailorkv.cache.HybridCacheProvider;
import io.github.tailorkv.config.Settings;
import io.github.tailorkv.kernels.AttentionShape;
import io.github.tailorkv.spi.KvCacheProvider;
import io.github.tailorkv.spi.ModelCache;
import io.github.tailorkv.spi.ModelShape;
import io.github.tailorkv.spi.SessionCache;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Optional;
import java.util.Properties;
import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;

class StreamingCacheTest {
    private static final int HEADS = 4;
    private static final int KV_HEADS = 2;
    private static final int SIZE = 16;
    private static final int PROMPT = 300;
    private static final ModelShape SHAPE = new ModelShape(
            "LLAMA", 1, new AttentionShape(HEADS, KV_HEADS, SIZE, 0.25f, 20), 4096, false, 1, Optional.empty());

    @Test
    void aWindowOverEverythingIsExact() {
        float[] exact = outputs(new HybridCacheProvider(), Settings.preset("exact"), 0, 0);
        float[] streaming = outputs(new StreamingCacheProvider(), settings(4, 1000), 0, 0);
        for (int i = 0; i < exact.length; i++) {
            assertEquals(exact[i], streaming[i], 1e-4f);
        }
    }

    @Test
    void whatLiesBetweenSinksAndWindowIsGone() {
        float[] clean = outputs(new StreamingCacheProvider(), settings(4, 32), 0, 0);
        float[] between = outputs(new StreamingCacheProvider(), settings(4, 32), 4, 260);
        float[] sink = outputs(new StreamingCacheProvider(), settings(4, 32), 3, 4);
        for (int i = 0; i < clean.length; i++) {
            assertEquals(clean[i], between[i]);
        }
        assertTrue(Math.abs(sink[0] - clean[0]) > 100);
    }

    @Test
    void tokensThatAreMissingAreAnError() {
        try (Arena arena = Arena.ofConfined();
                ModelCache model = new StreamingCacheProvider().open(SHAPE, settings(4, 32));
                SessionCache session = model.newSession()) {
            MemorySegment row = arena.allocate(4L * HEADS * SIZE, 64);
            assertThrows(IllegalStateException.class, () -> session.attend(0, 7, 1, row, row, row, row));
        }
    }

    /** Outputs of three steps behind a prompt and of three more after going back by two; some values show if seen. */
    private static float[] outputs(KvCacheProvider provider, Settings settings, int loudFrom, int loudTo) {
        int[] positions = {PROMPT, PROMPT + 1, PROMPT + 2, PROMPT + 1, PROMPT + 2, PROMPT + 3};
        int width = HEADS * SIZE;
        float[] all = new float[positions.length * width];
        try (Arena arena = Arena.ofShared();
                ModelCache model = provider.open(SHAPE, settings);
                SessionCache session = model.newSession()) {
            SplittableRandom random = new SplittableRandom(5);
            MemorySegment v = rows(arena, random, PROMPT * KV_HEADS * SIZE);
            for (long i = (long) loudFrom * KV_HEADS * SIZE; i < (long) loudTo * KV_HEADS * SIZE; i++) {
                v.setAtIndex(ValueLayout.JAVA_FLOAT, i, 1e6f);
            }
            session.attend(
                    0, 0, PROMPT, rows(arena, random, PROMPT * width), rows(arena, random, PROMPT * KV_HEADS * SIZE), v,
                    rows(arena, random, PROMPT * width));
            for (int i = 0; i < positions.length; i++) {
                MemorySegment out = arena.allocate(4L * width, 64);
                session.attend(
                        0, positions[i], 1, rows(arena, random, width), rows(arena, random, KV_HEADS * SIZE),
                        rows(arena, random, KV_HEADS * SIZE), out);
                MemorySegment.copy(out, ValueLayout.JAVA_FLOAT, 0, all, i * width, width);
            }
            assertEquals(PROMPT + 4, session.length());
        }
        return all;
    }

    private static MemorySegment rows(Arena arena, SplittableRandom random, int floats) {
        MemorySegment rows = arena.allocate(4L * floats, 64);
        for (int i = 0; i < floats; i++) {
            rows.setAtIndex(ValueLayout.JAVA_FLOAT, i, (float) (4 * random.nextDouble() - 2));
        }
        return rows;
    }

    private static Settings settings(int sinks, int recent) {
        Properties properties = new Properties();
        properties.setProperty("tailorkv.sinks", Integer.toString(sinks));
        properties.setProperty("tailorkv.recent", Integer.toString(recent));
        return Settings.from(properties);
    }
}
