package io.github.tailorkv.tools;

import io.github.tailorkv.tools.evaluate.Contender;
import io.github.tailorkv.tools.evaluate.Decisions;
import io.github.tailorkv.tools.evaluate.Summary;
import io.github.tailorkv.tools.html.BarChart;
import io.github.tailorkv.tools.html.Chart;
import io.github.tailorkv.tools.html.HeatMap;
import io.github.tailorkv.tools.html.Page;
import io.github.tailorkv.tools.html.ScatterChart;
import io.github.tailorkv.tools.tasks.TaskFamily;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeSet;
import java.util.function.ToDoubleFunction;
import java.util.stream.IntStream;

/** What {@code evaluate} found, as a page. */
final class EvaluationReport {
    /** A divergence of nothing has no place on a logarithmic axis. */
    private static final double LEAST_DIVERGENCE = 1e-7;

    private final String model;
    private final Summary tasks;
    private final Summary depths;
    private final Optional<Decisions> decisions;

    /**
     * @param tasks families and texts
     * @param depths needles by depth
     * @param decisions of prompts, if they had any
     */
    EvaluationReport(String model, Summary tasks, Summary depths, Optional<Decisions> decisions) {
        this.decisions = decisions;
        this.model = model;
        this.tasks = tasks;
        this.depths = depths;
    }

    Page page() {
        Page page = new Page("TailorKV evaluation of " + model)
                .note("Policies side by side on the same prompts. Accuracy is the share of the reference strings in the "
                        + "greedy answers. KL is the mean divergence of the next-token distribution from that of the exact "
                        + "cache, along the exact answer, in nats. Memory is relative to Jlama's own F32 cache.");
        page.table(
                List.of("policy", "settings"),
                distinct(tasks.lines().isEmpty() ? depths.lines() : tasks.lines()));
        for (int length : tasks.lengths()) {
            List<Summary.Line> lines = tasks.lines().stream().filter(line -> line.tokens() == length).toList();
            page.heading(length + " tokens").table(EvaluationTable.header(lines), EvaluationTable.rows(lines));
            families(page, lines);
        }
        tasks.lengths().forEach(length -> tradeOffs(page, length));
        if (!depths.lines().isEmpty()) {
            needles(page);
        }
        decisions.ifPresent(made -> decisions(page, made));
        return page;
    }

    private static List<List<String>> distinct(List<Summary.Line> lines) {
        return lines.stream().map(line -> List.of(line.policy(), line.settings())).distinct().toList();
    }

    private static void families(Page page, List<Summary.Line> lines) {
        List<TaskFamily> families = List.of(TaskFamily.values()).stream()
                .filter(family -> lines.stream().anyMatch(line -> line.families().containsKey(family.label())))
                .toList();
        if (families.isEmpty()) {
            return;
        }
        List<BarChart.Series> series = new ArrayList<>();
        for (Summary.Line line : lines) {
            series.add(
                    new BarChart.Series(
                            line.policy(),
                            families.stream()
                                    .map(family -> line.families().getOrDefault(family.label(), Double.NaN)).toList(),
                            List.of(), List.of()));
        }
        page.chart(
                new BarChart("accuracy in %", families.stream().map(TaskFamily::title).toList(), series, 100,
                        Double.NaN,
                        value -> String.format(Locale.ROOT, "%.0f", value)));
    }

    /** Accuracy and divergence against memory at one length. */
    private void tradeOffs(Page page, int length) {
        List<Summary.Line> lines = tasks.lines().stream().filter(line -> line.tokens() == length).toList();
        List<Summary.Line> scored = lines.stream().filter(line -> !Double.isNaN(line.accuracy())).toList();
        if (!scored.isEmpty()) {
            double least = scored.stream().mapToDouble(Summary.Line::accuracy).min().orElse(0);
            double step = least > 80 ? 5 : least > 60 ? 10 : 20;
            int steps = Math.clamp((int) Math.ceil((100 - least + 1) / step), 2, (int) (100 / step));
            page.heading("Accuracy against memory, " + length + " tokens")
                    .note("Up and to the left is better. The dashed line is what can be had for the memory: policies that "
                            + "no other beats in both.")
                    .chart(
                            tradeOff(
                                    scored,
                                    new ScatterChart.Axis("accuracy in %", 100 - steps * step, 100, steps, false,
                                            value -> String.format(Locale.ROOT, "%.0f", value)),
                                    ScatterChart.Better.HIGH, Summary.Line::accuracy));
        }
        List<Summary.Line> measured = lines.stream()
                .filter(line -> !Double.isNaN(line.divergence()) && !line.policy().equals(Contender.EXACT.name()))
                .toList();
        if (!measured.isEmpty()) {
            ToDoubleFunction<Summary.Line> divergence = line -> Math.max(line.divergence(), LEAST_DIVERGENCE);
            var spread = measured.stream().mapToDouble(divergence).summaryStatistics();
            page.heading("Divergence against memory, " + length + " tokens")
                    .note("Down and to the left is better.")
                    .chart(
                            tradeOff(
                                    measured,
                                    ScatterChart.Axis.powers("KL in nats", 10, spread.getMin(), spread.getMax(),
                                            value -> String.format(Locale.ROOT, "%.0e", value)),
                                    ScatterChart.Better.LOW, divergence));
        }
    }

