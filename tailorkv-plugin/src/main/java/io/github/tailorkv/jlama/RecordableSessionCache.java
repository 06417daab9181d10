package io.github.tailorkv.jlama;

import io.github.tailorkv.kernels.AttentionShape;
import io.github.tailorkv.spi.LayerStatistics;
import io.github.tailorkv.spi.SessionCache;
import java.lang.foreign.MemorySegment;
import java.util.List;
import org.jspecify.annotations.Nullable;

/** Another session, with a copy of what it is given for whoever records. */
final class RecordableSessionCache implements SessionCache {
    private final SessionCache session;
    private final long queryBytes;
    private final long keyBytes;
    private @Nullable PromptRecording recording;

    RecordableSessionCache(SessionCache session, AttentionShape shape) {
        this.session = session;
        queryBytes = (long) shape.heads() * shape.headSize() * Float.BYTES;
        keyBytes = (long) shape.kvHeads() * shape.headSize() * Float.BYTES;
    }

    /** Records from now on; null for no more. */
    void recordTo(@Nullable PromptRecording target) {
        recording = target;
    }

    @Override
    public int length() {
        return session.length();
    }

    @Override
    public void attend(
            int layer, int startPosition, int n, MemorySegment q, MemorySegment k, MemorySegment v, MemorySegment out) {
        PromptRecording target = recording;
        if (target != null) {
            target.add(
                    layer,
                    startPosition,
                    n,
                    q.asSlice(0, n * queryBytes),
                    k.asSlice(0, n * keyBytes),
                    v.asSlice(0, n * keyBytes));
        }
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
    public void close() {
        session.close();
    }
}
