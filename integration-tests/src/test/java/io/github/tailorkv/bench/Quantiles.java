package io.github.tailorkv.bench;

import java.util.Arrays;

/** Quantiles of a few numbers. */
final class Quantiles {
    private Quantiles() {}

    static double median(double... values) {
        return of(0.5, values);
    }

    /** The value at rank {@code fraction * (n - 1)}, interpolated. */
    static double of(double fraction, double... values) {
        double[] sorted = values.clone();
        Arrays.sort(sorted);
        double rank = fraction * (sorted.length - 1);
        int below = (int) rank;
        int above = Math.min(below + 1, sorted.length - 1);
        return sorted[below] + (rank - below) * (sorted[above] - sorted[below]);
    }
}
