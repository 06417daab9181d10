package io.github.tailorkv.jlama;

import com.github.tjake.jlama.tensor.AbstractTensor;
import com.github.tjake.jlama.tensor.OpenKvBuffer;
import java.util.UUID;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.Consumer;

/**
 * What Jlama holds while it generates: one turn of a session. Its position is the number of tokens that the session
 * really holds, prompts and answers; Jlama's own count of generated tokens is ignored.
 */
@SuppressWarnings("rawtypes")
final class SessionKvBuffer extends OpenKvBuffer {
    private final UUID id;
    private final Session session;
    private final Consumer<SessionKvBuffer> onClose;
    private final AtomicBoolean closed = new AtomicBoolean();
    private volatile Thread owner = Thread.currentThread();

    /** @param onClose called once when the turn ends */
    SessionKvBuffer(TailorKvBufferCache cache, UUID id, Session session, Consumer<SessionKvBuffer> onClose) {
        super(cache, id);
        this.id = id;
        this.session = session;
        this.onClose = onClose;
    }

    UUID id() {
        return id;
    }

    Session session() {
        if (closed.get()) {
            throw new IllegalStateException("This turn of session " + session.name()
                    + " has ended; ask the model's KvBufferCache for the session again");
        }
        return session;
    }

    /** The session, even if the turn has ended. */
    Session endedSession() {
        return session;
    }

    Thread owner() {
        return owner;
    }

    void takeOver() {
        owner = Thread.currentThread();
    }

    /** Tokens that the session holds. */
    @Override
    public int getCurrentContextPosition() {
        return session().length();
    }

    /** Forgets all tokens from {@code position} on. */
    @Override
    public void setCurrentContextPosition(int position) {
        session().truncate(position);
    }

    /** Does nothing: the position follows from what was cached. */
    @Override
    public void incrementContextPosition() {}

    /** Ends the turn. The session stays for the next one. */
    @Override
    public void close() {
        if (closed.compareAndSet(false, true)) {
            onClose.accept(this);
        }
    }

    @Override
    public AbstractTensor getKeyTensorForPosition(int layerIndex, int position) {
        throw noPages();
    }

    @Override
    public AbstractTensor getValTensorForPosition(int layerIndex, int position) {
        throw noPages();
    }

    @Override
    public AbstractTensor[] getKeyTensorsUptoPosition(int layerIndex, int upperBound) {
        throw noPages();
    }

    @Override
    public AbstractTensor[] getValTensorsUptoPosition(int layerIndex, int upperBound) {
        throw noPages();
    }

    /** Inherited, these would allocate Jlama's page files. */
    private static UnsupportedOperationException noPages() {
        return new UnsupportedOperationException(
                "TailorKV serves this model: its keys and values are not Jlama tensors");
    }
}
