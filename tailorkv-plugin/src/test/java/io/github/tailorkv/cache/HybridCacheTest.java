package io.github.tailorkv.cache;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.tailorkv.config.Settings;
import io.github.tailorkv.kernels.AttentionShape;
import io.github.tailorkv.kernels.BlockLayout;
import io.github.tailorkv.spi.SessionCache;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Random;
import java.util.random.RandomGenerator;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

/** The cache as a whole against attention by its definition. */
class HybridCacheTest {

    /** Values are standard normal numbers: 1/255 of their range of about 7 is the step of an 8-bit code. */
    private static final double EIGHT_BITS = 0.03;

    private static final double FOUR_BITS = 0.4;

    private static final AttentionShape GQA = shape(6, 2, 64);

    private static AttentionShape shape(int heads, int kvHeads, int headSize) {
        return new AttentionShape(heads, kvHeads, headSize, (float) (1 / Math.sqrt(headSize)), 0);
    }

    static Stream<AttentionShape> shapes() {
        return Stream.of(
                GQA,
                shape(4, 4, 16),
                shape(8, 1, 32),
                shape(5, 5, 80),
                shape(7, 1, 96),
                shape(4, 2, 128),
                shape(2, 1, 256),
                new AttentionShape(4, 2, 48, 0.14f, 20));
    }

    @ParameterizedTest
    @MethodSource("shapes")
    void exactLayersEqualTheDefinition(AttentionShape shape) {
        long seed = new Random().nextLong();
        try (SessionDriver driver = new SessionDriver(shape, SessionDriver.settings("policy=exact"), seed)) {
            for (int n : new int[] {1, 5, 64, 1, 1, 130, 3, 256, 1, 63, 2}) {
                assertEquals(0, driver.append(n, 1.5), 1e-4, () -> n + " tokens, seed " + seed);
            }
            assertEquals("exact", driver.statistics().kind());
        }
    }

    @ParameterizedTest
    @MethodSource("shapes")
    void prefillAttendsEveryTokenInEightBits(AttentionShape shape) {
        long seed = new Random().nextLong();
        try (SessionDriver driver = new SessionDriver(shape, SessionDriver.settings("policy=online"), seed)) {
            for (int n : new int[] {100, 256, 2, 77}) {
                assertEquals(0, driver.append(n, 1.5), EIGHT_BITS, () -> n + " tokens, seed " + seed);
            }
        }
    }

    static Stream<Arguments> stretches() {
        return shapes().flatMap(shape -> Stream.of(
                Arguments.of(shape, "policy=exact", 1e-4), Arguments.of(shape, "policy=quantize", EIGHT_BITS)));
    }

    /** Long enough for pieces of work that are stretches of blocks, of all KV heads. */
    @ParameterizedTest
    @MethodSource("stretches")
    void stretchesOfBlocksAddUp(AttentionShape shape, String policy, double tolerance) {
        long seed = new Random().nextLong();
        try (SessionDriver driver = new SessionDriver(shape, SessionDriver.settings(policy, "bits=8"), seed)) {
            driver.feed(1024 + 37, 1.5);
            for (int i = 0; i < 70; i++) {
                assertEquals(0, driver.append(1, 1.5), tolerance, () -> "seed " + seed);
            }
        }
    }

    static Stream<Arguments> quantized() {
        return shapes().flatMap(shape -> Stream.of(
                Arguments.of(shape, 8, EIGHT_BITS), Arguments.of(shape, 4, FOUR_BITS)));
    }

    @ParameterizedTest
    @MethodSource("quantized")
    void quantizedLayersStayWithinTheirPrecision(AttentionShape shape, int bits, double tolerance) {
        // How far rounding carries an output depends on the data, so the bound is a statement about this data.
        long seed = 1;
        Settings settings = SessionDriver.settings("policy=quantize", "bits=" + bits);
        try (SessionDriver driver = new SessionDriver(shape, settings, seed)) {
            driver.feed(300, 1.5);
            for (int i = 0; i < 70; i++) {
                assertEquals(0, driver.append(1, 1.5), tolerance, () -> "seed " + seed);
            }
            assertEquals("quantized", driver.statistics().kind());
        }
    }

