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
 * Sinks and recent window (Xiao et al., Efficient Streaming Language Models with Attention Sinks, 2024): a decode step
 * attends to the first {@code tailorkv.sinks} and the newest {@code tailorkv.recent} tokens, and everything between is
 * gone. As with the other policies here a prompt is read with full attention; it is forgotten when decoding starts. Keys
 * keep the positions that they were given.
 */
public final class StreamingCacheProvider implements KvCacheProvider {
    private final KvCacheProvider exact = new HybridCacheProvider();

    @Override
    public String name() {
        return "streaming";
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
                return new StreamingSession(shape, settings, prompts.newSession());
            }

            @Override
            public String backend() {
                return "java";
            }

            @Override
            public String policy() {
                return settings.sinks() + " sinks and " + settings.recent() + " recent tokens";
            }

            @Override
            public void close() {
                prompts.close();
            }
        };
    }

    private static final class StreamingSession implements SessionCache {
        private final List<StreamingWindow> layers = new ArrayList<>();
        private @Nullable SessionCache prompt;

        StreamingSession(ModelShape shape, Settings settings, SessionCache prompt) {
            this.prompt = prompt;
            for (int layer = 0; layer < shape.layers(); layer++) {
                layers.add(new StreamingWindow(shape.attention(), settings.sinks(), settings.recent()));
            }
        }

        @Override
        public int length() {
            return layers.stream().mapToInt(StreamingWindow::length).min().orElse(0);
        }

        @Override
        public void attend(int layer, int startPosition, int n, MemorySegment q, MemorySegment k, MemorySegment v,
                MemorySegment out) {
            StreamingWindow window = layers.get(layer);
            if (startPosition > window.length()) {
                throw new IllegalStateException("layer " + layer + " holds " + window.length()
                        + " tokens and cannot go on at position " + startPosition);
            }
            window.truncate(startPosition);
            SessionCache whole = prompt;
            if (n == 1 && whole != null) {
                whole.close();
                prompt = null;
                whole = null;
            }
            for (int row = 0; row < n; row++) {
                window.append(k, v, row);
                if (whole == null) {
                    window.attend(q, out, row);
                }
            }
            if (whole != null) {
                whole.attend(layer, startPosition, n, q, k, v, out);
            }
        }

        @Override
        public void truncate(int length) {
            layers.forEach(window -> window.truncate(length));
            if (prompt != null) {
                prompt.truncate(length);
            }
        }

        @Override
        public List<LayerStatistics> statistics() {
            List<LayerStatistics> whole = prompt == null ? List.of() : prompt.statistics();
            List<LayerStatistics> all = new ArrayList<>();
            for (int layer = 0; layer < layers.size(); layer++) {
                StreamingWindow window = layers.get(layer);
                long bytes = window.bytes() + (whole.isEmpty() ? 0 : whole.get(layer).residentBytes());
                all.add(new LayerStatistics(layer, "streaming", Double.NaN, window.length(), bytes, 0));
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
