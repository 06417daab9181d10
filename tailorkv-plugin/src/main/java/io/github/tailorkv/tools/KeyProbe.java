package io.github.tailorkv.tools;

import io.github.tailorkv.cache.HeadPreferences;
import io.github.tailorkv.config.Settings;
import io.github.tailorkv.spi.ForwardingModelCache;
import io.github.tailorkv.spi.ForwardingSessionCache;
import io.github.tailorkv.spi.KvCacheProvider;
import io.github.tailorkv.spi.ModelCache;
import io.github.tailorkv.spi.ModelShape;
import io.github.tailorkv.spi.SessionCache;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.function.Supplier;

/**
 * Another provider with a look at the keys that pass, the mean magnitude of each channel, and at what its session finds out
 * about heads. For one session at a time.
 */
final class KeyProbe implements KvCacheProvider {
    private final KvCacheProvider provider;
    private double[][] sums = {};
    private long[] tokens = {};
    private Supplier<List<List<Double>>> heads = List::of;

    KeyProbe(KvCacheProvider provider) {
        this.provider = provider;
    }

    /** What has passed, layer by layer. */
    List<KeyMagnitudes> magnitudes() {
        List<KeyMagnitudes> all = new ArrayList<>();
        for (int layer = 0; layer < sums.length; layer++) {
            double count = Math.max(1, tokens[layer]);
            all.add(
                    new KeyMagnitudes(
                            Arrays.stream(sums[layer]).average().orElse(0) / count,
                            Arrays.stream(sums[layer]).max().orElse(0) / count));
        }
        return all;
    }

    /** Dense preference of each query head of each layer in the newest session; empty if it does not know. */
    List<List<Double>> headPreferences() {
        return heads.get();
    }

    @Override
    public String name() {
        return provider.name();
    }

    @Override
    public Optional<String> unsupported(ModelShape shape) {
        return provider.unsupported(shape);
    }

    @Override
    public ModelCache open(ModelShape shape, Settings settings) {
        int width = shape.attention().kvHeads() * shape.attention().headSize();
        sums = new double[shape.layers()][width];
        tokens = new long[shape.layers()];
        return new ForwardingModelCache(provider.open(shape, settings), session -> watched(session, width));
    }

    private SessionCache watched(SessionCache session, int width) {
        heads = session instanceof HeadPreferences judged ? judged::headPreferences : List::of;
        return new ForwardingSessionCache(session) {
            @Override
            public void attend(int layer, int startPosition, int n, MemorySegment q, MemorySegment k, MemorySegment v,
                    MemorySegment out) {
                double[] sum = sums[layer];
                for (int i = 0; i < n; i++) {
                    for (int c = 0; c < width; c++) {
                        sum[c] += Math.abs(k.getAtIndex(ValueLayout.JAVA_FLOAT, (long) i * width + c));
                    }
                }
                tokens[layer] += n;
                super.attend(layer, startPosition, n, q, k, v, out);
            }
        };
    }
}
