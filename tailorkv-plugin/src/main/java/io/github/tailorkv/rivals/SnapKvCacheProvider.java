package io.github.tailorkv.rivals;

import io.github.tailorkv.cache.HybridCacheProvider;
import io.github.tailorkv.config.Settings;
import io.github.tailorkv.spi.KvCacheProvider;
import io.github.tailorkv.spi.LayerStatistics;
import io.github.tailorkv.spi.ModelCache;
import io.github.tailorkv.spi.ModelShape;
import io.github.tailorkv.spi.SessionCache;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import org.jspecify.annotations.Nullable;

/**
 * Eviction by the attention of the prompt's end (Li et al., SnapKV: LLM Knows What You are Looking for Before Generation,
 * 2024): a prompt is read with full attention. When decoding starts each KV head keeps the {@code tailorkv.budget} tokens
 * to which the newest {@code tailorkv.queries} queries attended most, and those in the window of as many tokens; all
 * others are gone. What is generated later is kept, further turns of the prompt as well.
 */
public final class SnapKvCacheProvider implements KvCacheProvider {
    private final KvCacheProvider exact = new HybridCacheProvider();

    @Override
    public String name() {
        return "snapkv";
    }

    @Override
    public Optional<String> unsupported(ModelShape shape) {
        return exact.unsupported(shape);
    }

    @Override
    public ModelCache open(ModelShape shape, Settings settings) {
        ModelCache prompts = exact.open(shape, Settings.preset("exact"));
        return new ModelCache() {
            @Override
            public SessionCache newSession() {
                return new SnapKvSession(shape, settings, prompts.newSession());
            }

            @Override
            public String backend() {
                return "java";
            }

            @Override
            public String policy() {
                return settings.budget() + " tokens of the prompt and a window of " + settings.queries();
            }

            @Override
            public void close() {
                prompts.close();
            }
        };
    }

    private static final class SnapKvSession implements SessionCache {
        private final List<EvictingLayer> layers = new ArrayList<>();
        private @Nullable SessionCache prompt;

        SnapKvSession(ModelShape shape, Settings settings, SessionCache prompt) {
            this.prompt = prompt;
            for (int layer = 0; layer < shape.layers(); layer++) {
                layers.add(new EvictingLayer(shape.attention(), settings.budget(), settings.queries()));
            }
        }

        @Override
        public int length() {
            return layers.stream().mapToInt(EvictingLayer::length).min().orElse(0);
        }

        @Override
        public void attend(int layer, int startPosition, int n, MemorySegment q, MemorySegment k, MemorySegment v,
                MemorySegment out) {
            EvictingLayer rows = layers.get(layer);
            if (startPosition > rows.length()) {
                throw new IllegalStateException("layer " + layer + " holds " + rows.length()
                        + " tokens and cannot go on at position " + startPosition);
            }
            rows.truncate(startPosition);
            SessionCache whole = prompt;
            if (n == 1 && whole != null) {
                whole.close();
                prompt = null;
                whole = null;
            }
            if (whole != null) {
                rows.append(q, k, v, n);
                whole.attend(layer, startPosition, n, q, k, v, out);
                return;
            }
            rows.evict();
            for (int row = 0; row < n; row++) {
                rows.appendAndAttend(q, k, v, out, row);
            }
        }

        @Override
        public void truncate(int length) {
            layers.forEach(rows -> rows.truncate(length));
            if (prompt != null) {
                prompt.truncate(length);
            }
        }

        @Override
        public List<LayerStatistics> statistics() {
            List<LayerStatistics> whole = prompt == null ? List.of() : prompt.statistics();
            List<LayerStatistics> all = new ArrayList<>();
            for (int layer = 0; layer < layers.size(); layer++) {
                EvictingLayer rows = layers.get(layer);
                long bytes = whole.isEmpty() ? rows.bytes() : whole.get(layer).residentBytes();
                all.add(new LayerStatistics(layer, "snapkv", Double.NaN, rows.length(), bytes, 0));
            }
            return all;
        }

        @Override
        public void close() {
            if (prompt != null) {
                prompt.close();
                prompt = null;
            }
        }
    }
}
