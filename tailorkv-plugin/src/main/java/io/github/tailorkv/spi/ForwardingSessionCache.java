package io.github.tailorkv.spi;

import java.lang.foreign.MemorySegment;
import java.util.List;
import org.jspecify.annotations.Nullable;

/** Another session, for those who want to see or change some of its calls and pass on the others. */
public abstract class ForwardingSessionCache implements SessionCache {
    private final SessionCache session;

    /** Passes calls on to {@code session}. */
    protected ForwardingSessionCache(SessionCache session) {
        this.session = session;
    }

    @Override
    public int length() {
        return session.length();
    }

    @Override
    public void attend(
            int layer, int startPosition, int n, MemorySegment q, MemorySegment k, MemorySegment v, MemorySegment out) {
        session.attend(layer, startPosition, n, q, k, v, out);
    }

    @Override
    public void append(int layer, int startPosition, int n, MemorySegment q, MemorySegment k, MemorySegment v) {
        session.append(layer, startPosition, n, q, k, v);
    }

    @Override
    public void truncate(int length) {
        session.truncate(length);
    }

    @Override
    public List<LayerStatistics> statistics() {
        return session.statistics();
    }

    @Override
    public void measure(@Nullable StepSample step) {
        session.measure(step);
    }

    @Override
    public void close() {
        session.close();
    }
}
