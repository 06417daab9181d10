package io.github.tailorkv.rivals;

import io.github.tailorkv.kernels.AttentionShape;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.Comparator;
import java.util.stream.IntStream;

/**
 * Keys and values of one layer, row by row, of which each KV head loses most of its own once. Attention weights of the
 * newest queries are summed over queries and the heads of a group, then each token takes the largest of its neighbourhood:
 * what stands beside a token that is attended to is part of what it says.
 */
final class EvictingLayer implements RivalLayer {
    /** Tokens of a neighbourhood, odd. */
    private static final int POOL = 7;

    private static final int FIRST_CAPACITY = 256;

    private final AttentionShape shape;
    private final int budget;
    private final int window;
    private final HeadRows[] heads;
    private final float[] queries;
    private boolean evicted;
    private int length;

    /**
     * @param budget tokens that a KV head keeps of those before the window
     * @param window newest tokens of a prompt, whose queries choose
     */
    EvictingLayer(AttentionShape shape, int budget, int window) {
        this.shape = shape;
        this.budget = budget;
        this.window = window;
        heads = new HeadRows[shape.kvHeads()];
        Arrays.setAll(heads, head -> new HeadRows(shape.headSize()));
        queries = new float[window * shape.heads() * shape.headSize()];
    }

    @Override
    public int length() {
        return length;
    }

    /** The prompt while it is whole, then what the rows that are kept take; the capacity of arrays is a convenience. */
    @Override
    public long bytes(long promptBytes) {
        return promptBytes > 0 ? promptBytes : bytes();
    }

    long bytes() {
        return 2L * Float.BYTES * shape.headSize() * Arrays.stream(heads).mapToLong(head -> head.count).sum();
    }

    /** Positions that a KV head holds, in order. */
    int[] positions(int head) {
        return Arrays.copyOf(heads[head].positions, heads[head].count);
    }

    @Override
    public void truncate(int newLength) {
        for (HeadRows head : heads) {
            while (head.count > 0 && head.positions[head.count - 1] >= newLength) {
                head.count--;
            }
        }
        length = Math.min(length, newLength);
    }

    @Override
    public void append(MemorySegment q, MemorySegment k, MemorySegment v, int n) {
        int width = shape.heads() * shape.headSize();
        for (int row = 0; row < n; row++) {
            MemorySegment.copy(
                    q, ValueLayout.JAVA_FLOAT, 4L * row * width, queries, length % window * width, width);
            append(k, v, row);
        }
    }

    private void append(MemorySegment k, MemorySegment v, int row) {
        for (int head = 0; head < heads.length; head++) {
            heads[head].add(length, k, v, (long) row * heads.length + head);
        }
        length++;
    }

    /** Lets every KV head forget what the prompt's end did not attend to; once, later it does nothing. */
    void evict() {
        if (evicted || length == 0) {
            return;
        }
        evicted = true;
        int before = Math.max(0, length - window);
        if (before <= budget) {
            return;
        }
        for (int head = 0; head < heads.length; head++) {
            double[] pooled = pooled(mass(head, before));
            int[] best = IntStream.range(0, before).boxed()
                    .sorted(Comparator.comparingDouble((Integer token) -> -pooled[token])).limit(budget)
                    .mapToInt(token -> token).sorted().toArray();
            heads[head].keep(IntStream.concat(Arrays.stream(best), IntStream.range(before, length)).toArray());
        }
    }

    /** Attention mass on each token before the window. */
    private double[] mass(int head, int before) {
        double[] mass = new double[before];
        HeadRows rows = heads[head];
        int group = shape.groupSize();
        float[] weights = new float[length];
        for (int position = before; position < length; position++) {
            for (int query = head * group; query < (head + 1) * group; query++) {
                int at = (position % window * shape.heads() + query) * shape.headSize();
                double total = weigh(rows, queries, at, position + 1, weights);
                for (int token = 0; token < before; token++) {
                    mass[token] += weights[token] / total;
                }
            }
        }
        return mass;
    }

