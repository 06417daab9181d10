package io.github.tailorkv.kernels;

import java.lang.foreign.MemorySegment;
import java.util.Objects;

/**
 * All native memory as one constant segment, addressed by absolute address.
 *
 * <p>Loads through the caller's segment would call its methods for every vector, and inside an application that uses
 * heap, mapped and native segments alike (Jlama does) the JIT compiler cannot tell which class it is: the type profile
 * of the JDK's own access code is shared by all of them, and one virtual call in an inner loop costs more than the loop.
 * Here the segment is a constant, so every load compiles to one instruction. The price is that bounds and liveness must
 * be checked by {@link #address} first, once per operand of a kernel call, and that the caller keeps the segment alive
 * and open during the call.
 */
final class NativeMemory {

    static final MemorySegment ALL = MemorySegment.NULL.reinterpret(Long.MAX_VALUE);

    private NativeMemory() {}

    /** Address of {@code bytes} bytes at {@code offset} of a native segment. */
    static long address(MemorySegment segment, long offset, long bytes) {
        Objects.checkFromIndexSize(offset, bytes, segment.byteSize());
        if (!segment.isNative()) {
            throw new IllegalArgumentException("not native memory: " + segment);
        }
        if (!segment.scope().isAlive()) {
            throw new IllegalStateException("already closed: " + segment);
        }
        return segment.address() + offset;
    }

    /**
     * The same address, of which the compiler then knows that it is neither negative nor near the end of {@link #ALL}. What
     * {@link #at} makes of it passes the check of every load by that alone, so that a loop contains none: some four
     * instructions a load otherwise.
     */
    static long base(long address) {
        return address & (Long.MAX_VALUE >> 1);
    }

    /** Address of what lies {@code offset} bytes, 0 or more, behind a {@link #base}. */
    static long at(long base, int offset) {
        return base + Integer.toUnsignedLong(offset);
    }

    /** Address of {@code rows} rows of {@code bytes} bytes, {@code stride} bytes apart. */
    static long address(MemorySegment segment, long offset, long stride, int rows, long bytes) {
        return address(segment, offset, rows == 0 ? 0 : (rows - 1) * stride + bytes);
    }
}
