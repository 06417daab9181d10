package io.github.tailorkv.live;

import io.github.tailorkv.config.Settings;
import io.github.tailorkv.spi.StepSample;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.LongSupplier;
import org.jspecify.annotations.Nullable;

/**
 * Decides which decode steps of a model are measured: every so many, by the property {@code tailorkv.sample} or for as
 * long as somebody watches, whichever is more often. Who watches takes a lease and renews it, so that sampling ends with
 * the watcher however that one ends.
 *
 * <p>Measuring times costs microseconds a layer. Measuring the recall reads all that a layer holds, so it is paid for:
 * each measured step earns {@link #RECALL_SHARE} of the decode time that it stands for, the price of a measurement is
 * taken off, and while the balance is negative there is none. Nothing is saved up. The layers take turns.
 */
final class Sampling {

    /** Of decode time, what measuring the recall may cost. */
    static final double RECALL_SHARE = 0.005;

    private record Lease(int every, long end) {}

    private final LongSupplier clock;
    private final AtomicInteger steps = new AtomicInteger();
    private final AtomicReference<@Nullable Lease> lease = new AtomicReference<>();
    private volatile int every;
    private double balance;
    private int recallFrom;

    /**
     * @param every sample every so many steps, 0 for none
     * @param clock nanoseconds, as {@link System#nanoTime}
     */
    Sampling(int every, LongSupplier clock) {
        this.every = every;
        this.clock = clock;
    }

    /** How often a step is measured now: 0 for never. */
    int every() {
        Lease current = lease.get();
        if (current == null) {
            return every;
        }
        if (clock.getAsLong() - current.end >= 0) {
            lease.compareAndSet(current, null);
            return every;
        }
        return every == 0 ? current.every : Math.min(every, current.every);
    }

    /** Sets what holds without a lease. */
    void setEvery(int newEvery) {
        every = checked(newEvery);
    }

    /** Takes or renews a lease; none is left if {@code newEvery} or {@code seconds} is 0. */
    void lend(int newEvery, int seconds) {
        if (seconds < 0) {
            throw new IllegalArgumentException(seconds + " seconds");
        }
        lease.set(
                checked(newEvery) == 0 || seconds == 0
                        ? null
                        : new Lease(newEvery, clock.getAsLong() + TimeUnit.SECONDS.toNanos(seconds)));
    }

    private static int checked(int every) {
        if (every < 0 || every > Settings.RAREST_SAMPLE) {
            throw new IllegalArgumentException(
                    "every " + every + " steps; it takes a number from 0 to " + Settings.RAREST_SAMPLE);
        }
        return every;
    }

    /** Counts a decode step; whether it is to be measured. */
    boolean takesStep() {
        int interval = every();
        return interval != 0 && Math.floorMod(steps.incrementAndGet(), interval) == 0;
    }

    /** First layer whose recall may be measured in the step that begins; -1 if that is not paid for. */
    synchronized int recallFrom() {
        return balance < 0 ? -1 : recallFrom;
    }

    /**
     * Takes account of a measured step.
     *
     * @param stepNanos what the step took without measuring the recall
     */
    synchronized void measured(StepSample step, long stepNanos, boolean recallWasWanted) {
        balance = Math.min(0, balance + RECALL_SHARE * stepNanos * Math.max(1, every()) - step.recallNanos());
        if (recallWasWanted) {
            // With no layer from there on that selects, the next turn begins at the first one again.
            recallFrom = step.recallLayer() + 1;
        }
    }
}
