package io.github.tailorkv.live;

import io.github.tailorkv.spi.LayerStatistics;
import java.util.List;
import jdk.jfr.Category;
import jdk.jfr.DataAmount;
import jdk.jfr.Description;
import jdk.jfr.Event;
import jdk.jfr.Label;
import jdk.jfr.Name;
import jdk.jfr.StackTrace;
import org.jspecify.annotations.Nullable;

/** A session was closed, by the application or to make room. */
@Name("tailorkv.SessionClose")
@Label("Session Close")
@Category("TailorKV")
@Description("A session was closed, by the application or to make room; what it held is as of the end of its last turn")
@StackTrace(false)
final class SessionCloseEvent extends Event {

    @Label("Model")
    @Nullable
    String model;

    @Label("Session")
    @Nullable
    String session;

    @Label("Tokens")
    int tokens;

    @Label("Resident")
    @DataAmount
    long residentBytes;

    @Label("Offloaded")
    @DataAmount
    long offloadedBytes;

    static void emit(String model, String session, List<LayerStatistics> layers) {
        SessionCloseEvent event = new SessionCloseEvent();
        if (event.shouldCommit()) {
            event.model = model;
            event.session = session;
            for (LayerStatistics layer : layers) {
                event.tokens = layer.tokens();
                event.residentBytes += layer.residentBytes();
                event.offloadedBytes += layer.offloadedBytes();
            }
            event.commit();
        }
    }
}
