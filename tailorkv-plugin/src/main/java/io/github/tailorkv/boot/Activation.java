package io.github.tailorkv.boot;

import io.github.tailorkv.config.Settings;
import io.github.tailorkv.config.SettingsException;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import org.jspecify.annotations.Nullable;

/** Whether TailorKV was asked for. The same question for every way in. */
final class Activation {
    private static final Set<String> SAID = ConcurrentHashMap.newKeySet();

    private Activation() {}

    /**
     * True if {@code tailorkv.enabled} is on. All settings are checked then, so that a wrong one is told when the
     * application starts and not when it loads its first model.
     *
     * @throws SettingsException if a setting cannot be used
     */
    static boolean requested() {
        String enabled = System.getProperty("tailorkv.enabled", "false");
        return !enabled.equals("false") && Settings.fromSystemProperties().enabled();
    }

    /** As {@link #requested}, but a wrong setting ends the JVM, as a wrong option of the JVM itself does. */
    static boolean requestedOrExit() {
        try {
            return requested();
        } catch (SettingsException e) {
            say(e.getMessage());
            System.exit(1);
            throw e;
        } catch (RuntimeException | LinkageError e) {
            say("Jlama stays stock: the settings cannot be read (" + e + ")");
            return false;
        }
    }

    /** Prints a line, once: two ways in may come to the same end. */
    static void say(@Nullable String line) {
        if (SAID.add("tailorkv: " + line)) {
            System.err.println("tailorkv: " + line);
        }
    }
}
