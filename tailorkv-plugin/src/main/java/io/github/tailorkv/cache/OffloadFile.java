package io.github.tailorkv.cache;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.channels.ClosedChannelException;
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
 *
 * <p>Java closes the file of a thread that is interrupted while it writes. What is mapped stays, and what comes after goes
 * to a new file; the space of the old one is free once its last chunk is released.
 */
final class OffloadFile implements BlockStore.Source {

    private static final ByteBuffer ZEROS = ByteBuffer.allocateDirect(1 << 20).asReadOnlyBuffer();

    private final Path directory;
    private FileChannel channel;
    private boolean closed;

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
        try {
            return new OffloadFile(directory, open(directory));
        } catch (IOException e) {
            throw failure(directory, e);
        }
    }

    private static FileChannel open(Path directory) throws IOException {
        boolean posix = FileSystems.getDefault().supportedFileAttributeViews().contains("posix");
        FileAttribute<?>[] ownerOnly = posix
                ? new FileAttribute<?>[] {
                    PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rw-------"))}
                : new FileAttribute<?>[0];
        Path file = Files.createTempFile(directory, "tailorkv-", ".rows", ownerOnly);
        FileChannel channel = FileChannel.open(
                file, Set.of(StandardOpenOption.READ, StandardOpenOption.WRITE, StandardOpenOption.DELETE_ON_CLOSE));
        if (posix) {
            Files.deleteIfExists(file);
        }
        return channel;
    }

    private static UncheckedIOException failure(Path directory, IOException cause) {
        return new UncheckedIOException(
                "cannot write offloaded rows to " + directory + " (" + cause.getMessage()
                        + "): make room there, set tailorkv.offload.dir to another folder or tailorkv.offload=ram",
                cause);
    }

    @Override
    public BlockStore.Chunk allocate(long bytes) {
        boolean interrupted = false;
        try {
            while (true) {
                try {
                    return append(channel, bytes);
                } catch (ClosedChannelException e) {
                    if (closed) {
                        throw new IllegalStateException("the session is closed", e);
                    }
                    interrupted |= Thread.interrupted();
                    channel = open(directory);
                }
            }
        } catch (IOException e) {
            throw failure(directory, e);
        } finally {
            if (interrupted) {
                Thread.currentThread().interrupt();
            }
        }
    }

    @SuppressWarnings("MustBeClosedChecker") // the chunk owns the arena
    private static BlockStore.Chunk append(FileChannel file, long bytes) throws IOException {
        long start = file.size();
        try {
            for (long at = start; at < start + bytes;) {
                ByteBuffer zeros = ZEROS.duplicate();
                zeros.limit((int) Math.min(zeros.capacity(), start + bytes - at));
                at += file.write(zeros, at);
            }
            Arena arena = Arena.ofShared();
            MemorySegment memory = file.map(MapMode.READ_WRITE, start, bytes, arena);
            return new BlockStore.Chunk(memory, () -> {
                arena.close();
                shrink(file, start);
            });
        } catch (IOException e) {
            shrink(file, start);
            throw e;
        }
    }

    private static void shrink(FileChannel file, long newEnd) {
        try {
            if (file.isOpen()) {
                file.truncate(newEnd);
            }
        } catch (IOException e) {
            // the space is given back with the file
            System.getLogger("io.github.tailorkv").log(System.Logger.Level.DEBUG, "cannot shrink an offload file", e);
        }
    }

    @Override
    public void close() {
        closed = true;
        try {
            channel.close();
        } catch (IOException e) {
            throw failure(directory, e);
        }
    }
}
