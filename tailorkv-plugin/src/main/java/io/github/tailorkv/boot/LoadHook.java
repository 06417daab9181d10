package io.github.tailorkv.boot;

import java.io.File;
import io.github.tailorkv.config.SettingsException;
import java.lang.System.Logger.Level;
import java.util.UUID;
import org.jspecify.annotations.Nullable;

/**
 * What Jlama calls when it has loaded a model, and what {@code TailorKv} calls for an application that knows us. Models
 * are typed so that this class can be defined where Jlama is not seen.
 */
public final class LoadHook {
    private static final String MODEL = "com.github.tjake.jlama.model.AbstractModel";

    /** Hangs on Jlama's own class: found once for each Jlama in the JVM, and collected with it. */
    private static final ClassValue<InstallerLink> INSTALLERS = new ClassValue<>() {
        @Override
        protected InstallerLink computeValue(Class<?> abstractModel) {
            return InstallerLink.to(abstractModel);
        }
    };

    private LoadHook() {}

    /**
     * Replaces cache and attention of a model that has just been loaded. Where that cannot be done the model stays as it
     * is, and one line of the log says why.
     *
     * @param model a model of Jlama
     * @param folder where it was loaded from: its folder or a file in it, beside which a profile may lie; null if unknown
     * @throws SettingsException if the settings do not fit the model
     */
    public static void loaded(@Nullable Object model, @Nullable File folder) {
        try {
            InstallerLink installer = installer(model);
            if (installer != null) {
                installer.install().invokeExact(model, folder);
            }
        } catch (SettingsException e) {
            throw e;
        } catch (Throwable e) {
            warn("TailorKV stands aside, the model runs unchanged", e);
        }
    }

    /**
     * Forgets a session of a model and frees its memory; does nothing if there is none.
     *
     * @param model a model of Jlama
     * @param session its id
     */
    public static void closeSession(@Nullable Object model, UUID session) {
        try {
            InstallerLink installer = installer(model);
            if (installer != null) {
                installer.closeSession().invokeExact(model, session);
            }
        } catch (Throwable e) {
            warn("TailorKV cannot close session " + session, e);
        }
    }

    private static @Nullable InstallerLink installer(@Nullable Object model) {
        for (Class<?> type = model == null ? null : model.getClass(); type != null; type = type.getSuperclass()) {
            if (type.getName().equals(MODEL)) {
                return INSTALLERS.get(type);
            }
        }
        return null;
    }

    private static void warn(String what, Throwable cause) {
        System.Logger log = System.getLogger("io.github.tailorkv");
        log.log(Level.WARNING, what + ": " + cause);
        log.log(Level.DEBUG, "The cause", cause);
    }
}
