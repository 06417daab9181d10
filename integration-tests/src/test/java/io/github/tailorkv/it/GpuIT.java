package io.github.tailorkv.it;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assumptions.abort;

import io.github.tailorkv.gpu.GpuCheck;
import io.github.tailorkv.gpu.GpuSharing;
import io.github.tailorkv.it.ChildJvm.Ended;
import java.lang.foreign.Arena;
import java.lang.foreign.SymbolLookup;
import java.nio.file.Path;
import java.time.Duration;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The CUDA backend on a real GPU, where there is one; {@code integration-tests/gpu/run.sh} runs the same and more. */
class GpuIT {
    @TempDir
    private Path folder;

    @BeforeEach
    void thereIsAGpu() {
        try (Arena arena = Arena.ofConfined()) {
            SymbolLookup.libraryLookup("libcuda.so.1", arena);
        } catch (IllegalArgumentException e) {
            abort("no GPU to test on: no NVIDIA driver is installed (libcuda.so.1 is not there)");
        }
    }

    @Test
    void attentionIsWithinItsBounds() throws Exception {
        succeeds(GpuCheck.class, "small");
    }

    @Test
    void modelsAndSessionsShareIt() throws Exception {
        succeeds(GpuSharing.class);
    }

    private void succeeds(Class<?> program, Object... arguments) throws Exception {
        Ended ended = new ChildJvm(folder)
                .classPath(ChildJvm.TEST_CLASSES, ChildJvm.TAILORKV)
                .limit(Duration.ofMinutes(5))
                .run(program.getName(), arguments);
        assertEquals(0, ended.status(), () -> String.join("\n", ended.out()));
    }
}
