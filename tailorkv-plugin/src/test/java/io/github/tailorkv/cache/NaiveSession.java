package io.github.tailorkv.cache;

import static io.github.tailorkv.kernels.BlockLayout.BLOCK;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;

import io.github.tailorkv.kernels.AttentionShape;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;

/** Attention by its definition, in double precision: what every cache is compared with. */
final class NaiveSession {

    private final AttentionShape shape;
    private final List<float[]> keys = new ArrayList<>();
    private final List<float[]> values = new ArrayList<>();

    NaiveSession(AttentionShape shape) {
        this.shape = shape;
    }

    int length() {
        return keys.size();
    }

    void truncate(int length) {
        while (keys.size() > length) {
            keys.removeLast();
            values.removeLast();
        }
    }

    void append(float[] key, float[] value) {
        keys.add(key);
        values.add(value);
    }

    /** Copies one head of a block of 64 tokens into F32 tiles. */
    void copyOut(int block, int head, MemorySegment tiles, long keyTile, long valueTile) {
        forEach(head, (token, channel, at) -> {
            tiles.set(JAVA_FLOAT, keyTile + keyAt(token, channel), keys.get(block * BLOCK + token)[at]);
            tiles.set(JAVA_FLOAT, valueTile + valueAt(token, channel), values.get(block * BLOCK + token)[at]);
        });
    }

    /** Takes one head of a block of 64 tokens from F32 tiles. */
    void copyIn(int block, int head, MemorySegment tiles, long keyTile, long valueTile) {
        forEach(head, (token, channel, at) -> {
            keys.get(block * BLOCK + token)[at] = tiles.get(JAVA_FLOAT, keyTile + keyAt(token, channel));
            values.get(block * BLOCK + token)[at] = tiles.get(JAVA_FLOAT, valueTile + valueAt(token, channel));
        });
    }

    private interface Element {
        /** @param at index in the vector of all heads */
        void accept(int token, int channel, int at);
    }

    private void forEach(int head, Element action) {
        for (int token = 0; token < BLOCK; token++) {
            for (int channel = 0; channel < shape.headSize(); channel++) {
                action.accept(token, channel, head * shape.headSize() + channel);
            }
        }
    }

    private static long keyAt(int token, int channel) {
        return 4L * (channel * BLOCK + token);
    }

    private long valueAt(int token, int channel) {
        return 4L * (token * shape.headSize() + channel);
    }

    /** Output of one query at {@code position}, {@code double[heads * headSize]}. */
    double[] attend(float[] q, int position) {
        int headSize = shape.headSize();
        double[] out = new double[shape.heads() * headSize];
        for (int head = 0; head < shape.heads(); head++) {
            int kvHead = head / shape.groupSize();
            double[] weights = weights(q, head, position);
            for (int t = 0; t <= position; t++) {
                for (int c = 0; c < headSize; c++) {
                    out[head * headSize + c] += weights[t] * values.get(t)[kvHead * headSize + c];
                }
            }
        }
        return out;
    }

    /** Attention weights of one query head over all tokens up to {@code position}. */
    double[] weights(float[] q, int head, int position) {
        int headSize = shape.headSize();
        int kvHead = head / shape.groupSize();
        double[] weights = new double[position + 1];
        double most = Double.NEGATIVE_INFINITY;
        for (int t = 0; t <= position; t++) {
            double score = 0;
            for (int c = 0; c < headSize; c++) {
                score += (double) q[head * headSize + c] * keys.get(t)[kvHead * headSize + c];
            }
            score *= shape.scale();
            if (shape.softCap() != 0) {
                score = shape.softCap() * Math.tanh(score / shape.softCap());
            }
            weights[t] = score;
            most = Math.max(most, score);
        }
        double sum = 0;
        for (int t = 0; t <= position; t++) {
            weights[t] = Math.exp(weights[t] - most);
            sum += weights[t];
        }
        for (int t = 0; t <= position; t++) {
            weights[t] /= sum;
        }
        return weights;
    }
}
