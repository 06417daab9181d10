package io.github.tailorkv.kernels;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;

class Float16Test {

    @Test
    void everyFiniteHalfIsItsOwnFloorAndCeiling() {
        for (int bits = 0; bits < 1 << 16; bits++) {
            float x = Float.float16ToFloat((short) bits);
            if (Float.isFinite(x)) {
                assertEquals(x, Float.float16ToFloat(Float16.floor(x)));
                assertEquals(x, Float.float16ToFloat(Float16.ceil(x)));
            }
        }
    }

    @Test
    void numbersBetweenTwoHalvesGoToTheOneOnTheirSide() {
        for (int bits = 0; bits < 0x7bff; bits++) {
            float low = Float.float16ToFloat((short) bits);
            float high = Float.float16ToFloat((short) (bits + 1));
            for (float x : new float[] {Math.nextUp(low), (low + high) / 2, Math.nextDown(high)}) {
                assertEquals(low, Float.float16ToFloat(Float16.floor(x)));
                assertEquals(high, Float.float16ToFloat(Float16.ceil(x)));
                assertEquals(-high, Float.float16ToFloat(Float16.floor(-x)));
                assertEquals(-low, Float.float16ToFloat(Float16.ceil(-x)));
            }
        }
    }

    @Test
    void whatLiesBeyondTheRangeIsClamped() {
        for (float x : new float[] {65505f, 65520f, 1e30f, Float.POSITIVE_INFINITY}) {
            assertEquals(Float16.MAX, Float.float16ToFloat(Float16.floor(x)));
            assertEquals(Float16.MAX, Float.float16ToFloat(Float16.ceil(x)));
            assertEquals(-Float16.MAX, Float.float16ToFloat(Float16.floor(-x)));
            assertEquals(-Float16.MAX, Float.float16ToFloat(Float16.ceil(-x)));
        }
        assertTrue(Float.float16ToFloat(Float16.ceil(Float.MIN_VALUE)) > 0);
    }
}