    private static double[] pooled(double[] mass) {
        double[] pooled = new double[mass.length];
        for (int i = 0; i < mass.length; i++) {
            for (int j = Math.max(0, i - POOL / 2); j <= Math.min(mass.length - 1, i + POOL / 2); j++) {
                pooled[i] = Math.max(pooled[i], mass[j]);
            }
        }
        return pooled;
    }

    @Override
    public void decode(MemorySegment q, MemorySegment k, MemorySegment v, MemorySegment out, int n) {
        evict();
        for (int row = 0; row < n; row++) {
            appendAndAttend(q, k, v, out, row);
        }
    }

    /** Appends one token and attends its queries to all that is held. */
    private void appendAndAttend(MemorySegment q, MemorySegment k, MemorySegment v, MemorySegment out, int row) {
        append(k, v, row);
        int headSize = shape.headSize();
        float[] query = new float[headSize];
        float[] sum = new float[headSize];
        for (int head = 0; head < shape.heads(); head++) {
            HeadRows rows = heads[head / shape.groupSize()];
            long at = 4L * headSize * ((long) row * shape.heads() + head);
            MemorySegment.copy(q, ValueLayout.JAVA_FLOAT, at, query, 0, headSize);
            float[] weights = new float[rows.count];
            double total = weigh(rows, query, 0, rows.count, weights);
            Arrays.fill(sum, 0);
            for (int i = 0; i < rows.count; i++) {
                float weight = (float) (weights[i] / total);
                for (int c = 0; c < headSize; c++) {
                    sum[c] += weight * rows.values[i * headSize + c];
                }
            }
            MemorySegment.copy(sum, 0, out, ValueLayout.JAVA_FLOAT, at, headSize);
        }
    }

    /** Weights of the first {@code count} rows up to a common factor, whose inverse is returned. */
    private double weigh(HeadRows rows, float[] query, int at, int count, float[] weights) {
        int headSize = shape.headSize();
        float largest = Float.NEGATIVE_INFINITY;
        for (int i = 0; i < count; i++) {
            float dot = 0;
            for (int c = 0; c < headSize; c++) {
                dot += query[at + c] * rows.keys[i * headSize + c];
            }
            float score = dot * shape.scale();
            weights[i] = shape.softCap() == 0 ? score : (float) (shape.softCap() * Math.tanh(score / shape.softCap()));
            largest = Math.max(largest, weights[i]);
        }
        double total = 0;
        for (int i = 0; i < count; i++) {
            weights[i] = (float) Math.exp(weights[i] - largest);
            total += weights[i];
        }
        return total;
    }

    /** What one KV head holds. */
    private static final class HeadRows {
        private final int headSize;
        private int[] positions = new int[FIRST_CAPACITY];
        private float[] keys;
        private float[] values;
        private int count;

        HeadRows(int headSize) {
            this.headSize = headSize;
            keys = new float[FIRST_CAPACITY * headSize];
            values = new float[FIRST_CAPACITY * headSize];
        }

        /** @param row number of the row in the segments, in units of a head */
        void add(int position, MemorySegment k, MemorySegment v, long row) {
            if (count == positions.length) {
                resize(2 * count);
            }
            positions[count] = position;
            MemorySegment.copy(k, ValueLayout.JAVA_FLOAT, 4L * row * headSize, keys, count * headSize, headSize);
            MemorySegment.copy(v, ValueLayout.JAVA_FLOAT, 4L * row * headSize, values, count * headSize, headSize);
            count++;
        }

        /** @param rows numbers of the rows to keep, in order */
        void keep(int... rows) {
            for (int i = 0; i < rows.length; i++) {
                positions[i] = positions[rows[i]];
                System.arraycopy(keys, rows[i] * headSize, keys, i * headSize, headSize);
                System.arraycopy(values, rows[i] * headSize, values, i * headSize, headSize);
            }
            count = rows.length;
            resize(Math.max(FIRST_CAPACITY, 2 * count));
        }

        private void resize(int capacity) {
            positions = Arrays.copyOf(positions, capacity);
            keys = Arrays.copyOf(keys, capacity * headSize);
            values = Arrays.copyOf(values, capacity * headSize);
        }
    }
}
