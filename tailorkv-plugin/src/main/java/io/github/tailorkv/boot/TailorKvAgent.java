package io.github.tailorkv.boot;

import java.lang.instrument.Instrumentation;
import org.jspecify.annotations.Nullable;

/** Entry point of {@code -javaagent:tailorkv.jar}. Does nothing unless {@code -Dtailorkv.enabled=true}. */
public final class TailorKvAgent {
    private TailorKvAgent() {}

    /**
     * Called by the JVM before the application's {@code main}.
     *
     * @param arguments what follows {@code =} in the agent option; not used
     * @param instrumentation the JVM's instrumentation
     */
    public static void premain(@Nullable String arguments, Instrumentation instrumentation) {
        if (Boolean.getBoolean("tailorkv.enabled")) {
            System.err.println("TailorKV: this build replaces nothing yet, Jlama runs unchanged.");
        }
    }
}
