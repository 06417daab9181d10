package io.github.tailorkv.jlama;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/**
 * The angles of the rotary position embedding, {@code float[positions][2][headSize / 2]}: the cosines of a position, then
 * its sines. One table for all layers, heads and sessions of a model.
 *
 * <p>The values are Jlama's own, so that results agree to the last bit where they can. Jlama holds them as one small array
 * for each position and pair, which takes nine times the memory, and reads them for head h at position p + 2h: the same
 * scores, but the last positions of the context lie outside. Here every head reads row p.
 */
final class RotaryTable {
    private final MemorySegment angles;
    private final int half;

    private RotaryTable(MemorySegment angles, int half) {
        this.angles = angles;
        this.half = half;
    }

    /** Copies Jlama's table of {@code (cosine, sine)}, element {@code position * headSize / 2 + pair}. */
    static RotaryTable copyOf(float[][] frequencies, int headSize) {
        int half = headSize / 2;
        MemorySegment angles = Arena.ofAuto().allocate((long) frequencies.length * 2 * Float.BYTES, 64);
        for (int row = 0; row < frequencies.length; row++) {
            long at = 2L * half * (row / half) + row % half;
            angles.setAtIndex(ValueLayout.JAVA_FLOAT, at, frequencies[row][0]);
            angles.setAtIndex(ValueLayout.JAVA_FLOAT, at + half, frequencies[row][1]);
        }
        return new RotaryTable(angles, half);
    }

    MemorySegment angles() {
        return angles;
    }

    /** Where the angles of a position begin, in bytes: the cosines, then the sines. */
    long offset(int position) {
        return 2L * half * Float.BYTES * position;
    }
}
