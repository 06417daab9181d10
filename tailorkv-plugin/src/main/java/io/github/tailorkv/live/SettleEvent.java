package io.github.tailorkv.live;

import jdk.jfr.Category;
import jdk.jfr.Description;
import jdk.jfr.Event;
import jdk.jfr.Label;
import jdk.jfr.Name;
import jdk.jfr.StackTrace;
import org.jspecify.annotations.Nullable;

/** The kind of a layer of a session was decided. */
@Name("tailorkv.Settle")
@Label("Settle")
@Category("TailorKV")
@Description("The kind of a layer was decided, at the first decode step of its session; the event's thread is the session's")
@StackTrace(false)
final class SettleEvent extends Event {

    @Label("Layer")
    int layer;

    @Label("Kind")
    @Nullable
    String kind;

    @Label("Dense Preference")
    @Description("P, above the threshold for a quantized layer; NaN if the policy decided without it")
    double densePreference;

    @Label("Tokens")
    @Description("Tokens that the layer held")
    int tokens;

    static void emit(int layer, String kind, double densePreference, int tokens) {
        SettleEvent event = new SettleEvent();
        if (event.shouldCommit()) {
            event.layer = layer;
            event.kind = kind;
            event.densePreference = densePreference;
            event.tokens = tokens;
            event.commit();
        }
    }
}
