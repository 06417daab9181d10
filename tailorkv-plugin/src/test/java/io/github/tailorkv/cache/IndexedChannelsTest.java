package io.github.tailorkv.cache;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.tailorkv.config.LayerKind;
import io.github.tailorkv.config.Settings;
import io.github.tailorkv.kernels.AttentionShape;
import io.github.tailorkv.kernels.BlockLayout;
import io.github.tailorkv.kernels.KernelLadder;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Comparator;
import java.util.Map;
import java.util.Random;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class IndexedChannelsTest {
    private static final AttentionShape SHAPE = new AttentionShape(6, 2, 64, 0.125f, 0);
    private static final int TOKENS = 5 * BlockLayout.BLOCK;
    private static final int QUERIES = 7;

    private final long seed = new Random().nextLong();
    private final Random random = new Random(seed);

    private static LayerContext context(String... words) {
        Settings settings = SessionDriver.settings(words);
        return new LayerContext(SHAPE, settings, KernelLadder.choose("auto"), Map.of(), false);
    }

    /** Channels differ in how far they reach, and half of them have a mean that says nothing. */
    private float[] vectors(int count, int heads, boolean shifted) {
        float[] x = new float[count * heads * SHAPE.headSize()];
        for (int i = 0; i < x.length; i++) {
            int c = i % SHAPE.headSize();
            x[i] = (float) (random.nextGaussian() * (0.2 + c * 37 % 64 / 20.0) + (shifted && c % 2 == 0 ? 9 : 0));
        }
        return x;
    }

    private static MemorySegment segment(Arena arena, float[] x) {
        return arena.allocateFrom(ValueLayout.JAVA_FLOAT, x);
    }

    private static ProgressiveBlocks sealed(LayerContext context, float[] keys) {
        ProgressiveBlocks blocks = new ProgressiveBlocks(context.kernels(), SHAPE, BlockStore.RAM);
        int headSize = SHAPE.headSize();
        blocks.add(TOKENS / BlockLayout.BLOCK);
        try (DecodeScratch work = new DecodeScratch(context.kernels(), SHAPE)) {
            for (int i = 0; i < blocks.size() * SHAPE.kvHeads(); i++) {
                int head = i % SHAPE.kvHeads();
                int block = i / SHAPE.kvHeads();
                for (int t = 0; t < BlockLayout.BLOCK; t++) {
                    for (int c = 0; c < headSize; c++) {
                        float key = keys[((block * BlockLayout.BLOCK + t) * SHAPE.kvHeads() + head) * headSize + c];
                        work.memory.set(ValueLayout.JAVA_FLOAT, work.keys + 4L * (c * BlockLayout.BLOCK + t), key);
                        work.memory.set(ValueLayout.JAVA_FLOAT, work.values + 4L * (t * headSize + c), key);
                    }
                }
                blocks.seal(block, head, work.memory, work.keys, work.values);
            }
        }
        return blocks;
    }

    /** By the definition, from the keys themselves. */
    private static int[] expected(float[] keys, float[] queries, int head, int kept, boolean published) {
        int headSize = SHAPE.headSize();
        double[] weights = new double[headSize];
        for (int c = 0; c < headSize; c++) {
            double low = Double.POSITIVE_INFINITY;
            double high = Double.NEGATIVE_INFINITY;
            for (int t = 0; t < TOKENS; t++) {
                float key = keys[(t * SHAPE.kvHeads() + head) * headSize + c];
                low = Math.min(low, key);
                high = Math.max(high, key);
            }
            for (int i = 0; i < queries.length / (SHAPE.heads() * headSize); i++) {
                double largest = 0;
                double sum = 0;
                for (int row = 0; row < SHAPE.groupSize(); row++) {
                    float q = queries[(i * SHAPE.heads() + head * SHAPE.groupSize() + row) * headSize + c];
                    largest = Math.max(largest, Math.abs(q));
                    sum += q;
                }
                weights[c] += published
                        ? Math.abs(sum / SHAPE.groupSize()) * Math.max(Math.abs(low), Math.abs(high))
                        : largest * (high - low);
            }
        }
        return IntStream.range(0, headSize).boxed().sorted(Comparator.comparingDouble(c -> -weights[c])).limit(kept)
                .mapToInt(c -> c).sorted().toArray();
    }

    @ParameterizedTest
    @ValueSource(strings = {"per-head", "averaged"})
    void areThoseThatMoveTheScoresOfTheNewestQueriesMost(String selection) {
        LayerContext context = context("selection=" + selection, "index.share=0.5", "queries=" + QUERIES);
        float[] keys = vectors(TOKENS, SHAPE.kvHeads(), true);
        float[] old = vectors(11, SHAPE.heads(), false);
        float[] newest = vectors(QUERIES, SHAPE.heads(), false);
        RecentQueries queries = new RecentQueries(QUERIES, SHAPE);
        try (Arena arena = Arena.ofConfined(); ProgressiveBlocks blocks = sealed(context, keys)) {
            queries.record(segment(arena, old), 11, 0);
            queries.record(segment(arena, newest), QUERIES, 11);
            IndexedChannels channels = IndexedChannels.choose(context, blocks, queries);
            assertEquals(32, channels.count());
            for (int head = 0; head < SHAPE.kvHeads(); head++) {
                int[] expected = expected(keys, newest, head, 32, selection.equals("averaged"));
                // Ranges come from codes, so neighbours at the edge may change places.
                long common = IntStream.of(channels.of(head)).filter(c -> IntStream.of(expected).anyMatch(e -> e == c))
                        .count();
                assertTrue(common >= 31, "common channels: " + common + ", seed " + seed);
                assertArrayEquals(IntStream.of(channels.of(head)).sorted().distinct().toArray(), channels.of(head));
            }
        }
    }

    @Test
    void goByTheKeysWhereThereAreNoQueries() {
        LayerContext context = context("index.share=0.25");
        float[] keys = vectors(TOKENS, SHAPE.kvHeads(), true);
        float[] ones = new float[SHAPE.heads() * SHAPE.headSize()];
        java.util.Arrays.fill(ones, 1);
        try (ProgressiveBlocks blocks = sealed(context, keys)) {
            IndexedChannels channels = IndexedChannels.choose(context, blocks, null);
            int[] expected = expected(keys, ones, 1, 16, false);
            long common = IntStream.of(channels.of(1)).filter(c -> IntStream.of(expected).anyMatch(e -> e == c))
                    .count();
            assertTrue(common >= 15, "common channels: " + common + ", seed " + seed);
        }
    }

    @Test
    void areNoFewerThanTheScoresUseAndAllWithATail() {
        assertEquals(40, context("index.share=0.1", "channels=40").settings().indexedChannels(64));
        assertEquals(64, context("index.share=0.1", "channels=90").settings().indexedChannels(64));
        assertEquals(41, context("index.share=0.5", "channels=1").settings().indexedChannels(81));
        assertEquals(64, context("index.share=0.1", "tail=true").settings().indexedChannels(64));
        assertEquals(64, context("preset=paper").settings().indexedChannels(64));
    }

    @ParameterizedTest
    @ValueSource(strings = {"rows=int8", "rows=bf16"})
    void anIndexOfHalfTheChannelsTakesHalfTheMemory(String rows) {
        float[] keys = vectors(TOKENS, SHAPE.kvHeads(), true);
        long[] bytes = new long[2];
        String[] shares = {"index.share=0.5", "index.share=1"};
        for (int i = 0; i < shares.length; i++) {
            LayerContext context = context(rows, "index=4", shares[i]);
            try (Workers workers = new Workers(1);
                    SealedBlocks blocks = context.convert(
                            sealed(context, keys), LayerKind.RETRIEVAL, null, workers)) {
                bytes[i] = blocks.residentBytes();
                assertEquals(TOKENS / BlockLayout.BLOCK, blocks.size());
            }
        }
        assertEquals(bytes[1], 2 * bytes[0]);
    }
}
