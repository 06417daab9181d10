package io.github.tailorkv.memory;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.invoke.MethodHandle;
import java.util.Locale;
import org.jspecify.annotations.Nullable;

/**
 * Anonymous memory straight from the system (Linux), for two reasons.
 *
 * <p>What is freed goes back at once. When a prompt has been read every layer trades one store for another; the C library
 * keeps chunks of this size for later, and the process would hold both.
 *
 * <p>It comes in pages of 2 MiB where the system gives them to whoever asks (its setting {@code madvise} or {@code always}).
 * Dominant tokens and critical channels are read from all over many megabytes. With pages of 4 KiB nearly each of these
 * reads also misses the processor's address translation, which takes about as long as the read itself. And a driver that
 * pins memory for a GPU does so page by page.
 */
public final class SystemMemory {

    /** Bytes of a large page. */
    private static final long LARGE_PAGE = 2L << 20;

    /** Less than this is left to the C library. */
    private static final long LEAST = 64 << 10;

    private static final int READ_WRITE = 3;
    private static final int PRIVATE_ANONYMOUS = 0x22;
    private static final int WANT_LARGE = 14;
    private static final long FAILED = -1;

    private static final @Nullable Calls CALLS = Calls.find();

    private SystemMemory() {}

    /** The system's functions. */
    private record Calls(MethodHandle mmap, MethodHandle munmap, MethodHandle madvise) {

        private static @Nullable Calls find() {
            if (!System.getProperty("os.name", "").toLowerCase(Locale.ROOT).startsWith("linux")) {
                return null;
            }
            try {
                Linker linker = Linker.nativeLinker();
                SymbolLookup system = linker.defaultLookup();
                return new Calls(
                        linker.downcallHandle(
                                system.findOrThrow("mmap"),
                                FunctionDescriptor.of(
                                        JAVA_LONG, ADDRESS, JAVA_LONG, JAVA_INT, JAVA_INT, JAVA_INT, JAVA_LONG)),
                        linker.downcallHandle(
                                system.findOrThrow("munmap"), FunctionDescriptor.of(JAVA_INT, JAVA_LONG, JAVA_LONG)),
                        linker.downcallHandle(
                                system.findOrThrow("madvise"),
                                FunctionDescriptor.of(JAVA_INT, JAVA_LONG, JAVA_LONG, JAVA_INT)));
            } catch (RuntimeException | UnsatisfiedLinkError e) {
                System.getLogger("io.github.tailorkv")
                        .log(System.Logger.Level.DEBUG, "no memory in large pages", e);
                return null;
            }
        }
    }

    /**
     * Allocates zeroed memory that {@code arena} frees, aligned to pages. Whole large pages are asked for as such; a rest
     * stays in small ones, so that nothing is resident but what is used.
     *
     * @return null where there is no such system, or for so little that it is not worth a call
     */
    public static @Nullable MemorySegment allocate(long bytes, Arena arena) {
        Calls calls = CALLS;
        if (calls == null || bytes < LEAST) {
            return null;
        }
        boolean large = bytes >= LARGE_PAGE;
        try {
            long mapped = large ? bytes + LARGE_PAGE : bytes;
            long start = (long) calls.mmap.invokeExact(
                    MemorySegment.NULL, mapped, READ_WRITE, PRIVATE_ANONYMOUS, -1, 0L);
            if (start == FAILED) {
                return null;
            }
            long address = start;
            if (large) {
                address = (start + LARGE_PAGE - 1) & -LARGE_PAGE;
                int _ = (int) calls.madvise.invokeExact(address, bytes & -LARGE_PAGE, WANT_LARGE);
            }
            return MemorySegment.ofAddress(address).reinterpret(bytes, arena, memory -> unmap(calls, start, mapped));
        } catch (Throwable e) {
            throw new IllegalStateException("mmap cannot be called", e);
        }
    }

    private static void unmap(Calls calls, long start, long bytes) {
        try {
            int _ = (int) calls.munmap.invokeExact(start, bytes);
        } catch (Throwable e) {
            throw new IllegalStateException("munmap cannot be called", e);
        }
    }
}
