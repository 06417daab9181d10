package io.github.tailorkv.tools;

import java.io.Console;
import java.io.PrintWriter;
import java.time.Duration;
import java.util.Locale;
import java.util.Optional;

/** A line on the terminal that is written over; where there is no terminal, a line now and then. */
final class Progress {
    private static final int BAR = 24;
    private static final long QUIET_NANOS = Duration.ofSeconds(30).toNanos();

    private final PrintWriter out;
    private final boolean terminal;
    private final double total;
    private final long start = System.nanoTime();
    private long lastLine = start;
    private double done;
    private int width;

    /** @param total all work, in any unit */
    Progress(PrintWriter out, double total) {
        this.out = out;
        this.total = total;
        terminal = Optional.ofNullable(System.console()).map(Console::isTerminal).orElse(false);
    }

    /** Tells what is being worked on. */
    void show(String what) {
        if (terminal) {
            StringBuilder line = new StringBuilder(line(what));
            int length = line.length();
            line.repeat(" ", Math.max(0, width - length));
            width = length;
            out.print("\r" + line);
            out.flush();
        } else if (System.nanoTime() - lastLine > QUIET_NANOS) {
            lastLine = System.nanoTime();
            out.println(line(what));
        }
    }

    /** Counts work as done. */
    void advance(double work) {
        done += work;
    }

    /** Clears the line. */
    void end() {
        if (terminal && width > 0) {
            out.print("\r" + " ".repeat(width) + "\r");
            out.flush();
        }
    }

    private String line(String what) {
        double share = total > 0 ? Math.min(1, done / total) : 1;
        int full = (int) (share * BAR);
        String left = done > 0 ? ", " + time((System.nanoTime() - start) * (1 - share) / share) + " left" : "";
        return String.format(Locale.ROOT, "[%s%s] %3d %%%s  %s", "#".repeat(full), ".".repeat(BAR - full),
                (int) (100 * share), left, what);
    }

    private static String time(double nanos) {
        long seconds = Math.round(nanos / 1e9);
        return seconds < 90 ? seconds + " s"
                : seconds < 5400 ? Math.round(seconds / 60.0) + " min"
                        : String.format(Locale.ROOT, "%.1f h", seconds / 3600.0);
    }
}
