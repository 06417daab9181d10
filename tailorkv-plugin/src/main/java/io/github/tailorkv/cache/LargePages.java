package io.github.tailorkv.cache;

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
 * Anonymous memory in pages of 2 MiB, where Linux gives them to whoever asks (its setting {@code madvise} or
 * {@code always}).
 *
 * <p>Dominant tokens and critical channels are read from all over many megabytes. With pages of 4 KiB nearly each of these
 * reads also misses the processor's address translation, which takes about as long as the read itself.
 */
final class LargePages {

    /** Bytes of a large page. */
    static final long BYTES = 2L << 20;

    private static final int READ_WRITE = 3;
    private static final int PRIVATE_ANONYMOUS = 0x22;
    private static final int WANT_LARGE = 14;
    private static final long FAILED = -1;

    private static final @Nullable Calls CALLS = Calls.find();

    private LargePages() {}

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
     * Allocates zeroed memory that {@code arena} frees. Whole large pages are asked for as such; a rest stays in small
     * ones, so that nothing is resident but what is used.
     *
     * @return null where the system has no such pages, or where there is too little to fill one
     */
    static @Nullable MemorySegment allocate(long bytes, Arena arena) {
        Calls calls = CALLS;
        if (calls == null || bytes < BYTES) {
            return null;
        }
        try {
            long mapped = bytes + BYTES;
            long start = (long) calls.mmap.invokeExact(
                    MemorySegment.NULL, mapped, READ_WRITE, PRIVATE_ANONYMOUS, -1, 0L);
            if (start == FAILED) {
                return null;
            }
            long aligned = (start + BYTES - 1) & -BYTES;
            int _ = (int) calls.madvise.invokeExact(aligned, bytes & -BYTES, WANT_LARGE);
            return MemorySegment.ofAddress(aligned).reinterpret(bytes, arena, memory -> unmap(calls, start, mapped));
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
