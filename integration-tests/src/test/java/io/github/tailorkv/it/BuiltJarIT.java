package io.github.tailorkv.it;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.jar.Attributes;
import java.util.jar.JarEntry;
import java.util.jar.JarFile;
import org.junit.jupiter.api.Test;

/** The jar as a file: what its manifest promises, what it holds, and that the JVM takes it. */
class BuiltJarIT {
    private static final Path JAR = Path.of(System.getProperty("built.tailorkv.jar", ""));

    @Test
    void manifestNamesTheWaysIn() throws IOException {
        try (JarFile jar = new JarFile(JAR.toFile())) {
            Attributes manifest = jar.getManifest().getMainAttributes();
            assertEquals("io.github.tailorkv.boot.TailorKvAgent", manifest.getValue("Premain-Class"));
            assertEquals("io.github.tailorkv.tools.Main", manifest.getValue("Main-Class"));
            assertEquals("true", manifest.getValue("Can-Retransform-Classes"));
            assertEquals("ALL-UNNAMED", manifest.getValue("Enable-Native-Access"));
            assertNull(manifest.getValue("Automatic-Module-Name"));
        }
    }

    /** The one class outside our packages has to stand in Jlama's, and no release of Jlama has one of that name. */
    @Test
    void holdsNoClassThatCouldClashWithTheApplication() throws IOException {
        try (JarFile jar = new JarFile(JAR.toFile())) {
            List<String> foreign = jar.stream()
                    .map(JarEntry::getName)
                    .filter(name -> name.endsWith(".class") && !name.startsWith("io/github/tailorkv/"))
                    .toList();
            assertEquals(List.of("com/github/tjake/jlama/tensor/OpenKvBuffer.class"), foreign);
        }
    }

    @Test
    void runsAsProgram() throws Exception {
        assertTrue(java("-jar", JAR.toString(), "--version").startsWith("TailorKV 0."));
    }

    @Test
    void isSilentAsAgentUnlessEnabled() throws Exception {
        String output = java("-javaagent:" + JAR, "-jar", JAR.toString(), "--version");
        assertEquals(1, output.lines().count(), output);
    }

    private static String java(String... arguments) throws IOException, InterruptedException {
        List<String> command = new ArrayList<>();
        command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
        command.addAll(List.of(arguments));
        Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
        String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        assertEquals(0, process.waitFor(), output);
        return output;
    }
}
