package io.github.tailorkv.it;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.tailorkv.it.ChildJvm.Ended;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.jar.Attributes;
import java.util.jar.JarEntry;
import java.util.jar.JarFile;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The jar as a file: what its manifest promises, what it holds, and that the JVM takes it. */
class BuiltJarIT {
    @Test
    void manifestNamesTheWaysIn() throws IOException {
        try (JarFile jar = new JarFile(ChildJvm.TAILORKV.toFile())) {
            Attributes manifest = jar.getManifest().getMainAttributes();
            assertEquals("io.github.tailorkv.boot.TailorKvAgent", manifest.getValue("Premain-Class"));
            assertEquals("io.github.tailorkv.tools.Main", manifest.getValue("Main-Class"));
            assertEquals("true", manifest.getValue("Can-Retransform-Classes"));
            assertEquals("ALL-UNNAMED", manifest.getValue("Enable-Native-Access"));
            assertNull(manifest.getValue("Automatic-Module-Name"));
        }
    }

    /**
     * The one class outside our packages has to stand in Jlama's, and no release of Jlama has one of that name. JCuda's
     * cannot be renamed: its native library binds them by name.
     */
    @Test
    void holdsNoClassThatCouldClashWithTheApplication() throws IOException {
        try (JarFile jar = new JarFile(ChildJvm.TAILORKV.toFile())) {
            List<String> foreign = jar.stream()
                    .map(JarEntry::getName)
                    .filter(name -> name.endsWith(".class") && !name.startsWith("io/github/tailorkv/"))
                    .filter(name -> !name.startsWith("jcuda/"))
                    .toList();
            assertEquals(List.of("com/github/tjake/jlama/tensor/OpenKvBuffer.class"), foreign);
        }
    }

    @Test
    void holdsTheGpuKernelsAndOneNativeLibrary() throws IOException {
        try (JarFile jar = new JarFile(ChildJvm.TAILORKV.toFile())) {
            assertNotNull(jar.getEntry("io/github/tailorkv/kernels/cuda.fatbin.gz"));
            assertEquals(
                    List.of("lib/libJCudaDriver-12.6.0-linux-x86_64.so"),
                    jar.stream().map(JarEntry::getName).filter(name -> name.endsWith(".so")).toList());
        }
    }

    @Test
    void runsAsProgram(@TempDir Path folder) throws Exception {
        Ended ended = new ChildJvm(folder).run("-jar", ChildJvm.TAILORKV, "--version").successful();
        assertTrue(ended.out().getFirst().startsWith("TailorKV 0."), ended::toString);
    }

    @Test
    void isSilentAsAgentUnlessEnabled(@TempDir Path folder) throws Exception {
        Ended ended = new ChildJvm(folder).agent().run("-jar", ChildJvm.TAILORKV, "--version").successful();
        assertEquals(1, ended.out().size(), ended::toString);
        assertEquals(List.of(), ended.errWith("ailor"), ended::toString);
    }
}