    /** One curve for all policies of a series, from the least memory to the most. */
    private ScatterChart tradeOff(List<Summary.Line> lines, ScatterChart.Axis vertical, ScatterChart.Better better,
            ToDoubleFunction<Summary.Line> value) {
        var spread = lines.stream().mapToDouble(Summary.Line::resident).summaryStatistics();
        List<ScatterChart.Series> series = new ArrayList<>();
        // Also those without a point, so that every policy keeps its colour.
        List<String> policies = tasks.lines().stream().map(Summary.Line::policy).distinct().toList();
        List<String> colours = policies.stream().map(Contender::series).toList();
        for (String name : colours.stream().distinct().toList()) {
            List<Summary.Line> curve = lines.stream().filter(line -> Contender.series(line.policy()).equals(name))
                    .sorted(Comparator.comparingDouble(Summary.Line::resident)).toList();
            series.add(
                    new ScatterChart.Series(
                            name, colours.indexOf(name), curve.stream().map(
                                    line -> new ScatterChart.Point(line.resident(), value.applyAsDouble(line),
                                            line.policy()
                                                    .substring(Math.min(name.length() + 1, line.policy().length())),
                                            line.policy() + String.format(Locale.ROOT, ": %.3f of the memory, %.4g",
                                                    line.resident(), value.applyAsDouble(line))))
                                    .toList()));
        }
        return new ScatterChart(
                ScatterChart.Axis.powers("KV cache in RAM, relative to Jlama's", 2, spread.getMin(), spread.getMax(),
                        share -> String.format(Locale.ROOT, "%.3g", share).replaceFirst("\\.?0+$", "")),
                vertical, better, series);
    }

    private static void decisions(Page page, Decisions made) {
        List<Decisions.Decision> all = List.copyOf(made.families().values());
        List<String> layers = IntStream.range(0, all.getFirst().densePreference().size()).mapToObj(Integer::toString)
                .toList();
        List<String> families = made.families().keySet().stream()
                .map(label -> TaskFamily.labelled(label).stream().map(TaskFamily::title).findFirst().orElse(label))
                .toList();
        page.heading("What the prompts decided")
                .note("Dense preference under " + made.policy() + ", mean over the prompts of a family: the same layer "
                        + "attends to many tokens of one kind of text and to few of another.")
                .chart(new HeatMap("dense preference by family and layer", "layer", layers, families,
                        all.stream().map(Decisions.Decision::densePreference).toList(), false,
                        value -> String.format(Locale.ROOT, "%.2f", value)))
                .note("So each prompt gets kinds of its own: the share of the prompts, in percent, for which a layer was "
                        + "quantized; for the others it retrieved.")
                .chart(new HeatMap("layers quantized by family and layer", "layer", layers, families,
                        all.stream().map(Decisions.Decision::quantized).toList(), false,
                        value -> String.format(Locale.ROOT, "%.0f", 100 * value)));
    }

    private void needles(Page page) {
        page.heading("A needle at every depth")
                .note("The share of needles found, by depth (0 % is the beginning of the text) and length.");
        Collection<Integer> lengths = depths.lengths();
        Set<String> families = new TreeSet<>();
        depths.lines().forEach(line -> families.addAll(line.families().keySet()));
        Map<String, Chart> charts = new LinkedHashMap<>();
        for (String policy : depths.lines().stream().map(Summary.Line::policy).distinct().toList()) {
            List<List<Double>> values = new ArrayList<>();
            for (String family : families) {
                List<Double> row = new ArrayList<>();
                for (int length : lengths) {
                    row.add(
                            depths.lines().stream()
                                    .filter(line -> line.policy().equals(policy) && line.tokens() == length)
                                    .mapToDouble(line -> line.families().getOrDefault(family, Double.NaN) / 100)
                                    .findFirst().orElse(Double.NaN));
                }
                values.add(row);
            }
            charts.put(
                    policy,
                    new HeatMap("needles found under " + policy, "tokens",
                            lengths.stream().map(length -> Integer.toString(length)).toList(),
                            families.stream().map(family -> Integer.parseInt(family.substring(6)) + " %").toList(),
                            values, true, value -> String.format(Locale.ROOT, "%.0f", 100 * value)));
        }
        page.gallery(charts);
    }
}
