package io.github.tailorkv.tools;

import io.github.tailorkv.cache.AttentionTiming;
import io.github.tailorkv.cache.MemoryEstimate;
import io.github.tailorkv.config.LayerKind;
import io.github.tailorkv.config.Profile;
import io.github.tailorkv.spi.ModelShape;
import io.github.tailorkv.tools.html.BarChart;
import java.io.PrintWriter;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.function.IntToDoubleFunction;
import org.jspecify.annotations.Nullable;

/** The memory and the speed that a profiled model will have at some context lengths, under the policies that there are. */
final class Forecast {
    private final ModelShape shape;
    private final List<LayerKind> kinds;
    private final int[] lengths;
    private final @Nullable SpeedEstimate speed;
    private final String check;

    /** @param lengths in tokens */
    Forecast(ModelShape shape, Profile profile, int... lengths) {
        this(shape, profile.layers().stream().map(Profile.Layer::kind).toList(), lengths, null, "");
    }

    private Forecast(ModelShape shape, List<LayerKind> kinds, int[] lengths, @Nullable SpeedEstimate speed,
            String check) {
        this.shape = shape;
        this.kinds = kinds;
        this.lengths = lengths.clone();
        this.speed = speed;
        this.check = check;
    }

    /**
     * Measures what speed follows from.
     *
     * @param stepMillis what the model took for a token under the exact policy
     * @param stepTokens with so many tokens before it
     */
    Forecast withSpeed(double stepMillis, int stepTokens) {
        return new Forecast(shape, kinds, lengths, new SpeedEstimate(shape, kinds, stepMillis, stepTokens), check);
    }

    /** Holds the estimate against a run of the model itself under {@link PlannedPolicy#BALANCED}. */
    Forecast checked(List<LayerKind> found, int tokens, double millis) {
        if (speed == null) {
            return this;
        }
        double estimate = speed.millis(PlannedPolicy.BALANCED, found, tokens);
        return new Forecast(
                shape, kinds, lengths, speed,
                String.format(Locale.ROOT,
                        "Checked once: behind %d tokens, balanced, the model took %.1f ms a token; the estimate says %.1f "
                                + "(%+.0f %%).",
                        tokens, millis, estimate, 100 * (estimate / millis - 1)));
    }

    List<String> contexts() {
        return Arrays.stream(lengths).mapToObj(
                tokens -> tokens % 1024 == 0 ? tokens / 1024 + "k" : Integer.toString(tokens)).toList();
    }

    // ---- memory ----------------------------------------------------------------------------------------------------

    /** Percent of Jlama's own cache that a session holds in RAM. */
    List<BarChart.Series> memoryRatios() {
        List<BarChart.Series> all = new ArrayList<>();
        for (PlannedPolicy policy : PlannedPolicy.values()) {
            if (policy != PlannedPolicy.EXACT) {
                MemoryEstimate estimate = new MemoryEstimate(shape, policy.settings());
                all.add(
                        series(policy,
                                tokens -> 100 * estimate.resident(kinds, tokens)
                                        / ((double) shape.stockBytesPerToken() * tokens)));
            }
        }
        return all;
    }

    List<String> memoryHeader() {
        return header("KV cache of a session");
    }

    List<List<String>> memoryRows() {
        List<List<String>> rows = new ArrayList<>();
        List<String> stock = new ArrayList<>(List.of("Jlama"));
        for (int tokens : lengths) {
            stock.add(bytes((double) shape.stockBytesPerToken() * tokens));
        }
        rows.add(stock);
        for (PlannedPolicy policy : PlannedPolicy.values()) {
            if (policy != PlannedPolicy.EXACT) {
                MemoryEstimate estimate = new MemoryEstimate(shape, policy.settings());
                List<String> row = new ArrayList<>(List.of(policy.title()));
                for (int tokens : lengths) {
                    row.add(bytes(estimate.resident(kinds, tokens)) + " + " + bytes(estimate.offloaded(kinds, tokens)));
                }
                rows.add(row);
            }
        }
        return rows;
    }

    // ---- speed -----------------------------------------------------------------------------------------------------

    /** Milliseconds a token; empty if no speed was measured. */
    List<BarChart.Series> speeds() {
        SpeedEstimate estimate = speed;
        return estimate == null
                ? List.of()
                : Arrays.stream(PlannedPolicy.values())
                        .map(policy -> series(policy, tokens -> estimate.millis(policy, kinds, tokens))).toList();
    }

    List<String> speedHeader() {
        return header("ms a token");
    }

    List<List<String>> speedRows() {
        return speeds().stream().map(one -> {
            List<String> row = new ArrayList<>(List.of(one.name()));
            one.values().forEach(value -> row.add(String.format(Locale.ROOT, value < 100 ? "%.1f" : "%.0f", value)));
            return row;
        }).map(List::copyOf).toList();
    }

    /** How the speed was got and how far it can be off; empty if there is none. */
    List<String> speedNotes() {
        SpeedEstimate estimate = speed;
        if (estimate == null) {
            return List.of();
        }
        List<String> notes = new ArrayList<>();
        notes.add(
                String.format(Locale.ROOT,
                        "An estimate, not a run: %.1f ms for all but attention (a step of this model behind a few tokens, "
                                + "less its attention), plus the attention of each layer by its kind, timed here on random "
                                + "keys of this model's shape at 2,048 and %,d tokens with cold caches and continued as "
                                + "a straight line. On the CPU with %d threads.",
                        estimate.floorMillis(), AttentionTiming.longLength(shape), shape.threads()));
        notes.add(
                (check.isEmpty() ? "" : check + " ")
                        + "Held against attention measured directly at 8k, 32k and 128k tokens, in the shapes of the reference "
                        + "model and of Llama-3.1-8B, such lines were mostly within 25 %, rather too low than too high, and "
                        + "off by a factor of two or three where other work came and went on the machine. It is slower "
                        + "than that with the offload tier on a disk when what is offloaded does not fit the memory that "
                        + "is free.");
        return notes;
    }

    /** The tables for the terminal. */
    void print(PrintWriter out) {
        out.println();
        table(memoryHeader(), memoryRows(), out);
        if (speed != null) {
            out.println();
            table(speedHeader(), speedRows(), out);
            out.println();
            speedNotes().forEach(out::println);
        }
        out.println();
    }

    private static void table(List<String> header, List<List<String>> rows, PrintWriter out) {
        TextTable table = new TextTable(header);
        rows.forEach(table::row);
        table.print(out);
    }

    private List<String> header(String what) {
        List<String> header = new ArrayList<>(List.of(what));
        header.addAll(contexts());
        return header;
    }

    private BarChart.Series series(PlannedPolicy policy, IntToDoubleFunction value) {
        return new BarChart.Series(
                policy.title(), Arrays.stream(lengths).mapToObj(value::applyAsDouble).toList(), List.of(), List.of());
    }

    private static String bytes(double bytes) {
        return bytes < 1 << 30
                ? String.format(Locale.ROOT, "%.1f MiB", bytes / (1 << 20))
                : String.format(Locale.ROOT, "%.2f GiB", bytes / (1 << 30));
    }
}
