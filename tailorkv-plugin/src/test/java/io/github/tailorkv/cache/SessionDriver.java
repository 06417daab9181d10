package io.github.tailorkv.cache;

import io.github.tailorkv.config.Settings;
import io.github.tailorkv.kernels.AttentionKernels;
import io.github.tailorkv.kernels.AttentionShape;
import io.github.tailorkv.kernels.BlockLayout;
import io.github.tailorkv.kernels.KernelLadder;
import io.github.tailorkv.spi.LayerStatistics;
import io.github.tailorkv.spi.ModelCache;
import io.github.tailorkv.spi.ModelShape;
import io.github.tailorkv.spi.SessionCache;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.List;
import java.util.Optional;
import java.util.Properties;
import java.util.Random;
import java.util.function.IntFunction;

/** Feeds one layer of a real session and a {@link NaiveSession} with the same tokens. */
final class SessionDriver implements AutoCloseable {

    final AttentionShape shape;
    final NaiveSession naive;
    final ModelCache model;
    final SessionCache session;
    final Random random;

    SessionDriver(AttentionShape shape, Settings settings, long seed) {
        this.shape = shape;
        naive = new NaiveSession(shape);
        model = new HybridCacheProvider()
                .open(new ModelShape("test", 1, shape, 1 << 20, false, 2, Optional.empty()), settings);
        session = model.newSession();
        random = new Random(seed);
    }

    /** Settings from words such as {@code policy=retrieve}. */
    static Settings settings(String... words) {
        Properties properties = new Properties();
        properties.setProperty("tailorkv.enabled", "true");
        for (String word : words) {
            int equals = word.indexOf('=');
            properties.setProperty("tailorkv." + word.substring(0, equals), word.substring(equals + 1));
        }
        return Settings.from(properties);
    }

    float[] randomKey() {
        return randomVector(shape.kvHeads() * shape.headSize(), 1);
    }

    float[] randomQuery(double size) {
        return randomVector(shape.heads() * shape.headSize(), size);
    }

    float[] randomVector(int length, double size) {
        float[] vector = new float[length];
        for (int i = 0; i < length; i++) {
            vector[i] = (float) (random.nextGaussian() * size);
        }
        return vector;
    }

    /** Appends random tokens and returns the largest difference from the naive output, over all of them. */
    double append(int n, double querySize) {
        return append(n, i -> randomQuery(querySize), i -> randomKey(), i -> randomKey());
    }

    double append(int n, IntFunction<float[]> query, IntFunction<float[]> key, IntFunction<float[]> value) {
        return run(n, n, query, key, value);
    }

    /** As {@link #append}, comparing nothing: for the part of a session that other tests cover. */
    void feed(int n, IntFunction<float[]> query, IntFunction<float[]> key, IntFunction<float[]> value) {
        run(n, 0, query, key, value);
    }

    void feed(int n, double querySize) {
        feed(n, i -> randomQuery(querySize), i -> randomKey(), i -> randomKey());
    }

    private double run(
            int n, int compared, IntFunction<float[]> query, IntFunction<float[]> key, IntFunction<float[]> value) {
        int start = session.length();
        naive.truncate(start);
        int headSize = shape.headSize();
        try (Arena arena = Arena.ofShared()) {
            MemorySegment q = arena.allocate(4L * n * shape.heads() * headSize, 64);
            MemorySegment k = arena.allocate(4L * n * shape.kvHeads() * headSize, 64);
            MemorySegment v = arena.allocate(4L * n * shape.kvHeads() * headSize, 64);
            MemorySegment out = arena.allocate(q.byteSize(), 64);
            float[][] queries = new float[n][];
            for (int i = 0; i < n; i++) {
                queries[i] = query.apply(i);
                float[] oneKey = key.apply(i);
                float[] oneValue = value.apply(i);
                put(queries[i], q, i);
                put(oneKey, k, i);
                put(oneValue, v, i);
                naive.append(oneKey, oneValue);
            }
            session.attend(0, start, n, q, k, v, out);
            double worst = 0;
            for (int i = 0; i < compared; i++) {
                double[] expected = naive.attend(queries[i], start + i);
                for (int c = 0; c < expected.length; c++) {
                    float actual = out.getAtIndex(ValueLayout.JAVA_FLOAT, (long) i * expected.length + c);
                    double difference = Math.abs(actual - expected[c]);
                    worst = Double.isNaN(difference) ? Double.POSITIVE_INFINITY : Math.max(worst, difference);
                }
            }
            return worst;
        }
    }

    /**
     * Replaces the naive session's keys and values of a block by what codes of {@code bits} bits hold of them.
     *
     * @param prefilled whether the block was sealed before the layer's kind was settled, and so was in 8 bits first
     */
    void roundTokens(int block, int bits, boolean prefilled) {
        AttentionKernels kernels = KernelLadder.choose("scalar");
        int headSize = shape.headSize();
        try (DecodeScratch work = new DecodeScratch(kernels, shape); Arena arena = Arena.ofConfined()) {
            MemorySegment tile = work.memory;
            MemorySegment high = arena.allocate(BlockLayout.packedKeyBytes(8, headSize), 64);
            MemorySegment highValues = arena.allocate(BlockLayout.packedValueBytes(8, headSize), 64);
            int record = BlockLayout.rowBytes(4, headSize);
            MemorySegment low = arena.allocate((long) BlockLayout.BLOCK * record, 64);
            MemorySegment lowValues = arena.allocate(low.byteSize(), 64);
            for (int head = 0; head < shape.kvHeads(); head++) {
                naive.copyOut(block, head, tile, work.keys, work.values);
                if (prefilled) {
                    kernels.splitKeys(tile, work.keys, headSize, high, 0, low, 0, record);
                    kernels.splitValues(tile, work.values, headSize, highValues, 0, lowValues, 0, record);
                    kernels.joinKeys(high, 0, low, 0, record, headSize, tile, work.keys);
                    kernels.joinValues(highValues, 0, lowValues, 0, record, headSize, tile, work.values);
                }
                kernels.quantizeKeys(tile, work.keys, headSize, bits, high, 0);
                kernels.quantizeValues(tile, work.values, headSize, bits, highValues, 0);
                kernels.unpackKeys(high, 0, bits, false, headSize, tile, work.keys);
                kernels.unpackValues(highValues, 0, bits, false, headSize, tile, work.values);
                naive.copyIn(block, head, tile, work.keys, work.values);
            }
        }
    }

    private static void put(float[] vector, MemorySegment target, int row) {
        MemorySegment.copy(vector, 0, target, ValueLayout.JAVA_FLOAT, 4L * row * vector.length, vector.length);
    }

    LayerStatistics statistics() {
        return session.statistics().getFirst();
    }

    List<Double> headPreferences() {
        return session instanceof HeadPreferences judged ? judged.headPreferences().getFirst() : List.of();
    }

    @Override
    public void close() {
        session.close();
        model.close();
    }
}