    static Stream<Arguments> codes() {
        return shapes().flatMap(shape -> Stream.of(1, 2, 4, 8).map(bits -> Arguments.of(shape, bits)));
    }

    /**
     * Whatever rounding did to keys and values, attention over what is stored is that of the definition; with 4 bits, products
     * with the codes are rounded too, to some thousandths of them.
     */
    @ParameterizedTest
    @MethodSource("codes")
    void quantizedLayersAttendWhatTheirCodesSay(AttentionShape shape, int bits) {
        long seed = new Random().nextLong();
        Settings settings = SessionDriver.settings("policy=quantize", "bits=" + bits);
        try (SessionDriver driver = new SessionDriver(shape, settings, seed)) {
            driver.feed(300, 1.5);
            int sealed = (300 - settings.residual()) / BlockLayout.BLOCK;
            for (int block = 0; block < sealed; block++) {
                driver.roundTokens(block, bits, true);
            }
            for (int i = 0; i < 70; i++) {
                assertEquals(0, driver.append(1, 1.5), bits == 4 ? 0.03 : 1e-3, () -> "seed " + seed);
                if ((driver.session.length() - settings.residual()) / BlockLayout.BLOCK > sealed) {
                    driver.roundTokens(sealed++, bits, false);
                }
            }
            assertEquals(4, sealed, "blocks sealed: three in prefill, one in decode");
        }
    }

    /**
     * Attention is nearly flat, so that the output is near the mean of the values: what rounding does to each of them, which is
     * much with one bit, averages out.
     */
    @ParameterizedTest
    @ValueSource(ints = {1, 2})
    void whatCoarseLayersLoseAveragesOut(int bits) {
        long seed = new Random().nextLong();
        int tokens = 512;
        // 64 normal numbers reach from -2.4 to 2.4. One bit makes that of them by their sign; two bits, steps of a third of it.
        double end = 2.4;
        double squared = bits == 1
                ? 1 + end * end - 2 * end * Math.sqrt(2 / Math.PI)
                : Math.pow(2 * end / ((1 << bits) - 1), 2) / 12;
        Settings settings = SessionDriver.settings("policy=quantize", "bits=" + bits);
        double deviation = Math.sqrt(squared * (tokens - settings.residual())) / tokens;
        try (SessionDriver driver = new SessionDriver(GQA, settings, seed)) {
            driver.feed(tokens, 1.0);
            // Seven, for the largest of all outputs is what counts, and rounded keys add a little.
            assertEquals(0, driver.append(1, 0.1), 7 * deviation, () -> "seed " + seed);
        }
    }

    /** With a budget for every token a retrieval layer is an 8-bit layer. */
    @ParameterizedTest
    @MethodSource("shapes")
    void retrievalOfEverythingIsAttentionInEightBits(AttentionShape shape) {
        long seed = new Random().nextLong();
        Settings settings = SessionDriver.settings("policy=retrieve", "budget=4096", "index.share=1");
        try (SessionDriver driver = new SessionDriver(shape, settings, seed)) {
            driver.feed(400, 1.5);
            for (int i = 0; i < 70; i++) {
                assertEquals(0, driver.append(1, 1.5), EIGHT_BITS, () -> "seed " + seed);
            }
            assertEquals("retrieval", driver.statistics().kind());
        }
    }

    static Stream<Settings> retrievals() {
        return Stream.of(
                SessionDriver.settings("policy=retrieve", "budget=16"),
                SessionDriver.settings("policy=retrieve", "budget=16", "tail=true"),
                SessionDriver.settings("policy=retrieve", "budget=16", "offload=disk"),
                SessionDriver.settings("policy=retrieve", "budget=16", "rows=bf16"),
                SessionDriver.settings("policy=retrieve", "budget=16", "preset=paper"),
                SessionDriver.settings("policy=retrieve", "budget=16", "rows=bf16", "tail=true", "offload=disk"));
    }

