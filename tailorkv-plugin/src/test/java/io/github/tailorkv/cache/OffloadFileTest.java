package io.github.tailorkv.cache;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import io.github.tailorkv.kernels.AttentionShape;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.MemorySegment;
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

    /** The system closes the file of a thread that is interrupted while it writes. */
    @Test
    void aThreadThatIsInterruptedGoesOnInANewFile(@TempDir Path folder) {
        try (OffloadFile file = OffloadFile.create(folder)) {
            BlockStore.Chunk before = file.allocate(1 << 16);
            before.memory().fill((byte) 1);
            Thread.currentThread().interrupt();
            BlockStore.Chunk after = file.allocate(3 << 16);
            assertTrue(Thread.interrupted(), "the thread is still interrupted");
            assertEquals(-1, after.memory().mismatch(MemorySegment.ofArray(new byte[3 << 16])));
            after.memory().fill((byte) 2);
            BlockStore.Chunk last = file.allocate(1 << 16);
            last.memory().fill((byte) 3);
            Thread.currentThread().interrupt();
            last.release().run();
            assertTrue(Thread.interrupted(), "the thread is still interrupted");
            BlockStore.Chunk again = file.allocate(1 << 16);
            again.memory().fill((byte) 4);
            assertEquals(1, before.memory().get(ValueLayout.JAVA_BYTE, 0));
            assertEquals(2, after.memory().get(ValueLayout.JAVA_BYTE, 0));
            again.release().run();
            after.release().run();
            before.release().run();
            assertEquals(0, folder.toFile().list().length);
        }
    }

    @Test
    void aSessionOfAnInterruptedThreadGoesOn(@TempDir Path folder) {
        try (SessionDriver session = new SessionDriver(
                new AttentionShape(4, 2, 64, 0.125f, 0),
                SessionDriver.settings("policy=retrieve", "offload=disk", "offload.dir=" + folder, "budget=4096"),
                1)) {
            session.feed(300, 1);
            Thread.currentThread().interrupt();
            assertEquals(0, session.append(300, 1), 0.03);
            assertEquals(0, session.append(1, 1), 0.03);
            session.session.truncate(450);
            assertEquals(0, session.append(300, 1), 0.03);
            assertTrue(Thread.interrupted(), "the thread is still interrupted");
            assertEquals(0, session.append(300, 1), 0.03);
            assertEquals(0, session.append(1, 1), 0.03);
        }
    }

    @Test
    void aClosedFileIsNotReplaced(@TempDir Path folder) {
        OffloadFile file = OffloadFile.create(folder);
        file.close();
        assertThrows(IllegalStateException.class, () -> file.allocate(1 << 16));
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
                    Thread.currentThread().interrupt();
                    large.feed(256, 1);
                }
            });
            assertTrue(Thread.interrupted(), "the thread is still interrupted");
            assertTrue(String.valueOf(full.getMessage()).contains(folder.toString()), full.toString());
            assertTrue(String.valueOf(full.getMessage()).contains("No space left on device"), full.toString());
            assertEquals(0, small.append(1, 1), 0.03);
            large.session.close();
            assertEquals(0, small.append(200, 1), 0.03);
        } finally {
            new ProcessBuilder("umount", "-l", folder.toString()).start().waitFor();
        }
    }
}
