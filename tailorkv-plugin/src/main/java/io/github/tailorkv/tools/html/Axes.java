package io.github.tailorkv.tools.html;

import java.util.function.DoubleFunction;

/** What charts have in common. */
final class Axes {
    private static final int STEPS = 5;

    private Axes() {}

    static void open(Markup svg, double width, double height, String what) {
        svg.raw(
                "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 " + Markup.number(width) + " "
                        + Markup.number(height) + "\" width=\"" + Markup.number(width) + "\" height=\""
                        + Markup.number(height) + "\" role=\"img\" aria-label=\"" + Markup.escaped(what) + "\">\n");
    }

    /** A vertical axis from 0 to {@code most}, with its title turned. */
    static void vertical(Markup svg, double left, double right, double top, double bottom, double most, String title,
            DoubleFunction<String> format) {
        for (int i = 0; i <= STEPS; i++) {
            double y = bottom - (bottom - top) * i / STEPS;
            svg.line(left, y, right, y, "grid");
            svg.label(left - 6, y + 4, "end", "tick", format.apply(most * i / STEPS));
        }
        turned(svg, 14, (top + bottom) / 2, title);
    }

    static void turned(Markup svg, double x, double y, String title) {
        svg.raw(
                "<text text-anchor=\"middle\" class=\"axis-title\" transform=\"translate(" + Markup.number(x) + " "
                        + Markup.number(y) + ") rotate(-90)\">")
                .text(title).raw("</text>\n");
    }
}
