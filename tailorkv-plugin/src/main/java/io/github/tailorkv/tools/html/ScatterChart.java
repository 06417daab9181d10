package io.github.tailorkv.tools.html;

import io.github.tailorkv.tools.html.Drawing.Anchor;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.function.DoubleFunction;
import org.jspecify.annotations.Nullable;

/**
 * Points of several series over two axes, joined in their order. A dashed line shows the frontier: points that no other is
 * better than in both, less being better on the horizontal axis.
 */
public final class ScatterChart implements Chart {
    private static final double LEFT = 70;
    private static final double TOP = 14;
    private static final double WIDTH = 640;
    private static final double HEIGHT = 300;

    /**
     * A point.
     *
     * @param label stands beside it
     * @param title what a pointer over it says
     */
    public record Point(double x, double y, String label, String title) {}

    /** Which end of the vertical axis is the good one. */
    public enum Better {
        /** More is better. */
        HIGH,
        /** Less is better. */
        LOW
    }

    /**
     * A series.
     *
     * @param colour number in the palette, that of the same series in other charts
     */
    public record Series(String name, int colour, List<Point> points) {
        public Series {
            points = List.copyOf(points);
        }
    }

    /**
     * An axis.
     *
     * @param steps intervals between its lines
     * @param logarithmic whether steps are factors
     */
    public record Axis(String title, double from, double to, int steps, boolean logarithmic,
            DoubleFunction<String> format) {

        /** A logarithmic axis with a line at each power of {@code base}, wide enough for all values. */
        public static Axis powers(String title, double base, double least, double most, DoubleFunction<String> format) {
            int first = (int) Math.floor(Math.log(least) / Math.log(base) + 1e-9);
            int last = Math.max(first + 1, (int) Math.ceil(Math.log(most) / Math.log(base) - 1e-9));
            return new Axis(title, Math.pow(base, first), Math.pow(base, last), last - first, true, format);
        }

        double share(double value) {
            double share = logarithmic ? Math.log(value / from) / Math.log(to / from) : (value - from) / (to - from);
            return Math.clamp(share, 0, 1);
        }

        double at(double share) {
            return logarithmic ? from * Math.pow(to / from, share) : from + share * (to - from);
        }
    }

    private final Axis horizontal;
    private final Axis vertical;
    private final List<Series> series;
    private final Better better;

    /** A chart of series over two axes. */
    public ScatterChart(Axis horizontal, Axis vertical, Better better, List<Series> series) {
        this.better = better;
        this.horizontal = horizontal;
        this.vertical = vertical;
        this.series = List.copyOf(series);
    }

    @Override
    public Drawing drawing() {
        Legend legend = new Legend(
                series.stream().map(Series::name).toList(), series.stream().map(Series::colour).toList());
        double bottom = TOP + HEIGHT;
        double width = LEFT + WIDTH + 30;
        Drawing drawing = new Drawing(
                width, bottom + 52 + legend.height(WIDTH), vertical.title() + " over " + horizontal.title());
        for (int i = 0; i <= vertical.steps(); i++) {
            double share = (double) i / vertical.steps();
            double y = bottom - HEIGHT * share;
            drawing.line(LEFT, y, LEFT + WIDTH, y, LineStyle.GRID);
            drawing.label(LEFT - 6, y + 4, Anchor.END, TextStyle.TICK, vertical.format().apply(vertical.at(share)));
        }
        for (int i = 0; i <= horizontal.steps(); i++) {
            double share = (double) i / horizontal.steps();
            double x = LEFT + WIDTH * share;
            drawing.line(x, TOP, x, bottom, LineStyle.GRID);
            drawing.label(x, bottom + 17, Anchor.MIDDLE, TextStyle.TICK,
                    horizontal.format().apply(horizontal.at(share)));
        }
        drawing.line(LEFT, bottom, LEFT + WIDTH, bottom, LineStyle.AXIS).line(LEFT, TOP, LEFT, bottom, LineStyle.AXIS);
        Axes.turned(drawing, 14, TOP + HEIGHT / 2, vertical.title());
        drawing.label(LEFT + WIDTH / 2, bottom + 38, Anchor.MIDDLE, TextStyle.TITLE, horizontal.title());
        frontier(drawing, bottom);
        for (Series one : series) {
            draw(drawing, one, Palette.series(one.colour()), bottom);
        }
        legend.draw(drawing, LEFT, bottom + 52, WIDTH);
        return drawing;
    }

    private void draw(Drawing drawing, Series one, String colour, double bottom) {
        List<Double> track = new ArrayList<>();
        for (Point point : one.points()) {
            track.add(x(point));
            track.add(y(point, bottom));
        }
        drawing.track(track, colour);
        for (Point point : one.points()) {
            drawing.circle(x(point), y(point, bottom), 5, colour, one.name() + ", " + point.title());
        }
        labels(drawing, one, bottom);
    }

    /** Points that lie together share a label. */
    private void labels(Drawing drawing, Series one, double bottom) {
        List<Point> left = new ArrayList<>(one.points());
        left.removeIf(point -> point.label().isEmpty());
        while (!left.isEmpty()) {
            Point first = left.getFirst();
            List<Point> together = left.stream()
                    .filter(
                            point -> Math.abs(x(point) - x(first)) < 30
                                    && Math.abs(y(point, bottom) - y(first, bottom)) < 12)
                    .toList();
            left.removeAll(together);
            String label = String.join(", ", together.stream().map(Point::label).toList());
            boolean room = x(first) < LEFT + WIDTH - 8 * label.length();
            drawing.label(
                    x(first) + (room ? 8 : -8), y(first, bottom) - 7, room ? Anchor.START : Anchor.END, TextStyle.DARK,
                    label);
        }
    }

    /** Steps, because what lies between two points can be had at the price of the right one only. */
    private void frontier(Drawing drawing, double bottom) {
        double sign = better == Better.HIGH ? 1 : -1;
        List<Point> byPrice = series.stream().flatMap(one -> one.points().stream())
                .sorted(Comparator.comparingDouble(Point::x).thenComparingDouble(point -> -sign * point.y())).toList();
        @Nullable
        Point best = null;
        for (Point point : byPrice) {
            if (best != null && sign * point.y() <= sign * best.y()) {
                continue;
            }
            if (best != null) {
                drawing.line(x(best), y(best, bottom), x(point), y(best, bottom), LineStyle.FRONTIER);
                drawing.line(x(point), y(best, bottom), x(point), y(point, bottom), LineStyle.FRONTIER);
            }
            best = point;
        }
        if (best != null) {
            drawing.line(x(best), y(best, bottom), LEFT + WIDTH, y(best, bottom), LineStyle.FRONTIER);
        }
    }

    private double x(Point point) {
        return LEFT + WIDTH * horizontal.share(point.x());
    }

    private double y(Point point, double bottom) {
        return bottom - HEIGHT * vertical.share(point.y());
    }
}
