package io.github.tailorkv.models;

import com.github.tjake.jlama.model.AbstractModel;
import com.github.tjake.jlama.tensor.AbstractTensor;
import com.github.tjake.jlama.tensor.KvBufferCache;
import java.lang.reflect.Field;
import java.util.Arrays;
import java.util.Optional;
import java.util.UUID;

/**
 * One session of a loaded model, below {@code generate}: tokens in, hidden states out. It asks the model's own cache for
 * its buffer, as {@code generate} does, so it sees whatever cache the model has at that moment, stock or not.
 */
public final class JlamaSession implements AutoCloseable {
    private final AbstractModel model;
    private final KvBufferCache.KvBuffer buffer;
    private int position;

    private JlamaSession(AbstractModel model, KvBufferCache.KvBuffer buffer) {
        this.model = model;
        this.buffer = buffer;
    }

    public static JlamaSession open(AbstractModel model) {
        return open(model, UUID.randomUUID());
    }

    public static JlamaSession open(AbstractModel model, UUID id) {
        return new JlamaSession(model, cacheOf(model).getKvBuffer(id));
    }

    private static KvBufferCache cacheOf(AbstractModel model) {
        try {
            Field cache = AbstractModel.class.getDeclaredField("kvBufferCache");
            cache.setAccessible(true);
            return (KvBufferCache) cache.get(model);
        } catch (ReflectiveOperationException e) {
            throw new IllegalStateException("This is not Jlama 0.8.4: no field AbstractModel.kvBufferCache", e);
        }
    }

    /** Feeds tokens through {@code batchForward}, in Jlama's own chunks, and returns the last one's hidden state. */
    public float[] prefill(int... tokens) {
        AbstractTensor<?, ?> hidden = model.batchForward(tokens, position, buffer);
        position += tokens.length;
        return lastRow(hidden);
    }

    /** As {@link #prefill}, in chunks of a given length (up to 256, what {@code batchForward} does not split further). */
    public float[] prefillInChunks(int chunk, int... tokens) {
        float[] last = new float[0];
        for (int start = 0; start < tokens.length; start += chunk) {
            last = prefill(Arrays.copyOfRange(tokens, start, Math.min(tokens.length, start + chunk)));
        }
        return last;
    }

    /** Feeds one token, as each step of {@code generate} does, and returns its hidden state. */
    public float[] decode(int token) {
        AbstractTensor<?, ?> hidden = model.forward(token, position, buffer, Optional.empty());
        position++;
        return lastRow(hidden);
    }

    /** The position that the next token will have. */
    public int position() {
        return position;
    }

    /** Lets the next token overwrite from an earlier position on, or follow tokens that another way has put there. */
    public void position(int value) {
        position = value;
    }

    public KvBufferCache.KvBuffer buffer() {
        return buffer;
    }

    private static float[] lastRow(AbstractTensor<?, ?> hidden) {
        try (hidden) {
            float[] row = new float[hidden.shape().last()];
            int last = hidden.shape().first() - 1;
            for (int i = 0; i < row.length; i++) {
                row[i] = hidden.get(last, i);
            }
            return row;
        }
    }

    @Override
    public void close() {
        buffer.close();
    }
}
