package com.example.agent;

import java.io.InputStream;
import java.lang.instrument.ClassFileTransformer;
import java.lang.instrument.Instrumentation;
import java.security.ProtectionDomain;
import java.util.Arrays;

/**
 * Tells how the bytes of Jlama's {@code ModelSupport} that the JVM defines differ from its class file.
 * To be started after the other agents.
 */
public final class WitnessAgent {
    private WitnessAgent() {}

    public static void premain(String arguments, Instrumentation instrumentation) {
        instrumentation.addTransformer(new ClassFileTransformer() {
            @Override
            public byte[] transform(ClassLoader loader, String name, Class<?> redefined, ProtectionDomain domain,
                    byte[] bytes) {
                if ("com/github/tjake/jlama/model/ModelSupport".equals(name)) {
                    System.out.println("ModelSupport: " + (isOriginal(loader, name, bytes) ? "original" : "changed")
                            + " from " + domain.getCodeSource().getLocation());
                }
                return null;
            }
        }, true);
    }

    public static void agentmain(String arguments, Instrumentation instrumentation) {
        System.out.println("witness attached to " + WitnessAgent.class.getClassLoader().getClass().getName());
    }

    private static boolean isOriginal(ClassLoader loader, String name, byte[] bytes) {
        try (InputStream file = loader.getResourceAsStream(name + ".class")) {
            return Arrays.equals(file.readAllBytes(), bytes);
        } catch (java.io.IOException e) {
            throw new java.io.UncheckedIOException(e);
        }
    }
}
