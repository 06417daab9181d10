package io.github.tailorkv.bench;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.SplittableRandom;

/**
 * A pool of random floats that serves rows of any number: each request starts somewhere else in the pool, so rows differ,
 * at no cost a row. Lives as long as the process.
 */
final class RandomRows {
    private static final int FLOATS = 1 << 22;

    private final MemorySegment pool = Arena.global().allocate((long) FLOATS * Float.BYTES, 64);
    private final SplittableRandom random;

    RandomRows(long seed, double deviation) {
        random = new SplittableRandom(seed);
        for (int i = 0; i < FLOATS; i++) {
            pool.setAtIndex(ValueLayout.JAVA_FLOAT, i, (float) (deviation * random.nextGaussian()));
        }
    }

    MemorySegment next(int floats) {
        long start = random.nextInt(FLOATS - floats) / 16 * 16L;
        return pool.asSlice(start * Float.BYTES, (long) floats * Float.BYTES);
    }
}
