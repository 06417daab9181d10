package io.github.tailorkv.cache;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.concurrent.atomic.AtomicIntegerArray;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

class HandoverTest {

    @Test
    void numbersComeInTheOrderInWhichTheyWerePut() {
        Handover handover = new Handover(3);
        for (int round = 0; round < 2; round++) {
            handover.clear();
            handover.put(2);
            handover.put(Handover.NOTHING);
            handover.put(round);
            assertEquals(2, handover.take(0));
            assertEquals(Handover.NOTHING, handover.take(1));
            assertEquals(round, handover.take(2));
        }
    }

    /** The first half of the pieces puts, late, what the second half takes. */
    @Test
    @Timeout(60)
    void whoTakesWaits() {
        int half = 4;
        Handover handover = new Handover(half);
        try (Workers workers = new Workers(3)) {
            for (int round = 0; round < 200; round++) {
                int[] written = new int[half];
                AtomicIntegerArray seen = new AtomicIntegerArray(half);
                boolean slow = round % 20 == 0;
                handover.clear();
                workers.run(
                        (piece, slot) -> {
                            if (piece < half) {
                                if (slow) {
                                    sleep();
                                }
                                written[piece] = 100 + piece;
                                handover.put(piece);
                            } else {
                                int number = handover.take(piece - half);
                                seen.set(number, written[number]);
                            }
                        },
                        2 * half);
                for (int i = 0; i < half; i++) {
                    assertEquals(100 + i, seen.get(i));
                }
            }
        }
    }

    private static void sleep() {
        try {
            Thread.sleep(2);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }
}
