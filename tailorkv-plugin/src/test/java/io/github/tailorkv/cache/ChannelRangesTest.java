package io.github.tailorkv.cache;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;

import io.github.tailorkv.kernels.BlockLayout;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Random;
import org.junit.jupiter.api.Test;

/** Ranges of channels from blocks that several threads seal. */
class ChannelRangesTest {
    private static final int CHANNELS = 128;
    private static final int BITS = 4;

    /** A panel whose blocks have random scales and zero points, of one head. */
    private static MemorySegment panel(Arena arena, Random random) {
        MemorySegment panel = arena.allocate(BlockLayout.panelBytes(BITS, CHANNELS), 64);
        for (int i = 0; i < CHANNELS * BlockLayout.PANEL; i++) {
            long field = (long) i * Short.BYTES;
            panel.set(ValueLayout.JAVA_SHORT, BlockLayout.panelScales(BITS, CHANNELS) + field,
                    Float.floatToFloat16(random.nextFloat()));
            panel.set(ValueLayout.JAVA_SHORT, BlockLayout.panelZeros(BITS, CHANNELS) + field,
                    Float.floatToFloat16((float) random.nextGaussian()));
        }
        return panel;
    }

    @Test
    void threadsThatSealBlocksOfOneHeadLoseNone() {
        long seed = new Random().nextLong();
        Random random = new Random(seed);
        try (Arena arena = Arena.ofShared(); Workers workers = new Workers(4)) {
            for (int round = 0; round < 200; round++) {
                MemorySegment panel = panel(arena, random);
                ChannelRanges alone = new ChannelRanges(1, CHANNELS);
                for (int block = 0; block < BlockLayout.PANEL; block++) {
                    alone.includePanel(0, panel, 0, BITS, block);
                }
                ChannelRanges together = new ChannelRanges(1, CHANNELS);
                workers.run((block, slot) -> together.includePanel(0, panel, 0, BITS, block), BlockLayout.PANEL);
                assertArrayEquals(alone.range(0), together.range(0), "round " + round + ", seed " + seed);
                assertArrayEquals(alone.magnitude(0), together.magnitude(0), "round " + round + ", seed " + seed);
            }
        }
    }
}
