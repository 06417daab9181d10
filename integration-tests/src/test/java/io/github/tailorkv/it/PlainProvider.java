package io.github.tailorkv.it;

import io.github.tailorkv.config.Settings;
import io.github.tailorkv.kernels.AttentionShape;
import io.github.tailorkv.spi.KvCacheProvider;
import io.github.tailorkv.spi.LayerStatistics;
import io.github.tailorkv.spi.ModelCache;
import io.github.tailorkv.spi.ModelShape;
import io.github.tailorkv.spi.SessionCache;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.atomic.AtomicLong;

/**
 * The plainest cache there can be, registered as a user's own would be: float arrays on the heap, attention in double
 * precision. What a test sees with it is the work of the bridge alone.
 */
public final class PlainProvider implements KvCacheProvider {
    /** Its value of {@code tailorkv.provider}. */
    public static final String NAME = "plain";

    /** Bytes that it has lent for rows. */
    static final AtomicLong LENT = new AtomicLong();

    @Override
    public String name() {
        return NAME;
    }

    @Override
    public Optional<String> unsupported(ModelShape shape) {
        return Optional.empty();
    }

    @Override
    public ModelCache open(ModelShape shape, Settings settings) {
        return new PlainModel(shape);
    }

    private record PlainModel(ModelShape shape) implements ModelCache {
        @Override
        public SessionCache newSession() {
            return new PlainSession(shape);
        }

        /** Not a number until somebody writes there. */
        @Override
        public MemorySegment lend(long bytes) {
            LENT.addAndGet(bytes);
            return Arena.ofAuto().allocate(bytes, 64).fill((byte) 0xff);
        }

        @Override
        public String backend() {
            return "plain";
        }

        @Override
        public String policy() {
            return "exact";
        }

        @Override
        public void close() {}
    }

    private static final class PlainSession implements SessionCache {
        private final AttentionShape shape;
        private final List<List<float[]>> keys = new ArrayList<>();
        private final List<List<float[]>> values = new ArrayList<>();

        PlainSession(ModelShape model) {
            shape = model.attention();
            for (int layer = 0; layer < model.layers(); layer++) {
                keys.add(new ArrayList<>());
                values.add(new ArrayList<>());
            }
        }

        @Override
        public int length() {
            return keys.stream().mapToInt(List::size).min().orElse(0);
        }

        @Override
        public void attend(
                int layer,
                int startPosition,
                int n,
                MemorySegment q,
                MemorySegment k,
                MemorySegment v,
                MemorySegment out) {
            List<float[]> k1 = keys.get(layer);
            List<float[]> v1 = values.get(layer);
            if (startPosition > k1.size()) {
                throw new IllegalStateException("gap");
            }
            truncate(k1, startPosition);
            truncate(v1, startPosition);
            int width = shape.heads() * shape.headSize();
            for (int i = 0; i < n; i++) {
                k1.add(row(k, i, shape.kvHeads() * shape.headSize()));
                v1.add(row(v, i, shape.kvHeads() * shape.headSize()));
                float[] query = row(q, i, width);
                for (int head = 0; head < shape.heads(); head++) {
                    double[] sum = attend(query, head, k1, v1);
                    for (int c = 0; c < sum.length; c++) {
                        out.setAtIndex(
                                ValueLayout.JAVA_FLOAT,
                                (long) i * width + (long) head * shape.headSize() + c,
                                (float) sum[c]);
                    }
                }
            }
        }

        private double[] attend(float[] query, int head, List<float[]> k, List<float[]> v) {
            int q0 = head * shape.headSize();
            int k0 = head / shape.groupSize() * shape.headSize();
            double[] scores = new double[k.size()];
            for (int t = 0; t < scores.length; t++) {
                float[] key = k.get(t);
                for (int c = 0; c < shape.headSize(); c++) {
                    scores[t] += query[q0 + c] * key[k0 + c];
                }
                scores[t] *= shape.scale();
                if (shape.softCap() != 0) {
                    scores[t] = shape.softCap() * Math.tanh(scores[t] / shape.softCap());
                }
            }
            double max = Arrays.stream(scores).max().orElseThrow();
            double total = 0;
            double[] sum = new double[shape.headSize()];
            for (int t = 0; t < scores.length; t++) {
                double weight = Math.exp(scores[t] - max);
                total += weight;
                float[] value = v.get(t);
                for (int c = 0; c < sum.length; c++) {
                    sum[c] += weight * value[k0 + c];
                }
            }
            for (int c = 0; c < sum.length; c++) {
                sum[c] /= total;
            }
            return sum;
        }

        private static float[] row(MemorySegment rows, int row, int width) {
            return rows.asSlice((long) row * width * Float.BYTES, (long) width * Float.BYTES)
                    .toArray(ValueLayout.JAVA_FLOAT);
        }

        private static void truncate(List<float[]> rows, int length) {
            if (rows.size() > length) {
                rows.subList(length, rows.size()).clear();
            }
        }

        @Override
        public void truncate(int length) {
            keys.forEach(rows -> truncate(rows, length));
            values.forEach(rows -> truncate(rows, length));
        }

        @Override
        public List<LayerStatistics> statistics() {
            List<LayerStatistics> layers = new ArrayList<>();
            for (int layer = 0; layer < keys.size(); layer++) {
                int tokens = keys.get(layer).size();
                long bytes = 2L * tokens * shape.kvHeads() * shape.headSize() * Float.BYTES;
                layers.add(new LayerStatistics(layer, "exact", Double.NaN, tokens, bytes, 0));
            }
            return layers;
        }

        @Override
        public void close() {
            keys.forEach(List::clear);
            values.forEach(List::clear);
        }
    }
}
