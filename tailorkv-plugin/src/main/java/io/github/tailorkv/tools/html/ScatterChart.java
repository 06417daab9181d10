package io.github.tailorkv.tools.html;

import java.util.List;
import java.util.function.DoubleFunction;

/** Points of several series over two axes, joined in their order. */
public final class ScatterChart implements Chart {
    private static final double LEFT = 70;
    private static final double TOP = 14;
    private static final double WIDTH = 640;
    private static final double HEIGHT = 300;

    /** A point with what a pointer over it says. */
    public record Point(double x, double y, String title) {}

    /** A series. */
    public record Series(String name, List<Point> points) {
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

    public ScatterChart(Axis horizontal, Axis vertical, List<Series> series) {
        this.horizontal = horizontal;
        this.vertical = vertical;
        this.series = List.copyOf(series);
    }

    @Override
    public String svg() {
        Legend legend = new Legend(series.stream().map(Series::name).toList());
        double bottom = TOP + HEIGHT;
        double width = LEFT + WIDTH + 30;
        Markup svg = new Markup();
        Axes.open(svg, width, bottom + 52 + legend.height(WIDTH), vertical.title() + " over " + horizontal.title());
        for (int i = 0; i <= vertical.steps(); i++) {
            double share = (double) i / vertical.steps();
            double y = bottom - HEIGHT * share;
            svg.line(LEFT, y, LEFT + WIDTH, y, "grid");
            svg.label(LEFT - 6, y + 4, "end", "tick", vertical.format().apply(vertical.at(share)));
        }
        for (int i = 0; i <= horizontal.steps(); i++) {
            double share = (double) i / horizontal.steps();
            double x = LEFT + WIDTH * share;
            svg.line(x, TOP, x, bottom, "grid");
            svg.label(x, bottom + 17, "middle", "tick", horizontal.format().apply(horizontal.at(share)));
        }
        svg.line(LEFT, bottom, LEFT + WIDTH, bottom, "axis").line(LEFT, TOP, LEFT, bottom, "axis");
        Axes.turned(svg, 14, TOP + HEIGHT / 2, vertical.title());
        svg.label(LEFT + WIDTH / 2, bottom + 38, "middle", "axis-title", horizontal.title());
        for (int s = 0; s < series.size(); s++) {
            draw(svg, series.get(s), Palette.series(s), bottom);
        }
        legend.draw(svg, LEFT, bottom + 52, WIDTH);
        return svg.raw("</svg>\n").toString();
    }

    private void draw(Markup svg, Series one, String colour, double bottom) {
        StringBuilder path = new StringBuilder();
        for (Point point : one.points()) {
            path.append(path.isEmpty() ? "M" : "L").append(Markup.number(x(point))).append(' ')
                    .append(Markup.number(y(point, bottom)));
        }
        if (one.points().isEmpty()) {
            return;
        }
        svg.raw("<path d=\"" + path + "\" fill=\"none\" stroke=\"" + colour + "\" stroke-opacity=\".6\"/>\n");
        for (Point point : one.points()) {
            svg.circle(x(point), y(point, bottom), 5, colour, one.name() + ", " + point.title());
        }
    }

    private double x(Point point) {
        return LEFT + WIDTH * horizontal.share(point.x());
    }

    private double y(Point point, double bottom) {
        return bottom - HEIGHT * vertical.share(point.y());
    }
}
