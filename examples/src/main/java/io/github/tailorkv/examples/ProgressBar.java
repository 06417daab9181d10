package io.github.tailorkv.examples;

import java.io.PrintStream;
import java.util.Locale;

/**
 * One line of a terminal that tells how far a prompt is: a bar with speed and time left as soon as the first batch is
 * done, and a clock as long as nothing is known. The speed is that of the latest batches, for a prompt gets slower as its
 * context grows.
 */
final class ProgressBar implements AutoCloseable {
    private static final int WIDTH = 24;
    private static final long PERIOD_MILLIS = 100;
    /** Share of a batch in the speed. */
    private static final double NEWEST = 0.5;

    private final PrintStream out = System.err;
    private final String full;
    private final String empty;
    private final long begun = System.nanoTime();
    private final Thread drawer;

    private boolean closed;
    private int total;
    private int done;
    private long doneAt = begun;
    private double perSecond;

    /** A bar on standard error, or if it is not {@code visible} one that draws nothing. */
    ProgressBar(boolean visible) {
        boolean blocks = out.charset().newEncoder().canEncode('█');
        full = blocks ? "█" : "#";
        empty = blocks ? "░" : "-";
        drawer = Thread.ofPlatform().daemon().name("progress").unstarted(this::draw);
        closed = !visible;
        if (visible) {
            drawer.start();
        }
    }

    /** The prompt has so many tokens, and the model starts on them now. */
    synchronized void expect(int tokens) {
        total = tokens;
        doneAt = System.nanoTime();
    }

    /** So many tokens of the prompt are done. */
    synchronized void reach(int tokens) {
        long now = System.nanoTime();
        double batch = (tokens - done) / Math.max(1e-9, (now - doneAt) * 1e-9);
        perSecond = done == 0 ? batch : NEWEST * batch + (1 - NEWEST) * perSecond;
        done = tokens;
        doneAt = now;
    }

    private void draw() {
        try {
            while (true) {
                synchronized (this) {
                    if (closed) {
                        return;
                    }
                    out.print("\r" + line(System.nanoTime()) + "\u001b[K");
                    out.flush();
                }
                Thread.sleep(PERIOD_MILLIS);
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    private String line(long now) {
        long elapsed = (now - begun) / 1_000_000_000;
        if (done == 0 || total == 0) {
            return total == 0
                    ? "Reading the prompt ... " + duration(elapsed)
                    : String.format(Locale.ROOT, "Reading %,d tokens ... %s", total, duration(elapsed));
        }
        int filled = Math.min(WIDTH, (int) ((long) WIDTH * done / total));
        // What is left of the prompt, less what was probably done since the last batch.
        double left = Math.max(0, (total - done) / perSecond - (now - doneAt) * 1e-9);
        return String.format(
                Locale.ROOT, "%s%s %,d of %,d tokens, %,.0f tokens/s, %s left", full.repeat(filled),
                empty.repeat(WIDTH - filled), done, total, perSecond, duration((long) Math.ceil(left)));
    }

    private static String duration(long seconds) {
        return seconds < 60
                ? seconds + " s"
                : seconds < 3600
                        ? String.format(Locale.ROOT, "%d:%02d min", seconds / 60, seconds % 60)
                        : String.format(Locale.ROOT, "%d:%02d h", seconds / 3600, seconds / 60 % 60);
    }

    /** Wipes the line. */
    @Override
    public synchronized void close() {
        if (!closed) {
            closed = true;
            drawer.interrupt();
            out.print("\r\u001b[K");
            out.flush();
        }
    }
}
