package io.github.tailorkv.kernels;

import static io.github.tailorkv.kernels.BlockLayout.codeByte;
import static io.github.tailorkv.kernels.BlockLayout.codeShift;
import static io.github.tailorkv.kernels.BlockLayout.rowBytes;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.BitSet;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class BlockLayoutTest {

    @ParameterizedTest
    @ValueSource(ints = {1, 2, 4, 8})
    void everyCodeHasBitsOfItsOwnInsideTheRow(int bits) {
        for (int elements : new int[] {1, 16, 63, 64, 80, 96, 128, 256}) {
            BitSet used = new BitSet();
            for (int e = 0; e < elements; e++) {
                assertTrue(codeByte(bits, e) < rowBytes(bits, elements));
                assertTrue(codeShift(bits, e) + bits <= 8);
                for (int b = 0; b < bits; b++) {
                    int bit = 8 * codeByte(bits, e) + codeShift(bits, e) + b;
                    assertTrue(!used.get(bit), "bit " + bit + " used twice");
                    used.set(bit);
                }
            }
        }
    }

    @Test
    void rowsHaveTheLengthsThatTheFormatNames() {
        assertEquals(80, rowBytes(8, 80));
        assertEquals(48, rowBytes(4, 80));
        assertEquals(32, rowBytes(2, 80));
        assertEquals(16, rowBytes(1, 80));
        assertEquals(32, rowBytes(4, 64));
        assertEquals(16, rowBytes(2, 64));
        assertEquals(8, rowBytes(1, 64));
        assertThrows(IllegalArgumentException.class, () -> rowBytes(3, 64));
    }

    @Test
    void aBlockOfFourBitsIsCodesThenScalesThenZeroPoints() {
        assertEquals(128 * 32, BlockLayout.keyScales(4, 128));
        assertEquals(128 * 32 + 256, BlockLayout.keyZeros(4, 128));
        assertEquals(128 * 32 + 512, BlockLayout.packedKeyBytes(4, 128));
        assertEquals(64 * 64, BlockLayout.valueScales(4, 128));
        assertEquals(64 * 64 + 256, BlockLayout.valueZeros(4, 128));
        assertEquals(64 * 64 + 512, BlockLayout.packedValueBytes(4, 128));
        assertEquals(2, BlockLayout.groups(80));
        assertEquals(96, BlockLayout.lowRecordBytes(80));
    }
}
