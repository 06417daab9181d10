package io.github.tailorkv.rivals;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

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
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;

class SnapKvCacheTest {
    private static final int HEADS = 4;
    private static final int KV_HEADS = 2;
    private static final int SIZE = 16;
    private static final int PROMPT = 300;
    private static final AttentionShape ATTENTION = new AttentionShape(HEADS, KV_HEADS, SIZE, 0.25f, 0);
    private static final ModelShape SHAPE = new ModelShape(
            "LLAMA", 1, ATTENTION, 4096, false, 1, Optional.empty());

    /** Each KV head keeps the neighbourhoods of what its own heads attend to, and the window. */
    @Test
    void itKeepsWhatThePromptsEndAttendsTo() {
        EvictingLayer layer = new EvictingLayer(ATTENTION, 14, 4);
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment q = arena.allocate(4L * PROMPT * HEADS * SIZE, 64);
            MemorySegment k = arena.allocate(4L * PROMPT * KV_HEADS * SIZE, 64);
            for (int i = PROMPT - 4; i < PROMPT; i++) {
                for (int head = 0; head < HEADS; head++) {
                    // The heads of a group look for different things.
                    q.setAtIndex(ValueLayout.JAVA_FLOAT, (long) (i * HEADS + head) * SIZE + head % 2, 40);
                }
            }
            loud(k, 50, 0, 0);
            loud(k, 200, 0, 1);
            loud(k, 2, 1, 0);
            loud(k, 294, 1, 1);
            // Nobody looks in this direction.
            loud(k, 100, 0, 5);
            layer.append(q, k, k, PROMPT);
            layer.evict();
            assertArrayEquals(positions(47, 53, 197, 203, 296, 299), layer.positions(0));
            // At the beginning the neighbourhood ends with the prompt, at the window with the window: the best of the
            // rest fill up, the first ones where all are alike.
            assertArrayEquals(positions(0, 8, 291, 295, 296, 299), layer.positions(1));
            assertEquals(2L * 4 * SIZE * 2 * 18, layer.bytes());
            assertEquals(PROMPT, layer.length());
            layer.truncate(200);
            assertArrayEquals(positions(47, 53, 197, 199), layer.positions(0));
        }
    }

    @Test
    void aShortPromptIsKept() {
        EvictingLayer layer = new EvictingLayer(ATTENTION, 296, 4);
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment rows = arena.allocate(4L * PROMPT * HEADS * SIZE, 64);
            layer.append(rows, rows, rows, PROMPT);
            layer.evict();
            assertArrayEquals(positions(0, PROMPT - 1), layer.positions(1));
        }
    }

    @Test
    void aBudgetForEverythingIsExact() {
        float[] exact = outputs(new HybridCacheProvider(), Settings.preset("exact"));
        float[] all = outputs(new SnapKvCacheProvider(), settings(1000));
        for (int i = 0; i < exact.length; i++) {
            assertEquals(exact[i], all[i], 1e-4f);
        }
    }

    @Test
    void tokensThatAreMissingAreAnError() {
        try (Arena arena = Arena.ofConfined();
                ModelCache model = new SnapKvCacheProvider().open(SHAPE, settings(32));
                SessionCache session = model.newSession()) {
            MemorySegment row = arena.allocate(4L * HEADS * SIZE, 64);
            assertThrows(IllegalStateException.class, () -> session.attend(0, 7, 1, row, row, row, row));
        }
    }

    private static void loud(MemorySegment keys, int token, int head, int channel) {
        keys.setAtIndex(ValueLayout.JAVA_FLOAT, (long) (token * KV_HEADS + head) * SIZE + channel, 1);
    }

    /** All positions between pairs of bounds, both included. */
    private static int[] positions(int... bounds) {
        return IntStream.range(0, bounds.length / 2)
                .flatMap(i -> IntStream.rangeClosed(bounds[2 * i], bounds[2 * i + 1])).toArray();
    }

    /** Outputs of steps behind a prompt, of steps after going back, and of a second turn. */
    private static float[] outputs(KvCacheProvider provider, Settings settings) {
        int[] positions = {PROMPT, PROMPT + 1, PROMPT + 2, PROMPT + 1};
        int width = HEADS * SIZE;
        float[] all = new float[(positions.length + 3) * width];
        try (Arena arena = Arena.ofShared();
                ModelCache model = provider.open(SHAPE, settings);
                SessionCache session = model.newSession()) {
            SplittableRandom random = new SplittableRandom(5);
            attend(session, arena, random, 0, PROMPT);
            for (int i = 0; i < positions.length; i++) {
                MemorySegment out = attend(session, arena, random, positions[i], 1);
                MemorySegment.copy(out, ValueLayout.JAVA_FLOAT, 0, all, i * width, width);
            }
            MemorySegment out = attend(session, arena, random, PROMPT + 2, 3);
            MemorySegment.copy(out, ValueLayout.JAVA_FLOAT, 0, all, positions.length * width, 3 * width);
            assertEquals(PROMPT + 5, session.length());
        }
        return all;
    }

    private static MemorySegment attend(SessionCache session, Arena arena, SplittableRandom random, int start, int n) {
        MemorySegment out = arena.allocate(4L * n * HEADS * SIZE, 64);
        session.attend(
                0, start, n, rows(arena, random, n * HEADS * SIZE), rows(arena, random, n * KV_HEADS * SIZE),
                rows(arena, random, n * KV_HEADS * SIZE), out);
        return out;
    }

    private static MemorySegment rows(Arena arena, SplittableRandom random, int floats) {
        MemorySegment rows = arena.allocate(4L * floats, 64);
        for (int i = 0; i < floats; i++) {
            rows.setAtIndex(ValueLayout.JAVA_FLOAT, i, (float) (4 * random.nextDouble() - 2));
        }
        return rows;
    }

    private static Settings settings(int budget) {
        Properties properties = new Properties();
        properties.setProperty("tailorkv.budget", Integer.toString(budget));
        return Settings.from(properties);
    }
}
