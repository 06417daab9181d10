package io.github.tailorkv;

import com.github.tjake.jlama.model.AbstractModel;
import io.github.tailorkv.boot.LoadHook;
import java.io.File;
import java.util.UUID;

/**
 * TailorKV by a line of code: {@code TailorKv.install(ModelSupport.loadModel(...))}.
 *
 * <p>Works without any JVM option beyond those that Jlama itself needs, and whether or not {@code tailorkv.enabled} is
 * set; all other {@code tailorkv.*} properties apply. Not needed where the agent or the system class loader of this jar is
 * in place, and harmless there.
 */
public final class TailorKv {
    private TailorKv() {}

    /**
     * Replaces the KV cache and the attention of a loaded model. A model that cannot be served (no decoder, a geometry
     * that the provider does not know, another version of Jlama) stays as it is, and one line in the log says why. Call it
     * before the model is first used; a second call does nothing.
     *
     * @return the same model
     * @throws io.github.tailorkv.config.SettingsException if a {@code tailorkv.*} property has a value that is not allowed
     */
    public static AbstractModel install(AbstractModel model) {
        LoadHook.loaded(model, null);
        return model;
    }

    /**
     * As {@link #install(AbstractModel)}, with the profile that lies in the model's folder, if there is one and the policy
     * asks for it.
     *
     * @param folder the folder that the model was loaded from
     */
    public static AbstractModel install(AbstractModel model, File folder) {
        LoadHook.loaded(model, folder);
        return model;
    }

    /**
     * Forgets a session and frees its memory. Without this call a session that no one continues stays in memory until
     * newer ones push it out. Does nothing if the model knows no such session or is not served by TailorKV; a session that
     * is generating is freed at the end of its turn.
     */
    public static void closeSession(AbstractModel model, UUID session) {
        LoadHook.closeSession(model, session);
    }
}
