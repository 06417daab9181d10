package io.github.tailorkv.cache;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.ref.WeakReference;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicIntegerArray;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

class WorkersTest {
    private static final int PIECES = 100;

    /** Runs a job that holds what is returned, and nothing else does. */
    private static WeakReference<Object> runOne(Workers workers, boolean fails) {
        AtomicIntegerArray runs = new AtomicIntegerArray(PIECES);
        Workers.Job job = (piece, slot) -> {
            runs.incrementAndGet(piece);
            if (fails && piece == PIECES / 2) {
                throw new IllegalStateException("piece");
            }
        };
        if (fails) {
            assertThrows(IllegalStateException.class, () -> workers.run(job, PIECES));
        } else {
            workers.run(job, PIECES);
        }
        for (int piece = 0; piece < PIECES; piece++) {
            assertEquals(1, runs.get(piece), "piece " + piece);
        }
        return new WeakReference<>(runs);
    }

    @Test
    @Timeout(60)
    void nothingOfAJobIsHeldOnceItHasEnded() throws InterruptedException {
        try (Workers workers = new Workers(3)) {
            for (boolean fails : new boolean[] {false, true}) {
                WeakReference<Object> held = runOne(workers, fails);
                for (int i = 0; i < 100 && held.get() != null; i++) {
                    System.gc();
                    Thread.sleep(10);
                }
                assertEquals(null, held.get(), fails ? "after a failure" : "after a job");
            }
        }
    }

    @Test
    @Timeout(60)
    void threadsEndWithTheGroup() throws InterruptedException {
        Set<Thread> threads = ConcurrentHashMap.newKeySet();
        try (Workers workers = new Workers(3)) {
            while (threads.size() < 3) {
                workers.run((piece, slot) -> threads.add(Thread.currentThread()), PIECES);
            }
        }
        threads.remove(Thread.currentThread());
        for (Thread thread : threads) {
            assertTrue(thread.isDaemon());
            thread.join();
        }
    }
}
