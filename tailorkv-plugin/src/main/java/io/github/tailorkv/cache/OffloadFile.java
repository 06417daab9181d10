package io.github.tailorkv.cache;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.channels.FileChannel.MapMode;
import java.nio.file.FileSystems;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.FileAttribute;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.Set;

/**
 * Offloaded rows of one layer on disk: a file that only its owner may read and that has lost its name before the first
 * byte is written, so that nothing is left behind however the process ends.
 *
 * <p>Rows are written and read through a mapping; the operating system's page cache decides what is in RAM. A mapping
 * over a hole in a full disk would end in a fault in the middle of a kernel, therefore every chunk is written with zeros
 * first: a full disk is an exception here and nowhere else.
 */
final class OffloadFile implements BlockStore.Source {

    private static final ByteBuffer ZEROS = ByteBuffer.allocateDirect(1 << 20).asReadOnlyBuffer();

    private final Path directory;
    private final FileChannel channel;
    private long end;

    private OffloadFile(Path directory, FileChannel channel) {
        this.directory = directory;
        this.channel = channel;
    }

    /**
     * Creates the file and removes its name.
     *
     * @throws UncheckedIOException if the folder cannot be written
     */
    static OffloadFile create(Path directory) {
        boolean posix = FileSystems.getDefault().supportedFileAttributeViews().contains("posix");
        FileAttribute<?>[] ownerOnly = posix
                ? new FileAttribute<?>[] {
                    PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rw-------"))}
                : new FileAttribute<?>[0];
        try {
            Path file = Files.createTempFile(directory, "tailorkv-", ".rows", ownerOnly);
            FileChannel channel = FileChannel.open(
                    file,
                    Set.of(StandardOpenOption.READ, StandardOpenOption.WRITE, StandardOpenOption.DELETE_ON_CLOSE));
            if (posix) {
                Files.deleteIfExists(file);
            }
            return new OffloadFile(directory, channel);
        } catch (IOException e) {
            throw failure(directory, e);
        }
    }

    private static UncheckedIOException failure(Path directory, IOException cause) {
        return new UncheckedIOException(
                "cannot write offloaded rows to " + directory + " (" + cause.getMessage()
                        + "): make room there, set tailorkv.offload.dir to another folder or tailorkv.offload=ram",
                cause);
    }

    @Override
    @SuppressWarnings("MustBeClosedChecker") // the chunk owns the arena
    public BlockStore.Chunk allocate(long bytes) {
        long start = end;
        try {
            for (long at = start; at < start + bytes;) {
                ByteBuffer zeros = ZEROS.duplicate();
                zeros.limit((int) Math.min(zeros.capacity(), start + bytes - at));
                at += channel.write(zeros, at);
            }
            Arena arena = Arena.ofShared();
            MemorySegment memory = channel.map(MapMode.READ_WRITE, start, bytes, arena);
            end = start + bytes;
            return new BlockStore.Chunk(memory, () -> release(arena, start));
        } catch (IOException e) {
            shrink(start);
            throw failure(directory, e);
        }
    }

    private void release(Arena arena, long start) {
        arena.close();
        shrink(start);
    }

    private void shrink(long newEnd) {
        end = newEnd;
        try {
            if (channel.isOpen()) {
                channel.truncate(newEnd);
            }
        } catch (IOException e) {
            // the space is given back when the channel is closed
            System.getLogger("io.github.tailorkv").log(System.Logger.Level.DEBUG, "cannot shrink an offload file", e);
        }
    }

    @Override
    public void close() {
        try {
            channel.close();
        } catch (IOException e) {
            throw failure(directory, e);
        }
    }
}
