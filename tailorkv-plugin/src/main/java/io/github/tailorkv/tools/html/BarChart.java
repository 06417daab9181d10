package io.github.tailorkv.tools.html;

import io.github.tailorkv.tools.html.Drawing.Anchor;
import java.util.List;
import java.util.function.DoubleFunction;

/**
 * Groups of bars: one group a category, one bar a series. The values may have a spread, drawn as a whisker, and the axis a
 * threshold.
 */
public final class BarChart implements Chart {
    private static final double LEFT = 64;
    private static final double PLOT_HEIGHT = 240;
    private static final double TOP = 14;
    private static final double CHARACTER = 6.6;

    /**
     * One series.
     *
     * @param values one a category; NaN for none
     * @param least lower end of the whiskers; empty for none
     * @param most upper end of the whiskers
     */
    public record Series(String name, List<Double> values, List<Double> least, List<Double> most) {
        public Series {
            values = List.copyOf(values);
            least = List.copyOf(least);
            most = List.copyOf(most);
        }
    }

    private final String axis;
    private final List<String> categories;
    private final List<Series> series;
    private final double top;
    private final double threshold;
    private final DoubleFunction<String> format;

    /**
     * @param axis what the values are
     * @param top end of the axis; it begins at 0
     * @param threshold drawn across; NaN for none
     * @param format of values
     */
    public BarChart(String axis, List<String> categories, List<Series> series, double top, double threshold,
            DoubleFunction<String> format) {
        this.axis = axis;
        this.categories = List.copyOf(categories);
        this.series = List.copyOf(series);
        this.top = top;
        this.threshold = threshold;
        this.format = format;
    }

    /** The end of an axis on which values up to {@code most} fit, with round numbers at its five steps. */
    public static double roundTop(double most) {
        double unit = Math.pow(10, Math.floor(Math.log10(Math.max(most, 1e-9))));
        for (double factor : new double[] {1, 1.5, 2, 2.5, 3, 4, 5, 6, 7.5, 10}) {
            if (factor * unit >= most) {
                return factor * unit;
            }
        }
        return 10 * unit;
    }

    @Override
    public Drawing drawing() {
        double bar = Math.clamp(860.0 / (categories.size() * (series.size() + 0.8)), 4, 34);
        double group = bar * (series.size() + 0.8);
        double plot = group * categories.size();
        int longest = categories.stream().mapToInt(String::length).max().orElse(1);
        boolean tilted = longest * CHARACTER > group - 6;
        double labels = tilted ? 20 + longest * CHARACTER * 0.6 : 26;
        // A tilted label reaches to the left of its group, a threshold's name to the right of the last one.
        double left = Math.max(LEFT, tilted ? longest * CHARACTER * 0.85 - group / 2 + 10 : 0);
        double right = Double.isNaN(threshold) ? 12 : 96;
        Legend legend = new Legend(series.size() > 1 ? series.stream().map(Series::name).toList() : List.of());
        double width = Math.max(left + plot + right, 420);
        double bottom = TOP + PLOT_HEIGHT;
        double height = bottom + labels + 8 + legend.height(width - left);
        Drawing drawing = new Drawing(width, height, axis);
        Axes.vertical(drawing, left, left + plot, TOP, bottom, top, axis, format);
        for (int c = 0; c < categories.size(); c++) {
            double start = left + c * group + 0.4 * bar;
            for (int s = 0; s < series.size(); s++) {
                bar(drawing, series.get(s), c, start + s * bar, bar, bottom,
                        Palette.series(series.size() == 1 ? 1 : s));
            }
            double middle = left + (c + 0.5) * group;
            if (tilted) {
                drawing.label(middle + 4, bottom + 14, Anchor.END, -35, TextStyle.TICK, categories.get(c));
            } else {
                drawing.label(middle, bottom + 17, Anchor.MIDDLE, TextStyle.TICK, categories.get(c));
            }
        }
        drawing.line(left, bottom, left + plot, bottom, LineStyle.AXIS);
        if (!Double.isNaN(threshold)) {
            double y = bottom - threshold / top * PLOT_HEIGHT;
            drawing.line(left, y, left + plot, y, LineStyle.THRESHOLD);
            drawing.label(left + plot + 5, y + 4, Anchor.START, TextStyle.THRESHOLD,
                    "threshold " + format.apply(threshold));
        }
        legend.draw(drawing, left, bottom + labels + 8, width - left);
        return drawing;
    }

    private void bar(Drawing drawing, Series one, int category, double x, double width, double bottom, String colour) {
        double value = one.values().get(category);
        if (Double.isNaN(value)) {
            return;
        }
        double height = Math.min(value / top, 1) * PLOT_HEIGHT;
        String name = series.size() > 1 ? one.name() + ", " : "";
        drawing.rectangle(
                x, bottom - height, width * 0.9, height, colour,
                name + categories.get(category) + ": " + format.apply(value));
        if (!one.least().isEmpty()) {
            double middle = x + width * 0.45;
            double low = bottom - one.least().get(category) / top * PLOT_HEIGHT;
            double high = bottom - one.most().get(category) / top * PLOT_HEIGHT;
            drawing.line(middle, low, middle, high, LineStyle.WHISKER);
            drawing.line(middle - 4, low, middle + 4, low, LineStyle.WHISKER);
            drawing.line(middle - 4, high, middle + 4, high, LineStyle.WHISKER);
        }
    }
}
