package io.github.tailorkv.cache;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import io.github.tailorkv.kernels.AttentionShape;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class OffloadFileTest {

    @Test
    void theFileHasNoNameOnceItIsOpen(@TempDir Path folder) throws IOException {
        try (OffloadFile file = OffloadFile.create(folder)) {
            BlockStore.Chunk chunk = file.allocate(1 << 16);
            chunk.memory().set(ValueLayout.JAVA_INT, 4096, 42);
            try (Stream<Path> files = Files.list(folder)) {
                assertEquals(0, files.count());
            }
            assertEquals(42, chunk.memory().get(ValueLayout.JAVA_INT, 4096));
            chunk.release().run();
        }
    }

    @Test
    void aFolderThatCannotBeWrittenIsNamed(@TempDir Path folder) {
        Path missing = folder.resolve("missing");
        UncheckedIOException refused = assertThrows(UncheckedIOException.class,
                () -> OffloadFile.create(missing).close());
        assertTrue(String.valueOf(refused.getMessage()).contains(missing.toString()), refused.toString());
        assertTrue(String.valueOf(refused.getMessage()).contains("tailorkv.offload.dir"), refused.toString());
    }

    /** On a file system of 2 MiB, which only root can mount. */
    @Test
    void aFullDiskEndsTheSessionThatFillsItAndNoOther(@TempDir Path folder) throws Exception {
        Process mount = new ProcessBuilder("mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder.toString())
                .redirectErrorStream(true)
                .start();
        assumeTrue(mount.waitFor() == 0, "a small file system cannot be mounted here");
        AttentionShape shape = new AttentionShape(4, 2, 64, 0.125f, 0);
        try (SessionDriver large = new SessionDriver(
                shape,
                SessionDriver.settings("policy=retrieve", "offload=disk", "offload.dir=" + folder, "budget=16"),
                1);
                SessionDriver small = new SessionDriver(
                        shape,
                        SessionDriver.settings("policy=retrieve", "offload=disk", "offload.dir=" + folder,
                                "budget=4096"),
                        2)) {
            // Decoding moves values to the disk, so it starts while there is room.
            small.feed(300, 1);
            small.feed(1, 1);
            UncheckedIOException full = assertThrows(UncheckedIOException.class, () -> {
                for (int i = 0; i < 100; i++) {
                    large.feed(256, 1);
                }
            });
            assertTrue(String.valueOf(full.getMessage()).contains(folder.toString()), full.toString());
            assertEquals(0, small.append(1, 1), 0.03);
            large.session.close();
            assertEquals(0, small.append(200, 1), 0.03);
        } finally {
            new ProcessBuilder("umount", "-l", folder.toString()).start().waitFor();
        }
    }
}