    /** Ten tokens whose keys point where the query looks: each must be found among 3,000. */
    @ParameterizedTest
    @MethodSource("retrievals")
    void plantedDominantTokensAreAllFound(Settings settings) {
        long seed = new Random().nextLong();
        try (SessionDriver driver = new SessionDriver(GQA, settings, seed)) {
            float[] direction = driver.randomVector(GQA.headSize(), 1);
            RandomGenerator places = new Random(seed);
            java.util.Set<Integer> planted = new java.util.TreeSet<>();
            while (planted.size() < 10) {
                planted.add(20 + places.nextInt(2800));
            }
            float[] query = new float[GQA.heads() * GQA.headSize()];
            for (int i = 0; i < query.length; i++) {
                query[i] = 2 * direction[i % GQA.headSize()];
            }
            for (int start = 0; start < 3000; start += 250) {
                int first = start;
                driver.feed(
                        250,
                        i -> driver.randomQuery(1),
                        i -> planted.contains(first + i) ? repeated(direction) : driver.randomKey(),
                        i -> planted.contains(first + i) ? constant(first + i) : driver.randomKey());
            }
            double worst = driver.append(1, i -> query, i -> driver.randomKey(), i -> driver.randomKey());
            // The planted values are their own positions / 1000: one that is missed moves the mean by far more.
            assertEquals(0, worst, 0.03, () -> "seed " + seed + ", planted at " + planted);
        }
    }

    private static float[] repeated(float[] direction) {
        float[] key = new float[GQA.kvHeads() * direction.length];
        for (int i = 0; i < key.length; i++) {
            key[i] = 1.5f * direction[i % direction.length];
        }
        return key;
    }

    private static float[] constant(int position) {
        float[] value = new float[GQA.kvHeads() * GQA.headSize()];
        java.util.Arrays.fill(value, position / 1000f);
        return value;
    }

    @Test
    void flatAttentionIsQuantizedAndPeakedAttentionIsRetrieved() {
        long seed = new Random().nextLong();
        for (boolean flat : new boolean[] {true, false}) {
            try (SessionDriver driver = new SessionDriver(GQA, SessionDriver.settings("policy=online"), seed)) {
                for (int i = 0; i < 8; i++) {
                    driver.feed(256, flat ? 0.01 : 8);
                }
                driver.append(1, flat ? 0.01 : 8);
                double preference = driver.statistics().densePreference();
                assertEquals(flat ? "quantized" : "retrieval", driver.statistics().kind(), () -> "P " + preference);
                assertTrue(flat ? preference > 0.9 : preference < 0.2, () -> "P " + preference + ", seed " + seed);
            }
        }
    }

    @Test
    void densePreferenceEqualsItsDefinition() {
        long seed = new Random().nextLong();
        Settings settings = SessionDriver.settings("policy=online", "budget=512", "queries=5", "keep=0.1");
        try (SessionDriver driver = new SessionDriver(GQA, settings, seed)) {
            java.util.List<float[]> asked = new java.util.ArrayList<>();
            for (int i = 0; i < 5; i++) {
                driver.feed(
                        256,
                        j -> {
                            asked.add(driver.randomQuery(2));
                            return asked.getLast();
                        },
                        j -> driver.randomKey(),
                        j -> driver.randomKey());
            }
            double[] outside = new double[GQA.heads()];
            for (int i = 1275; i < 1280; i++) {
                for (int head = 0; head < GQA.heads(); head++) {
                    double[] weights = driver.naive.weights(asked.get(i), head, i);
                    java.util.Arrays.sort(weights);
                    double top = 0;
                    for (int t = 0; t < (int) (0.1 * weights.length); t++) {
                        top += weights[weights.length - 1 - t];
                    }
                    outside[head] += (1 - top) / 5;
                }
            }
            driver.append(1, 2);
            java.util.List<Double> heads = driver.headPreferences();
            assertEquals(outside.length, heads.size());
            for (int head = 0; head < outside.length; head++) {
                assertEquals(outside[head], heads.get(head), 2e-3, "head " + head + ", seed " + seed);
            }
            assertEquals(java.util.Arrays.stream(outside).average().orElseThrow(),
                    driver.statistics().densePreference(), 2e-3, () -> "seed " + seed);
        }
    }

