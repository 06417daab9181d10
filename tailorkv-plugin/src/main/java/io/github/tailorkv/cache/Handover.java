package io.github.tailorkv.cache;

import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicIntegerArray;
import java.util.concurrent.locks.LockSupport;

/**
 * Numbers that pieces of a job hand on to later pieces of the same job, in the order in which they come. Who takes one spins
 * until it is there: the piece that puts it is running already, and seldom for longer than what waking a thread takes.
 *
 * <p>Each number that is taken must be put by a piece that was claimed before, also if that piece fails: then it puts
 * {@link #NOTHING}.
 */
final class Handover {

    /** In place of a number from a piece that has failed. */
    static final int NOTHING = -1;

    private static final int EMPTY = -2;
    private static final int SPINS = 1000;
    /** Between two looks once spinning has not helped: the thread that puts has lost its core. */
    private static final long PAUSE_NANOS = 20_000;

    private final AtomicInteger count = new AtomicInteger();
    private final AtomicIntegerArray numbers;

    /** @param most that are put in one job */
    Handover(int most) {
        numbers = new AtomicIntegerArray(most);
    }

    /** Forgets everything, before a job begins. */
    void clear() {
        count.set(0);
        for (int i = 0; i < numbers.length(); i++) {
            numbers.set(i, EMPTY);
        }
    }

    /** Hands on a number, 0 or more, or {@link #NOTHING}; whoever takes it sees what this thread has written before. */
    void put(int number) {
        numbers.set(count.getAndIncrement(), number);
    }

    /** The number that was put after {@code before} others. */
    int take(int before) {
        int number = numbers.get(before);
        for (int spin = 0; number == EMPTY; spin++) {
            if (spin < SPINS) {
                Thread.onSpinWait();
            } else {
                LockSupport.parkNanos(this, PAUSE_NANOS);
            }
            number = numbers.get(before);
        }
        return number;
    }
}
