package io.github.tailorkv.rivals;

import io.github.tailorkv.cache.HybridCacheProvider;
import io.github.tailorkv.config.Settings;
import io.github.tailorkv.kernels.AttentionShape;
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

/** A rival that reads a prompt with full attention, and forgets the whole prompt when decoding starts. */
abstract class RivalCacheProvider implements KvCacheProvider {
    private final KvCacheProvider exact = new HybridCacheProvider();

    /** A layer without tokens. */
    abstract RivalLayer layer(AttentionShape shape, Settings settings);

    /** What layers keep, for logs and the report. */
    abstract String policy(Settings settings);

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
                List<RivalLayer> layers = new ArrayList<>();
                for (int layer = 0; layer < shape.layers(); layer++) {
                    layers.add(layer(shape.attention(), settings));
                }
                return new RivalSession(name(), layers, prompts.newSession());
            }

            @Override
            public String backend() {
                return "java";
            }

            @Override
            public String policy() {
                return RivalCacheProvider.this.policy(settings);
            }

            @Override
            public void close() {
                prompts.close();
            }
        };
    }

    private static final class RivalSession implements SessionCache {
        private final String kind;
        private final List<RivalLayer> layers;
        private @Nullable SessionCache prompt;

        RivalSession(String kind, List<RivalLayer> layers, SessionCache prompt) {
            this.kind = kind;
            this.layers = layers;
            this.prompt = prompt;
        }

        @Override
        public int length() {
            return layers.stream().mapToInt(RivalLayer::length).min().orElse(0);
        }

        @Override
        public void attend(int layer, int startPosition, int n, MemorySegment q, MemorySegment k, MemorySegment v,
                MemorySegment out) {
            RivalLayer kept = layers.get(layer);
            if (startPosition > kept.length()) {
                throw new IllegalStateException("layer " + layer + " holds " + kept.length()
                        + " tokens and cannot go on at position " + startPosition);
            }
            kept.truncate(startPosition);
            if (n == 1) {
                close();
            }
            SessionCache whole = prompt;
            if (whole == null) {
                kept.decode(q, k, v, out, n);
            } else {
                kept.append(q, k, v, n);
                whole.attend(layer, startPosition, n, q, k, v, out);
            }
        }

        @Override
        public void truncate(int length) {
            layers.forEach(kept -> kept.truncate(length));
            if (prompt != null) {
                prompt.truncate(length);
            }
        }

        @Override
        public List<LayerStatistics> statistics() {
            List<LayerStatistics> whole = prompt == null ? List.of() : prompt.statistics();
            List<LayerStatistics> all = new ArrayList<>();
            for (int layer = 0; layer < layers.size(); layer++) {
                RivalLayer kept = layers.get(layer);
                long bytes = kept.bytes(whole.isEmpty() ? 0 : whole.get(layer).residentBytes());
                all.add(new LayerStatistics(layer, kind, Double.NaN, kept.length(), bytes, 0));
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