    /**
     * Attention made by hand: 64 of 1280 tokens (the top 5 %) weigh r times as much as each of the others, so that
     * P = 1 - 64 r / (64 r + 1216). The keys are read back from 8 bits, hence the tolerance.
     */
    @Test
    void densePreferenceOfHandMadeAttention() {
        double[] ratios = {19, 1, 1e13, 76, 1 / 19.0, 1};
        double[] golden = {0.5, 0.95, 0, 0.2, 1 - 64 / (64 / 19.0 + 1216), 0.95};
        try (SessionDriver driver = new SessionDriver(GQA,
                SessionDriver.settings("policy=online", "budget=512", "queries=1"), 1)) {
            float[] query = new float[GQA.heads() * GQA.headSize()];
            for (int head = 0; head < GQA.heads(); head++) {
                query[head * GQA.headSize()] = (float) (Math.log(ratios[head]) / GQA.scale());
            }
            for (int i = 0; i < 5; i++) {
                int start = 256 * i;
                driver.feed(256, j -> query, j -> {
                    float[] key = new float[GQA.kvHeads() * GQA.headSize()];
                    // Every twentieth token, in all blocks alike.
                    key[0] = (start + j) % 20 == 7 ? 1 : 0;
                    key[GQA.headSize()] = key[0];
                    return key;
                }, j -> driver.randomKey());
            }
            driver.append(1, 1);
            for (int head = 0; head < golden.length; head++) {
                assertEquals(golden[head], driver.headPreferences().get(head), 3e-3, "head " + head);
            }
            assertEquals(java.util.Arrays.stream(golden).average().orElseThrow(),
                    driver.statistics().densePreference(), 3e-3);
        }
    }

    static Stream<Settings> everySetting() {
        return Stream.concat(
                retrievals(),
                Stream.of(
                        SessionDriver.settings("policy=exact"),
                        SessionDriver.settings("policy=online"),
                        SessionDriver.settings("policy=quantize"),
                        SessionDriver.settings("policy=quantize", "bits=8"),
                        SessionDriver.settings("policy=quantize", "bits=1"),
                        SessionDriver.settings("policy=retrieve", "rows=int4", "budget=4096", "index.share=1"),
                        SessionDriver.settings("policy=retrieve", "index=4", "rows=bf16", "budget=4096",
                                "index.share=1"),
                        SessionDriver.settings("policy=retrieve", "index=8", "offload=disk", "budget=4096",
                                "index.share=1"),
                        SessionDriver.settings("policy=retrieve", "tail=true")));
    }

    /** A session that was filled with known keys and values goes on exactly as the one that read the prompt. */
    @ParameterizedTest
    @MethodSource("everySetting")
    void appendingHoldsWhatAttendingHolds(Settings settings) {
        long seed = new Random().nextLong();
        AttentionShape shape = shape(4, 2, 32);
        int queryFloats = shape.heads() * shape.headSize();
        int keyFloats = shape.kvHeads() * shape.headSize();
        RandomGenerator random = new Random(seed);
        try (SessionDriver driver = new SessionDriver(shape, settings, seed);
                SessionCache other = driver.model.newSession();
                Arena arena = Arena.ofShared()) {
            for (int at = 0, n = 256; at < 1500; at += n, n = at == 1280 ? 221 : n) {
                MemorySegment q = gaussian(random, arena, n * queryFloats);
                MemorySegment k = gaussian(random, arena, n * keyFloats);
                MemorySegment v = gaussian(random, arena, n * keyFloats);
                driver.session.attend(0, at, n, q, k, v, arena.allocate(q.byteSize(), 64));
                other.append(0, at, n, q, k, v);
            }
            for (int at = 1501; at < 1600; at++) {
                MemorySegment q = gaussian(random, arena, queryFloats);
                MemorySegment k = gaussian(random, arena, keyFloats);
                MemorySegment v = gaussian(random, arena, keyFloats);
                MemorySegment expected = arena.allocate(q.byteSize(), 64);
                MemorySegment actual = arena.allocate(q.byteSize(), 64);
                driver.session.attend(0, at, 1, q, k, v, expected);
                other.attend(0, at, 1, q, k, v, actual);
                // Not to the bit: the compiler may replace a method between the two calls, and rounds once more or less.
                assertArrayEquals(
                        expected.toArray(ValueLayout.JAVA_FLOAT), actual.toArray(ValueLayout.JAVA_FLOAT), 1e-5f,
                        () -> "seed " + seed);
            }
        }
    }

