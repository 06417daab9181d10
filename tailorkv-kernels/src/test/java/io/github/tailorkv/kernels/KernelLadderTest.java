package io.github.tailorkv.kernels;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

import org.junit.jupiter.api.Test;

class KernelLadderTest {

    /** Run in a JVM of its own; prints the kernels chosen and whether the Vector API was initialized. */
    static final class Choice {
        public static void main(String[] arguments) {
            System.out.println("chosen: " + KernelLadder.choose(arguments[0]).name());
        }
    }

    @Test
    void scalarIsChosenByNameAndAnUnknownNameIsAnError() {
        assertEquals("scalar", KernelLadder.choose("scalar").name());
        var failure = assertThrows(IllegalArgumentException.class, () -> KernelLadder.choose("simd"));
        assertTrue(String.valueOf(failure.getMessage()).contains("simd"));
    }

    @Test
    void withoutTheModuleTheFallbackNamesTheFlag() throws Exception {
        String output = run(List.of(), "auto");
        assertTrue(output.contains("chosen: scalar"), output);
        assertTrue(output.contains("--add-modules jdk.incubator.vector"), output);
        assertEquals(1, output.split("--add-modules", -1).length - 1, output);
    }

    @Test
    void withoutTheModulePanamaIsAnErrorThatNamesTheFlag() throws Exception {
        String output = run(List.of(), "panama");
        assertFalse(output.contains("chosen"), output);
        assertTrue(output.contains("IllegalStateException"), output);
        assertTrue(output.contains("--add-modules jdk.incubator.vector"), output);
    }

    @Test
    void shortVectorsAreAnObstacleToo() throws Exception {
        String output = run(List.of("--add-modules", "jdk.incubator.vector", "-XX:MaxVectorSize=16"), "auto");
        assertTrue(output.contains("chosen: scalar"), output);
        assertTrue(output.contains("-XX:MaxVectorSize"), output);
    }

    @Test
    void scalarDoesNotTouchTheVectorApi() throws Exception {
        String output = run(List.of("--add-modules", "jdk.incubator.vector", "-Xlog:class+load"), "scalar");
        assertTrue(output.contains("chosen: scalar"), output);
        assertFalse(output.contains("jdk.incubator.vector.FloatVector"), output);
    }

    private static String run(List<String> flags, String name) throws Exception {
        List<String> command = new ArrayList<>();
        command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
        command.addAll(flags);
        command.addAll(List.of("--enable-native-access=ALL-UNNAMED", "-cp",
                System.getProperty("java.class.path"), Choice.class.getName(), name));
        Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
        String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        process.waitFor();
        return output;
    }
}
