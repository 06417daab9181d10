package io.github.tailorkv.rivals;

import io.github.tailorkv.kernels.AttentionShape;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/**
 * Keys and values of one layer: sinks by position, then a ring for the recent tokens. The ring is longer than the window, so
 * that a session can be taken back some tokens and still find the window before them.
 */
final class StreamingWindow implements RivalLayer {
    private static final int SLACK = 256;

    private final AttentionShape shape;
    private final int sinks;
    private final int recent;
    private final int ring;
    private final int width;
    private final float[] keys;
    private final float[] values;
    private int length;
    private int written;

    StreamingWindow(AttentionShape shape, int sinks, int recent) {
        this.shape = shape;
        this.sinks = sinks;
        this.recent = recent;
        ring = recent + SLACK;
        width = shape.kvHeads() * shape.headSize();
        keys = new float[(sinks + ring) * width];
        values = new float[(sinks + ring) * width];
    }

    @Override
    public int length() {
        return length;
    }

    /** What the window needs, beside the prompt; the slack is a convenience of the comparison. */
    @Override
    public long bytes(long promptBytes) {
        return promptBytes + 2L * Math.min(length, sinks + recent) * width * Float.BYTES;
    }

    @Override
    public void truncate(int newLength) {
        length = Math.min(length, newLength);
    }

    @Override
    public void append(MemorySegment q, MemorySegment k, MemorySegment v, int n) {
        for (int row = 0; row < n; row++) {
            append(k, v, row);
        }
    }

    @Override
    public void decode(MemorySegment q, MemorySegment k, MemorySegment v, MemorySegment out, int n) {
        for (int row = 0; row < n; row++) {
            append(k, v, row);
            attend(q, out, row);
        }
    }

    private void append(MemorySegment k, MemorySegment v, int row) {
        int slot = slot(length);
        MemorySegment.copy(k, ValueLayout.JAVA_FLOAT, 4L * row * width, keys, slot * width, width);
        MemorySegment.copy(v, ValueLayout.JAVA_FLOAT, 4L * row * width, values, slot * width, width);
        length++;
        // Positions from here on that the ring still shows are those of tokens that were taken back.
        written = Math.max(written, length);
    }

    private int slot(int position) {
        return position < sinks ? position : sinks + (position - sinks) % ring;
    }

    /** Attends the newest token's queries to sinks and window. */
    private void attend(MemorySegment q, MemorySegment out, int row) {
        int headSize = shape.headSize();
        int firstRecent = Math.max(Math.max(length - recent, written - ring), sinks);
        int first = Math.min(sinks, length);
        float[] scores = new float[first + Math.max(0, length - firstRecent)];
        float[] query = new float[headSize];
        float[] sum = new float[headSize];
        for (int head = 0; head < shape.heads(); head++) {
            long at = 4L * headSize * ((long) row * shape.heads() + head);
            MemorySegment.copy(q, ValueLayout.JAVA_FLOAT, at, query, 0, headSize);
            int column = head / shape.groupSize() * headSize;
            float largest = Float.NEGATIVE_INFINITY;
            for (int i = 0; i < scores.length; i++) {
                scores[i] = score(query, slot(position(i, first, firstRecent)) * width + column);
                largest = Math.max(largest, scores[i]);
            }
            java.util.Arrays.fill(sum, 0);
            float total = 0;
            for (int i = 0; i < scores.length; i++) {
                float weight = (float) Math.exp(scores[i] - largest);
                total += weight;
                int value = slot(position(i, first, firstRecent)) * width + column;
                for (int c = 0; c < headSize; c++) {
                    sum[c] += weight * values[value + c];
                }
            }
            for (int c = 0; c < headSize; c++) {
                out.set(ValueLayout.JAVA_FLOAT, at + 4L * c, sum[c] / total);
            }
        }
    }

    private static int position(int index, int sinks, int firstRecent) {
        return index < sinks ? index : firstRecent + index - sinks;
    }

    private float score(float[] query, int key) {
        float dot = 0;
        for (int c = 0; c < query.length; c++) {
            dot += query[c] * keys[key + c];
        }
        float score = dot * shape.scale();
        return shape.softCap() == 0 ? score : (float) (shape.softCap() * Math.tanh(score / shape.softCap()));
    }
}
