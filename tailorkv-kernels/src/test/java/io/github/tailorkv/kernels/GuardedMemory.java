package io.github.tailorkv.kernels;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.util.ArrayList;
import java.util.List;

/**
 * Native memory between two unreadable pages. A segment ends where the upper page begins, or begins where the lower one
 * ends, so that a kernel that reads or writes a byte too many crashes the JVM instead of passing. Linux only.
 */
final class GuardedMemory implements AutoCloseable {

    private static final long PAGE = 65536;
    private static final int PROT_NONE = 0;
    private static final int PROT_READ_WRITE = 3;
    private static final int MAP_PRIVATE_ANONYMOUS = 0x22;

    private record Mapping(MemorySegment memory, long bytes) {}

    private final MethodHandle mmap;
    private final MethodHandle mprotect;
    private final MethodHandle munmap;
    private final List<Mapping> mappings = new ArrayList<>();
    private boolean low;

    GuardedMemory() {
        mmap = function("mmap",
                FunctionDescriptor.of(ADDRESS, ADDRESS, JAVA_LONG, JAVA_INT, JAVA_INT, JAVA_INT, JAVA_LONG));
        mprotect = function("mprotect", FunctionDescriptor.of(JAVA_INT, ADDRESS, JAVA_LONG, JAVA_INT));
        munmap = function("munmap", FunctionDescriptor.of(JAVA_INT, ADDRESS, JAVA_LONG));
    }

    static boolean isSupported() {
        return System.getProperty("os.name").equals("Linux");
    }

    private static MethodHandle function(String name, FunctionDescriptor descriptor) {
        Linker linker = Linker.nativeLinker();
        return linker.downcallHandle(linker.defaultLookup().findOrThrow(name), descriptor);
    }

    /** Places the segments that follow against the lower page instead of the upper one. */
    void placeLow(boolean placeLow) {
        low = placeLow;
    }

    MemorySegment bytes(long count) {
        long room = (count + PAGE - 1) / PAGE * PAGE;
        long total = room + 2 * PAGE;
        try {
            MemorySegment memory = (MemorySegment) mmap.invokeExact(MemorySegment.NULL, total, PROT_NONE,
                    MAP_PRIVATE_ANONYMOUS, -1, 0L);
            memory = memory.reinterpret(total);
            mappings.add(new Mapping(memory, total));
            int failed = (int) mprotect.invokeExact(memory.asSlice(PAGE), room, PROT_READ_WRITE);
            if (failed != 0) {
                throw new IllegalStateException("mprotect failed");
            }
            return memory.asSlice(low ? PAGE : PAGE + room - count, count);
        } catch (Throwable e) {
            throw new IllegalStateException(e);
        }
    }

    MemorySegment floats(int count) {
        return bytes(count * 4L);
    }

    MemorySegment copy(float[] x) {
        MemorySegment segment = floats(x.length);
        MemorySegment.copy(x, 0, segment, ValueLayout.JAVA_FLOAT_UNALIGNED, 0, x.length);
        return segment;
    }

    MemorySegment copy(MemorySegment x) {
        return bytes(x.byteSize()).copyFrom(x);
    }

    @Override
    public void close() {
        try {
            for (Mapping mapping : mappings) {
                int failed = (int) munmap.invokeExact(mapping.memory, mapping.bytes);
                if (failed != 0) {
                    throw new IllegalStateException("munmap failed");
                }
            }
            mappings.clear();
        } catch (Throwable e) {
            throw new IllegalStateException(e);
        }
    }
}
