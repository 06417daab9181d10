package io.github.tailorkv.live;

import io.github.tailorkv.spi.LayerStatistics;
import io.github.tailorkv.spi.SessionCache;
import io.github.tailorkv.spi.StepSample;
import io.github.tailorkv.spi.StepSample.Phase;
import java.lang.foreign.MemorySegment;
import java.util.List;
import org.jspecify.annotations.Nullable;

/** Two layers, a quantized and a retrieval one, that hold as many tokens as they are told and do nothing. */
final class FakeCache implements SessionCache {
    int tokens;
    String secondKind = "retrieval";
    @Nullable
    StepSample sample;

    /** A pass as a session tells of it; in a measured step the layers do what is written here. */
    void pass(SessionWatch watch, int count) {
        watch.passBegins(count);
        tokens += count;
        StepSample step = sample;
        if (step != null) {
            step.addNanos(0, Phase.ATTEND, 1000);
            step.addBytesRead(0, 64);
            step.addNanos(1, Phase.APPEND, 10);
            step.addNanos(1, Phase.SCORE, 20);
            step.addNanos(1, Phase.GATHER, 30);
            step.addNanos(1, Phase.ATTEND, 40);
            step.addBytesRead(1, 16);
            if (step.wantsRecall(1)) {
                step.setRecall(1, 0.75, 0);
            }
        }
        watch.passEnds();
    }

    @Override
    public int length() {
        return tokens;
    }

    @Override
    public void attend(
            int layer, int startPosition, int n, MemorySegment q, MemorySegment k, MemorySegment v, MemorySegment out) {
        throw new UnsupportedOperationException();
    }

    @Override
    public void truncate(int length) {
        tokens = length;
    }

    @Override
    public List<LayerStatistics> statistics() {
        return List.of(
                new LayerStatistics(0, "quantized", 0.5, tokens, 10L * tokens, 0),
                new LayerStatistics(1, secondKind, Double.NaN, tokens, tokens, 20L * tokens));
    }

    @Override
    public void measure(@Nullable StepSample step) {
        sample = step;
    }

    @Override
    public void close() {}
}
