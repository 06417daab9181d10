package io.github.tailorkv.jlama;

import static org.junit.jupiter.api.Assertions.assertEquals;

import com.github.tjake.jlama.math.VectorMath;
import java.lang.foreign.ValueLayout;
import org.junit.jupiter.api.Test;

class RotaryTableTest {
    @Test
    void holdsJlamasAnglesByPosition() {
        int headSize = 16;
        int positions = 300;
        float[][] stock = VectorMath.precomputeFreqsCis(headSize, positions, 10_000, 1);
        RotaryTable table = RotaryTable.copyOf(stock, headSize);
        for (int position = 0; position < positions; position++) {
            for (int pair = 0; pair < headSize / 2; pair++) {
                float[] expected = stock[position * headSize / 2 + pair];
                long at = table.offset(position) / Float.BYTES + pair;
                assertEquals(expected[0], table.angles().getAtIndex(ValueLayout.JAVA_FLOAT, at));
                assertEquals(expected[1], table.angles().getAtIndex(ValueLayout.JAVA_FLOAT, at + headSize / 2));
            }
        }
        assertEquals(4L * headSize * positions, table.angles().byteSize());
    }
}