    private static MemorySegment gaussian(RandomGenerator random, Arena arena, int floats) {
        MemorySegment memory = arena.allocate(floats * 4L, 64);
        for (int i = 0; i < floats; i++) {
            memory.setAtIndex(ValueLayout.JAVA_FLOAT, i, (float) random.nextGaussian());
        }
        return memory;
    }

    /** Any sequence of appending and rewinding leaves what appending alone would leave: same output within precision. */
    @ParameterizedTest
    @MethodSource("everySetting")
    void rewindingAndAppendingAgainIsRight(Settings settings) {
        // With one bit a session of a few tokens, rewound out of a coarse block, may be off by half a range: the bound
        // is a statement about this data.
        long seed = settings.bits() == 1 ? 1 : new Random().nextLong();
        AttentionShape shape = shape(4, 2, 32);
        try (SessionDriver driver = new SessionDriver(shape, settings, seed)) {
            for (int step = 0; step < 40; step++) {
                int length = driver.session.length();
                if (length > 0 && driver.random.nextInt(3) == 0) {
                    driver.session.truncate(driver.random.nextInt(length + 1));
                }
                int n = driver.random.nextBoolean() ? 1 : 1 + driver.random.nextInt(200);
                // Nearly flat attention: the mean of the values is right in any precision, and wrong if tokens are lost,
                // doubled or stale, except where only a few tokens are attended at all.
                double worst = driver.append(n, 0.05);
                int held = driver.session.length();
                boolean allTokens = settings.policy().toString().equals("exact") || n > 1 || settings.budget() >= held;
                double tolerance = settings.bits() == 1 ? 1.5 : allTokens ? 0.5 : 5;
                assertTrue(worst < tolerance, () -> worst + " at " + held + " tokens, seed " + seed);
            }
        }
    }

    @Test
    void generatedTokensAreSealedToo() {
        Settings settings = SessionDriver.settings("policy=retrieve", "budget=16");
        try (SessionDriver driver = new SessionDriver(shape(2, 1, 64), settings, 1)) {
            driver.feed(64, 1);
            long exactWindow = 3 * LayerCache.tileBytes(driver.shape);
            for (int tokens = 65; tokens <= 10_000; tokens++) {
                driver.feed(1, 1);
                if (tokens % 1000 == 0) {
                    long f32 = 2L * 4 * 64 * tokens;
                    assertTrue(
                            driver.statistics().residentBytes() < exactWindow + f32 / 4,
                            () -> driver.statistics() + " is more than a window and an index");
                }
            }
        }
    }

    @Test
    void aHoleInTheSessionIsAnError() {
        try (SessionDriver driver = new SessionDriver(GQA, SessionDriver.settings("policy=online"), 1)) {
            driver.append(3, 1);
            var nothing = java.lang.foreign.MemorySegment.NULL;
            IllegalStateException hole = assertThrows(
                    IllegalStateException.class,
                    () -> driver.session.attend(0, 5, 1, nothing, nothing, nothing, nothing));
            assertTrue(String.valueOf(hole.getMessage()).contains("holds 3 tokens"), hole.toString());
        }
    }

    @Test
    void aSessionThatIsClosedSaysSo() {
        try (SessionDriver driver = new SessionDriver(GQA, SessionDriver.settings("policy=online"), 1)) {
            driver.append(3, 1);
            driver.session.close();
            driver.session.close();
            assertThrows(IllegalStateException.class, () -> driver.session.truncate(0));
        }
    }
}
