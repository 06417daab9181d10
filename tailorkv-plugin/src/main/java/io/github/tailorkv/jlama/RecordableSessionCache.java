package io.github.tailorkv.jlama;

import io.github.tailorkv.kernels.AttentionShape;
import io.github.tailorkv.spi.ForwardingSessionCache;
import io.github.tailorkv.spi.SessionCache;
import java.lang.foreign.MemorySegment;
import org.jspecify.annotations.Nullable;

/** Another session, with a copy of what it is given for whoever records. */
final class RecordableSessionCache extends ForwardingSessionCache {
    private final long queryBytes;
    private final long keyBytes;
    private @Nullable PromptRecording recording;

    RecordableSessionCache(SessionCache session, AttentionShape shape) {
        super(session);
        queryBytes = (long) shape.heads() * shape.headSize() * Float.BYTES;
        keyBytes = (long) shape.kvHeads() * shape.headSize() * Float.BYTES;
    }

    /** Records from now on; null for no more. */
    void recordTo(@Nullable PromptRecording target) {
        recording = target;
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
        super.attend(layer, startPosition, n, q, k, v, out);
    }
}
