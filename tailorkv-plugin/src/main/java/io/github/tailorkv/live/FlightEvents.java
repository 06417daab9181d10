package io.github.tailorkv.live;

import io.github.tailorkv.spi.LayerStatistics;
import io.github.tailorkv.spi.StepSample;
import java.util.List;
import org.jspecify.annotations.Nullable;

/**
 * The events that Flight Recorder gets. An event that nobody records costs a test; in a Java runtime without the module
 * {@code jdk.jfr} no class of an event is ever loaded.
 */
public final class FlightEvents {

    private static final boolean PRESENT = ModuleLayer.boot().findModule("jdk.jfr").isPresent();

    private FlightEvents() {}

    /** The event of a decode step that begins; null if nobody records it. */
    static @Nullable DecodeStepEvent stepBegins() {
        return PRESENT ? DecodeStepEvent.start() : null;
    }

    /** A measured step is over. */
    static void stepEnds(
            @Nullable DecodeStepEvent event, String model, String session, List<LayerStatistics> layers,
            StepSample step) {
        if (PRESENT) {
            if (event != null) {
                event.finish(model, session, layers, step);
            }
            LayerEvent.emit(model, session, layers, step);
        }
    }

    /**
     * The kind of a layer is decided.
     *
     * @param densePreference NaN if the policy decided without it
     */
    public static void settled(int layer, String kind, double densePreference, int tokens) {
        if (PRESENT) {
            SettleEvent.emit(layer, kind, densePreference, tokens);
        }
    }

    static void sessionOpened(String model, String session) {
        if (PRESENT) {
            SessionOpenEvent.emit(model, session);
        }
    }

    static void sessionClosed(String model, String session, List<LayerStatistics> layers) {
        if (PRESENT) {
            SessionCloseEvent.emit(model, session, layers);
        }
    }
}
