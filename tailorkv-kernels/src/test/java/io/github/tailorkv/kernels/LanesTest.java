package io.github.tailorkv.kernels;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import org.junit.jupiter.api.Test;

class LanesTest {

    @Test
    void everyFiniteHalfBecomesTheSameFloat() {
        int count = 1 << 16;
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment halves = arena.allocate(2L * count, 64);
            for (int bits = 0; bits < count; bits++) {
                halves.setAtIndex(ValueLayout.JAVA_SHORT, bits, (short) bits);
            }
            float[] floats = new float[count];
            Lanes.halves(halves.address(), count, floats, 0);
            for (int bits = 0; bits < count; bits++) {
                float x = Float.float16ToFloat((short) bits);
                if (Float.isFinite(x)) {
                    assertEquals(x, floats[bits], "half " + bits);
                }
            }
        }
    }
}
