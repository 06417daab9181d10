package io.github.tailorkv.cache;

import com.google.common.base.Throwables;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.LockSupport;
import java.util.concurrent.locks.ReentrantLock;
import org.jspecify.annotations.Nullable;

/**
 * A fixed group of threads that runs the numbered pieces of one job at a time, the caller included.
 *
 * <p>Attention hands out a few pieces per layer and token, so handing them out must cost microseconds and allocate
 * nothing: a job is an object that its owner reuses, and idle workers are parked (the host's matrix products need the
 * cores between two calls, so nobody spins). A second caller that finds the group busy computes its job alone: sessions
 * in parallel keep the cores busy by themselves.
 *
 * <p>One word, the ticket, holds the round, the number of pieces and the next piece. A worker reads it, then the job, and
 * claims a piece by compare-and-set; the job is replaced only while no piece is left, so a claim that succeeds always
 * belongs to the job that was read, and a worker that wakes too late finds nothing to claim.
 *
 * <p>The threads keep this object reachable: whoever makes it closes it, as {@link HybridModelCache} does, whose memory waits
 * for its closing as well.
 */
final class Workers implements AutoCloseable {

    /** A piece of work; {@code slot} tells apart the threads that run pieces at the same time. */
    interface Job {
        void run(int piece, int slot);
    }

    private static final int MOST_PIECES = 0xffff;
    private static final Job NONE = (piece, slot) -> {};

    private final Thread[] threads;
    private final ReentrantLock busy = new ReentrantLock();
    private final AtomicLong ticket = new AtomicLong();
    private final AtomicInteger left = new AtomicInteger();
    private volatile Job job = NONE;
    private volatile @Nullable Throwable failure;
    private volatile @Nullable Thread caller;
    private volatile boolean closed;
    private int round;

    Workers(int threadCount) {
        threads = new Thread[Math.max(0, threadCount - 1)];
        for (int i = 0; i < threads.length; i++) {
            int slot = i + 1;
            threads[i] = Thread.ofPlatform().daemon().name("tailorkv-" + slot).start(() -> work(slot));
        }
    }

    /** Threads that may run pieces at once: slots are {@code [0, slots())}. */
    int slots() {
        return threads.length + 1;
    }

    /** Runs {@code count} pieces, at most 65,535, and returns when all are done; rethrows a failure of one. */
    void run(Job job, int count) {
        if (count <= 1 || threads.length == 0 || !busy.tryLock()) {
            for (int piece = 0; piece < count; piece++) {
                job.run(piece, 0);
            }
            return;
        }
        try {
            if (count > MOST_PIECES) {
                throw new IllegalArgumentException(count + " pieces");
            }
            this.job = job;
            caller = Thread.currentThread();
            failure = null;
            left.set(count);
            round++;
            ticket.set((long) round << 32 | (long) count << 16);
            int helpers = Math.min(threads.length, count - 1);
            for (int i = 0; i < helpers; i++) {
                LockSupport.unpark(threads[i]);
            }
            drain(0);
            while (left.get() > 0) {
                LockSupport.park(this);
            }
            Throwable thrown = failure;
            if (thrown != null) {
                Throwables.throwIfUnchecked(thrown);
            }
        } finally {
            // A job holds the session that it works for.
            this.job = NONE;
            caller = null;
            failure = null;
            busy.unlock();
        }
    }

    private void work(int slot) {
        while (!closed) {
            drain(slot);
            LockSupport.park(this);
        }
    }

    private void drain(int slot) {
        while (true) {
            long now = ticket.get();
            int count = (int) (now >>> 16) & 0xffff;
            int piece = (int) now & 0xffff;
            if (piece >= count) {
                return;
            }
            Job current = job;
            if (!ticket.compareAndSet(now, now + 1)) {
                continue;
            }
            try {
                current.run(piece, slot);
            } catch (RuntimeException | Error e) {
                failure = e;
            }
            if (left.decrementAndGet() == 0) {
                LockSupport.unpark(caller);
            }
        }
    }

    @Override
    public void close() {
        closed = true;
        for (Thread thread : threads) {
            LockSupport.unpark(thread);
        }
    }
}
