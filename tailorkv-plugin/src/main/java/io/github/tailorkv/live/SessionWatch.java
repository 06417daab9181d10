package io.github.tailorkv.live;

import io.github.tailorkv.spi.LayerStatistics;
import io.github.tailorkv.spi.SessionCache;
import io.github.tailorkv.spi.StepSample;
import java.util.List;
import org.jspecify.annotations.Nullable;

/**
 * What can be seen of one session from outside. A cache answers the thread of its session only, so that thread leaves a
 * copy here for others: at the end of a turn, of a pass that somebody has asked for, and of a step that is measured.
 */
public final class SessionWatch {

    private final ModelWatch model;
    private final String name;
    private final SessionCache cache;
    private volatile @Nullable SampleTotals totals;
    private volatile List<LayerStatistics> layers = List.of();
    private volatile boolean asked;
    private volatile boolean busy;

    private @Nullable StepSample sample;
    private @Nullable DecodeStepEvent event;
    private boolean measuring;
    private boolean recallWanted;
    private long start;

    SessionWatch(ModelWatch model, String name, SessionCache cache) {
        this.model = model;
        this.name = name;
        this.cache = cache;
    }

    // ---- on the thread of the session ------------------------------------------------------------------------------

    /** A turn begins. */
    public void turnBegins() {
        busy = true;
    }

    /** A pass of so many tokens through all layers begins. */
    public void passBegins(int tokens) {
        // One that was given up between two layers is told by nobody.
        passFails();
        if (tokens == 1 && model.sampling().takesStep()) {
            beginMeasuring();
        }
    }

    private void beginMeasuring() {
        StepSample step = sample;
        if (step == null) {
            step = new StepSample(model.layerCount());
            sample = step;
            totals = new SampleTotals(model.layerCount());
        }
        int recallFrom = model.sampling().recallFrom();
        recallWanted = recallFrom >= 0;
        step.begin(recallFrom);
        cache.measure(step);
        measuring = true;
        event = FlightEvents.stepBegins();
        start = System.nanoTime();
    }

    /** The last layer of a pass is done. */
    public void passEnds() {
        if (measuring) {
            endMeasuring();
        } else if (asked) {
            publish();
        }
    }

    private void endMeasuring() {
        StepSample step = sample;
        SampleTotals mine = totals;
        measuring = false;
        cache.measure(null);
        if (step == null || mine == null) {
            return;
        }
        long nanos = System.nanoTime() - start - step.recallNanos();
        model.sampling().measured(step, nanos, recallWanted);
        mine.add(step, nanos);
        model.totals().add(step, nanos);
        publish();
        FlightEvents.stepEnds(event, model.served().model(), name, layers, step);
        event = null;
    }

    /** A pass is given up. */
    public void passFails() {
        if (measuring) {
            measuring = false;
            event = null;
            cache.measure(null);
        }
    }

    private void publish() {
        asked = false;
        layers = List.copyOf(cache.statistics());
    }

    /** A turn has ended. */
    public void turnEnds(List<LayerStatistics> held) {
        layers = List.copyOf(held);
        busy = false;
    }

    /** The session is closed. */
    public void closed() {
        model.sessionClosed(this);
        FlightEvents.sessionClosed(model.served().model(), name, layers);
    }

    // ---- on any thread ---------------------------------------------------------------------------------------------

    /** What was measured in this session; empty if nothing was. */
    public List<SampledLayer> sampled() {
        SampleTotals mine = totals;
        return mine == null ? List.of() : mine.layers();
    }

    String name() {
        return name;
    }

    /** What the layers held when they were last asked, and asks them again. */
    List<LayerStatistics> layers() {
        asked = true;
        return layers;
    }

    SessionReading reading() {
        List<LayerStatistics> held = layers();
        return new SessionReading(
                name,
                busy,
                held.stream().mapToLong(LayerStatistics::tokens).min().orElse(0),
                held.stream().mapToLong(LayerStatistics::residentBytes).sum(),
                held.stream().mapToLong(LayerStatistics::offloadedBytes).sum());
    }
}
