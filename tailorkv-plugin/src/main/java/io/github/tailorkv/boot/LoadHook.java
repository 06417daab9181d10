package io.github.tailorkv.boot;

import io.github.tailorkv.config.SettingsException;
import java.lang.System.Logger.Level;
import java.lang.invoke.MethodHandle;
import org.jspecify.annotations.Nullable;

/** What Jlama calls when it has loaded a model. */
public final class LoadHook {
    private static final String MODEL = "com.github.tjake.jlama.model.AbstractModel";

    /** Hangs on Jlama's own class: found once for each Jlama in the JVM, and collected with it. */
    private static final ClassValue<MethodHandle> INSTALLERS = new ClassValue<>() {
        @Override
        protected MethodHandle computeValue(Class<?> abstractModel) {
            return InstallerFinder.find(abstractModel);
        }
    };

    private LoadHook() {}

    /**
     * Replaces cache and attention of a model that has just been loaded. Where that cannot be done the model stays as it
     * is, and one line of the log says why.
     *
     * @param model a model of Jlama; typed so that this class can be defined where Jlama is not seen
     * @throws SettingsException if the settings do not fit the model
     */
    public static void loaded(@Nullable Object model) {
        try {
            for (Class<?> type = model == null ? null : model.getClass(); type != null; type = type.getSuperclass()) {
                if (type.getName().equals(MODEL)) {
                    INSTALLERS.get(type).invokeExact(model);
                    return;
                }
            }
        } catch (SettingsException e) {
            throw e;
        } catch (Throwable e) {
            System.Logger log = System.getLogger("io.github.tailorkv");
            log.log(Level.WARNING, "TailorKV stands aside, the model runs unchanged: " + e);
            log.log(Level.DEBUG, "The cause", e);
        }
    }
}
