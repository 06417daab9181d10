package io.github.tailorkv.boot;

import io.github.tailorkv.config.SettingsException;
import java.lang.instrument.ClassFileTransformer;
import java.lang.instrument.Instrumentation;
import java.lang.instrument.UnmodifiableClassException;
import java.security.ProtectionDomain;
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
        if (Activation.requestedOrExit()) {
            weaveJlama(instrumentation);
        }
    }

    /**
     * Called by the JVM when the agent is attached to a running application, which a wrong setting must not end. Models
     * that are loaded from then on are served.
     *
     * @param arguments the agent's arguments; not used
     * @param instrumentation the JVM's instrumentation
     */
    public static void agentmain(@Nullable String arguments, Instrumentation instrumentation) {
        try {
            if (Activation.requested()) {
                weaveJlama(instrumentation);
            }
        } catch (SettingsException e) {
            Activation.say(e.getMessage() + "; Jlama stays stock");
        }
    }

    private static void weaveJlama(Instrumentation instrumentation) {
        instrumentation.addTransformer(new ModelSupportTransformer(), true);
        for (Class<?> loaded : instrumentation.getAllLoadedClasses()) {
            if (loaded.getName().equals(ModelSupportWeaver.CLASS)) {
                try {
                    instrumentation.retransformClasses(loaded);
                } catch (UnmodifiableClassException | LinkageError e) {
                    Activation.say("Jlama stays stock: " + loaded + " is loaded and cannot be changed (" + e + ")");
                }
            }
        }
    }

    private static final class ModelSupportTransformer implements ClassFileTransformer {
        private static final String INTERNAL_NAME = ModelSupportWeaver.CLASS.replace('.', '/');

        @Override
        public byte @Nullable [] transform(@Nullable ClassLoader loader, @Nullable String className,
                @Nullable Class<?> classBeingRedefined, @Nullable ProtectionDomain protectionDomain, byte[] bytes) {
            return INTERNAL_NAME.equals(className) ? ModelSupportWeaver.weave(bytes, loader) : null;
        }
    }
}
