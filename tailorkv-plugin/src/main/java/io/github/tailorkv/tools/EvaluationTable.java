package io.github.tailorkv.tools;

import io.github.tailorkv.tools.evaluate.Summary;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;

/** The table of one length, for the terminal and for the page. */
final class EvaluationTable {
    private EvaluationTable() {}

    static List<String> header(List<Summary.Line> lines) {
        List<String> header = new ArrayList<>(List.of("policy"));
        if (hasTasks(lines)) {
            header.addAll(List.of("accuracy", "vs exact", "worst family"));
        }
        if (hasTexts(lines)) {
            header.add("perplexity");
        }
        header.addAll(List.of("KL", "KL max", "resident", "offloaded", "prefill tok/s", "ms/token"));
        return header;
    }

    static List<List<String>> rows(List<Summary.Line> lines) {
        List<List<String>> rows = new ArrayList<>();
        for (Summary.Line line : lines) {
            List<String> row = new ArrayList<>(List.of(line.policy()));
            if (hasTasks(lines)) {
                row.add(format("%.1f", line.accuracy()));
                row.add(format("%+.1f", line.accuracy() - line.exactAccuracy()));
                row.add(
                        line.worstFamily().isEmpty() ? "-" : line.worstFamily() + format(" %+.1f", -line.worstDrop()));
            }
            if (hasTexts(lines)) {
                row.add(format("%.3f", line.perplexity()));
            }
            row.add(format("%.5f", line.divergence()));
            row.add(format("%.3f", line.worstDivergence()));
            row.add(format("%.3f", line.resident()));
            row.add(format("%.3f", line.offloaded()));
            row.add(format("%.0f", line.prefillRate()));
            row.add(format("%.1f", line.stepMillis()));
            rows.add(row);
        }
        return rows;
    }

    private static boolean hasTasks(List<Summary.Line> lines) {
        return lines.stream().anyMatch(line -> !Double.isNaN(line.accuracy()));
    }

    private static boolean hasTexts(List<Summary.Line> lines) {
        return lines.stream().anyMatch(line -> !Double.isNaN(line.perplexity()));
    }

    static String format(String format, double value) {
        return Double.isNaN(value) ? "-" : String.format(Locale.ROOT, format, value);
    }
}
