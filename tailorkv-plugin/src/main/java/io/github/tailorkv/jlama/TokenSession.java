package io.github.tailorkv.jlama;

import com.github.tjake.jlama.model.AbstractModel;
import com.github.tjake.jlama.tensor.AbstractTensor;
import io.github.tailorkv.spi.LayerStatistics;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.List;
import java.util.Optional;
import java.util.UUID;

/** A session below {@code generate}: tokens in, logits of the next token out. */
@SuppressWarnings("rawtypes")
public final class TokenSession implements AutoCloseable {
    private final AbstractModel model;
    private final TailorKvBufferCache cache;
    private final UUID id = UUID.randomUUID();
    private final SessionKvBuffer buffer;
    private int position;

    TokenSession(AbstractModel model, TailorKvBufferCache cache) {
        this.model = model;
        this.cache = cache;
        buffer = cache.getKvBuffer(id);
    }

    /** Tokens so far. */
    public int position() {
        return position;
    }

    /** Appends a prompt in Jlama's own chunks; the logits behind its last token, caps and multipliers applied. */
    public float[] prefill(int... tokens) {
        AbstractTensor hidden = model.batchForward(tokens, position, buffer);
        position += tokens.length;
        return logits(hidden);
    }

    /**
     * Appends a prompt as {@link #prefill} does, and keeps what a session of another cache needs to be where this one is.
     * The recording belongs to the caller.
     */
    public PromptRecording record(int... tokens) {
        PromptRecording recording = new PromptRecording(position, tokens.length);
        try {
            recordable().recordTo(recording);
            recording.end(prefill(tokens));
            return recording;
        } catch (RuntimeException | Error e) {
            recording.close();
            throw e;
        } finally {
            recordable().recordTo(null);
        }
    }

    /**
     * Appends a prompt that a session of another cache has read, without running the model: right where both caches hold
     * and attend the same while a prompt is read.
     *
     * @return the logits behind its last token
     */
    public float[] replay(PromptRecording recording) {
        recording.appendTo(recordable(), position);
        position += recording.tokens();
        return recording.logits();
    }

    private RecordableSessionCache recordable() {
        return (RecordableSessionCache) buffer.session().cache();
    }

    /** Appends one token, as each step of {@code generate} does; the logits behind it. */
    public float[] step(int token) {
        AbstractTensor hidden = model.forward(token, position, buffer, Optional.empty());
        position++;
        return logits(hidden);
    }

    private float[] logits(AbstractTensor hidden) {
        int vocabulary = model.getConfig().vocabularySize;
        try (hidden; AbstractTensor logits = model.makeDenseTensor(vocabulary)) {
            model.sample(hidden.slice(hidden.shape().first() - 1), 0, 0, logits);
            float[] values = new float[vocabulary];
            MemorySegment.copy(logits.getMemorySegment(), ValueLayout.JAVA_FLOAT_UNALIGNED, 0, values, 0, vocabulary);
            return values;
        }
    }

    /** Forgets all tokens from a position on. */
    public void rewind(int newPosition) {
        buffer.setCurrentContextPosition(newPosition);
        position = newPosition;
    }

    /** What each layer holds now. */
    public List<LayerStatistics> statistics() {
        return buffer.session().cache().statistics();
    }

    /** Frees the session. */
    @Override
    public void close() {
        cache.forget(id);
        buffer.close();
    }
}
