package io.github.tailorkv.jlama;

import com.github.tjake.jlama.model.AbstractModel;
import com.github.tjake.jlama.tensor.KvBufferCache;
import io.github.tailorkv.config.Settings;
import io.github.tailorkv.live.ModelWatch;
import io.github.tailorkv.report.RunReport;
import io.github.tailorkv.spi.KvCacheProvider;
import io.github.tailorkv.spi.ModelCache;
import io.github.tailorkv.spi.ModelShape;
import java.nio.file.Path;
import java.util.UUID;

/**
 * Takes the place of a model's {@link KvBufferCache}. As Jlama's own, it can be used again after it was closed: the cache
 * is then opened anew.
 */
final class TailorKvBufferCache extends KvBufferCache {
    private final KvCacheProvider provider;
    private final ModelShape shape;
    private final Settings settings;
    private final RunReport report;
    private ModelSessions sessions;

    TailorKvBufferCache(AbstractModel model, KvCacheProvider provider, ModelCache cache, ModelShape shape,
            Settings settings) {
        super(model);
        this.provider = provider;
        this.shape = shape;
        this.settings = settings;
        this.report = RunReport.to(settings.report());
        this.sessions = sessions(cache);
    }

    private ModelSessions sessions(ModelCache cache) {
        var server = new RunReport.Server(provider.name(), cache.backend(), cache.policy(), shape.stockBytesPerToken());
        var served = new ModelWatch.Served(
                shape.directory().map(Path::getFileName).map(Path::toString).orElse(shape.name()), shape.name(),
                shape.layers(), shape.contextLength(), shape.stockBytesPerToken(), provider.name(), cache.backend(),
                cache.policy());
        return new ModelSessions(
                this, cache, shape.contextLength(), settings.idleSessions(), settings.idleBytes(), report, server,
                new ModelWatch(served, settings.sample()));
    }

    private synchronized ModelSessions reopened(ModelSessions closed) {
        if (sessions == closed) {
            sessions = sessions(provider.open(shape, settings));
        }
        return sessions;
    }

    private synchronized ModelSessions sessions() {
        return sessions;
    }

    /**
     * Begins a turn of a session.
     *
     * @throws IllegalStateException if another thread is in a turn of this session
     */
    @Override
    public SessionKvBuffer getKvBuffer(UUID session) {
        for (ModelSessions current = sessions();; current = reopened(current)) {
            SessionKvBuffer turn = current.begin(session);
            if (turn != null) {
                return turn;
            }
        }
    }

    @Override
    public KvBuffer getEphemeralKvBuffer() {
        for (ModelSessions current = sessions();; current = reopened(current)) {
            SessionKvBuffer turn = current.beginEphemeral();
            if (turn != null) {
                return turn;
            }
        }
    }

    /** The session behind any buffer that a forward pass is given. */
    Session session(KvBuffer buffer) {
        if (buffer instanceof SessionKvBuffer turn) {
            return turn.session();
        }
        for (ModelSessions current = sessions();; current = reopened(current)) {
            Session session = current.foreign(buffer);
            if (session != null) {
                return session;
            }
        }
    }

    void forget(UUID session) {
        sessions().forget(session);
    }

    /** Frees what is not in use at once, and the rest when its turn ends. */
    @Override
    public void close() {
        sessions().close();
    }
}
