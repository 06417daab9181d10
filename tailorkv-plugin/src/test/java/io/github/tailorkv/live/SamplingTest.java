package io.github.tailorkv.live;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.tailorkv.spi.StepSample;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;

class SamplingTest {
    private long now = Long.MAX_VALUE - 5;

    private Sampling every(int steps) {
        return new Sampling(steps, () -> now);
    }

    private static int taken(Sampling sampling, int steps) {
        int taken = 0;
        for (int i = 0; i < steps; i++) {
            taken += sampling.takesStep() ? 1 : 0;
        }
        return taken;
    }

    @Test
    void takesOneStepInSoMany() {
        assertEquals(0, taken(every(0), 100));
        assertEquals(100, taken(every(1), 100));
        assertEquals(12, taken(every(8), 100));
        Sampling sampling = every(3);
        assertFalse(sampling.takesStep());
        assertFalse(sampling.takesStep());
        assertTrue(sampling.takesStep());
        sampling.setEvery(0);
        assertEquals(0, taken(sampling, 10));
    }

    /** The clock passes the largest long meanwhile, as System.nanoTime may. */
    @Test
    void leaseEndsByItselfAndOnlyMakesSamplingMoreFrequent() {
        Sampling sampling = every(0);
        sampling.lend(4, 10);
        assertEquals(4, sampling.every());
        now += TimeUnit.SECONDS.toNanos(9);
        assertEquals(4, sampling.every());
        sampling.lend(2, 10);
        now += TimeUnit.SECONDS.toNanos(9);
        assertEquals(2, sampling.every());
        now += TimeUnit.SECONDS.toNanos(1);
        assertEquals(0, sampling.every());
        sampling.setEvery(8);
        sampling.lend(16, 10);
        assertEquals(8, sampling.every());
        sampling.lend(4, 10);
        assertEquals(4, sampling.every());
        sampling.lend(4, 0);
        assertEquals(8, sampling.every());
    }

    @Test
    void refusesWhatIsNoInterval() {
        Sampling sampling = every(5);
        assertThrows(IllegalArgumentException.class, () -> sampling.setEvery(-1));
        assertThrows(IllegalArgumentException.class, () -> sampling.setEvery(1_000_001));
        assertThrows(IllegalArgumentException.class, () -> sampling.lend(1, -1));
        assertEquals(5, sampling.every());
    }

    /** A step of 1 ms, one in 10: it earns 0.5 % of 10 ms, 50 us. */
    @Test
    void recallIsMeasuredAsOftenAsItIsPaidFor() {
        Sampling sampling = every(10);
        StepSample step = new StepSample(4);
        int measured = 0;
        for (int i = 0; i < 1000; i++) {
            int from = sampling.recallFrom();
            step.begin(from);
            if (from >= 0) {
                measured++;
                step.setRecall(from % 4, 1, 500_000);
            }
            sampling.measured(step, 1_000_000, from >= 0);
        }
        assertEquals(100, measured, "500 us each, so one step in ten");
    }

    @Test
    void layersThatSelectTakeTurns() {
        Sampling sampling = every(1);
        StepSample step = new StepSample(5);
        StringBuilder turns = new StringBuilder();
        for (int i = 0; i < 8; i++) {
            step.begin(sampling.recallFrom());
            for (int layer : new int[] {1, 4}) {
                if (step.wantsRecall(layer)) {
                    step.setRecall(layer, 0.5, 0);
                }
            }
            turns.append(step.recallLayer()).append(' ');
            sampling.measured(step, 1_000_000, true);
        }
        assertEquals("1 4 -1 1 4 -1 1 4 ", turns.toString());
    }
}
