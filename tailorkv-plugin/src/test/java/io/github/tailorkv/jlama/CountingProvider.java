package io.github.tailorkv.jlama;

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

/**
 * A provider whose sessions hold nothing but the number of their tokens, 100 bytes each, tell who was closed, and let a
 * test in.
 */
final class CountingProvider implements KvCacheProvider {
    static final int BYTES_PER_TOKEN = 100;

    final List<CountingModel> models = new ArrayList<>();

    @Override
    public String name() {
        return "counting";
    }

    @Override
    public Optional<String> unsupported(ModelShape shape) {
        return Optional.empty();
    }

    @Override
    public CountingModel open(ModelShape shape, Settings settings) {
        CountingModel model = new CountingModel(shape.layers());
        models.add(model);
        return model;
    }

    static final class CountingModel implements ModelCache {
        final List<CountingSession> sessions = new ArrayList<>();
        final int layers;
        int closed;

        CountingModel(int layers) {
            this.layers = layers;
        }

        @Override
        public CountingSession newSession() {
            CountingSession session = new CountingSession(layers);
            sessions.add(session);
            return session;
        }

        @Override
        public String backend() {
            return "none";
        }

        @Override
        public String policy() {
            return "exact";
        }

        @Override
        public void close() {
            closed++;
        }

        long open() {
            return sessions.stream().filter(session -> session.closed == 0).count();
        }
    }

    static final class CountingSession implements SessionCache {
        final int[] tokens;
        Runnable onTruncate = () -> {};
        Runnable onClose = () -> {};
        int closed;

        CountingSession(int layers) {
            tokens = new int[layers];
        }

        @Override
        public int length() {
            int least = tokens[0];
            for (int count : tokens) {
                least = Math.min(least, count);
            }
            return least;
        }

        @Override
        public void attend(
                int layer, int startPosition, int n, MemorySegment q, MemorySegment k, MemorySegment v,
                MemorySegment out) {
            append(layer, startPosition, n);
        }

        void append(int layer, int start, int count) {
            tokens[layer] = start + count;
        }

        @Override
        public void truncate(int length) {
            onTruncate.run();
            for (int layer = 0; layer < tokens.length; layer++) {
                tokens[layer] = Math.min(tokens[layer], length);
            }
        }

        @Override
        public List<LayerStatistics> statistics() {
            List<LayerStatistics> all = new ArrayList<>();
            for (int layer = 0; layer < tokens.length; layer++) {
                long bytes = (long) tokens[layer] * BYTES_PER_TOKEN / tokens.length;
                all.add(new LayerStatistics(layer, "exact", Double.NaN, tokens[layer], bytes, 0));
            }
            return all;
        }

        @Override
        public void close() {
            closed++;
            onClose.run();
        }
    }
}
