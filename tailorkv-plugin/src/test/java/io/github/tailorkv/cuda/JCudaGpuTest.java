package io.github.tailorkv.cuda;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.nio.channels.FileChannel;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.concurrent.FutureTask;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** What needs no GPU. */
class JCudaGpuTest {
    private final AtomicInteger loads = new AtomicInteger();

    /** As with two plugins in one application server: the file is locked for the whole JVM. */
    @Test
    @Timeout(60)
    void copiesOfTheClassInOneJvmLoadOneAfterTheOther(@TempDir Path folder) throws Exception {
        Path file = folder.resolve("lock");
        FutureTask<Integer> loading = new FutureTask<>(
                () -> JCudaGpu.inTurn(file, loads::incrementAndGet), 1);
        try (FileChannel other = FileChannel.open(file, StandardOpenOption.CREATE, StandardOpenOption.WRITE)) {
            other.lock();
            Thread.ofPlatform().daemon().start(loading);
            assertThrows(TimeoutException.class, () -> loading.get(200, TimeUnit.MILLISECONDS));
            assertEquals(0, loads.get());
        }
        loading.get();
        assertEquals(1, loads.get());
    }

    @Test
    void withoutAFileToLockItIsLoadedAllTheSame(@TempDir Path folder) {
        JCudaGpu.inTurn(folder.resolve("missing/lock"), loads::incrementAndGet);
        assertEquals(1, loads.get());
    }
}
