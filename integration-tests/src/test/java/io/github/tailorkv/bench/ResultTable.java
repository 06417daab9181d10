package io.github.tailorkv.bench;

import io.github.tailorkv.bench.ContenderJvm.Outcome;
import java.io.PrintWriter;
import java.util.Collection;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import java.util.OptionalDouble;
import java.util.TreeSet;
import java.util.function.ToDoubleFunction;
import org.jspecify.annotations.Nullable;

/**
 * Puts measurements side by side: one row for each context length and contender, medians over the rounds, and beside each
 * speed its ratio to stock. Attention is what a decode step takes beyond the same contender's step at an empty cache.
 */
final class ResultTable {
    private static final String SPEED = "%8s  %-12s %10s %8s %10s %10s %8s %12s %9s %12s %9s %9s%n";
    private static final String SUMMARY = "%-12s %12s %12s %10s %13s %13s %10s %10s %10s%n";
    private static final double MEGA = 1 << 20;

    private final List<Configuration> configurations;
    private final Collection<Measurement> measurements;
    private final Map<String, List<Outcome>> outcomes;

    ResultTable(
            List<Configuration> configurations,
            Collection<Measurement> measurements,
            Map<String, List<Outcome>> outcomes) {
        this.configurations = configurations;
        this.measurements = measurements;
        this.outcomes = outcomes;
    }

    void print(PrintWriter out) {
        out.printf(
                Locale.ROOT,
                SPEED,
                "context",
                "contender",
                "prefill/s",
                "x stock",
                "to here/s",
                "decode ms",
                "x stock",
                "p10-p90",
                "first ms",
                "attention ms",
                "RSS MB",
                "peak MB");
        TreeSet<Integer> contexts = new TreeSet<>();
        measurements.forEach(m -> contexts.add(m.context()));
        contexts.remove(Measurement.FLOOR);
        for (int context : contexts) {
            for (Configuration configuration : configurations) {
                printSpeed(out, context, configuration.name());
            }
        }
        out.println();
        out.printf(
                Locale.ROOT,
                SUMMARY,
                "contender",
                "floor pre/s",
                "floor dec ms",
                "KV tokens",
                "KV in RAM MB",
                "offloaded MB",
                "of stock",
                "peak MB",
                "load s");
        for (Configuration configuration : configurations) {
            printSummary(out, configuration);
        }
        outcomes.values()
                .stream()
                .flatMap(List::stream)
                .map(Outcome::summary)
                .map(run -> run.operations() + ", threads: " + run.threads())
                .distinct()
                .forEach(how -> out.println("Jlama's matrix products: " + how));
        out.flush();
    }

    private void printSpeed(PrintWriter out, int context, String name) {
        if (median(context, name, Measurement::decodeMs).isEmpty()) {
            return;
        }
        OptionalDouble decode = median(context, name, Measurement::decodeMs);
        OptionalDouble floor = median(Measurement.FLOOR, name, Measurement::decodeMs);
        OptionalDouble stockDecode = median(context, Configuration.STOCK, Measurement::decodeMs);
        OptionalDouble prefill = median(context, name, m -> orNaN(m.prefillMarginal()));
        OptionalDouble stockPrefill = median(context, Configuration.STOCK, m -> orNaN(m.prefillMarginal()));
        out.printf(
                Locale.ROOT,
                SPEED,
                context,
                name,
                text("%.1f", prefill),
                text("%.2f", ratio(prefill, stockPrefill)),
                text("%.1f", median(context, name, m -> orNaN(m.prefillTotal()))),
                text("%.2f", decode),
                text("%.3f", ratio(decode, stockDecode)),
                text("%.1f", median(context, name, Measurement::decodeMsLow)) + "-"
                        + text("%.1f", median(context, name, Measurement::decodeMsHigh)),
                text("%.1f", median(context, name, Measurement::firstDecodeMs)),
                text("%.2f", difference(decode, floor)),
                text("%.0f", median(context, name, m -> m.residentBytes() / MEGA)),
                text("%.0f", median(context, name, m -> m.peakResidentBytes() / MEGA)));
    }

    private void printSummary(PrintWriter out, Configuration configuration) {
        List<Outcome> runs = Objects.requireNonNullElse(outcomes.get(configuration.name()), List.of());
        if (runs.isEmpty()) {
            return;
        }
        boolean stock = configuration.stock();
        OptionalDouble tokens = median(runs, o -> stock ? o.summary().tokens() : total(o, "tokens"));
        OptionalDouble stockBytes = median(runs, o -> stock ? o.summary().stockBytes() : total(o, "stockBytes"));
        OptionalDouble resident = stock ? stockBytes : median(runs, o -> total(o, "residentBytes"));
        OptionalDouble offloaded = stock ? OptionalDouble.empty() : median(runs, o -> total(o, "offloadedBytes"));
        OptionalDouble all = OptionalDouble.of(resident.orElse(0) + offloaded.orElse(0));
        out.printf(
                Locale.ROOT,
                SUMMARY,
                configuration.name(),
                text("%.1f", median(runs, o -> o.summary().floorPrefill())),
                text("%.2f", median(runs, o -> o.summary().floorDecodeMs())),
                text("%.0f", tokens),
                text("%.1f", over(resident, MEGA)),
                text("%.1f", over(offloaded, MEGA)),
                text("%.3f", ratio(all, stockBytes)),
                text("%.0f", median(runs, o -> o.summary().peakResidentBytes() / MEGA)),
                text("%.1f", median(runs, o -> o.summary().loadSeconds())));
    }

    private static double total(Outcome outcome, String name) {
        return outcome.report().path("totals").path(name).asDouble();
    }

    private OptionalDouble median(int context, String name, ToDoubleFunction<Measurement> value) {
        return median(
                measurements.stream().filter(m -> m.context() == context && m.configuration().equals(name)).toList(),
                value);
    }

    private static <T> OptionalDouble median(List<T> items, ToDoubleFunction<T> value) {
        double[] values = items.stream().mapToDouble(value).filter(v -> !Double.isNaN(v)).toArray();
        return values.length == 0 ? OptionalDouble.empty() : OptionalDouble.of(Quantiles.median(values));
    }

    private static OptionalDouble ratio(OptionalDouble value, OptionalDouble base) {
        return value.isEmpty() || base.isEmpty() ? OptionalDouble.empty() : over(value, base.getAsDouble());
    }

    private static OptionalDouble over(OptionalDouble value, double divisor) {
        return value.isEmpty() ? value : OptionalDouble.of(value.getAsDouble() / divisor);
    }

    private static OptionalDouble difference(OptionalDouble value, OptionalDouble base) {
        return value.isEmpty() || base.isEmpty()
                ? OptionalDouble.empty()
                : OptionalDouble.of(value.getAsDouble() - base.getAsDouble());
    }

    private static double orNaN(@Nullable Double value) {
        return value == null ? Double.NaN : value;
    }

    private static String text(String format, OptionalDouble value) {
        return value.isEmpty() ? "-" : String.format(Locale.ROOT, format, value.getAsDouble());
    }
}
