package io.github.tailorkv.live;

import jdk.jfr.Category;
import jdk.jfr.Event;
import jdk.jfr.Label;
import jdk.jfr.Name;
import jdk.jfr.StackTrace;
import org.jspecify.annotations.Nullable;

/** A session was opened. */
@Name("tailorkv.SessionOpen")
@Label("Session Open")
@Category("TailorKV")
@StackTrace(false)
final class SessionOpenEvent extends Event {

    @Label("Model")
    @Nullable
    String model;

    @Label("Session")
    @Nullable
    String session;

    static void emit(String model, String session) {
        SessionOpenEvent event = new SessionOpenEvent();
        if (event.shouldCommit()) {
            event.model = model;
            event.session = session;
            event.commit();
        }
    }
}
