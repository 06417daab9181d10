package io.github.tailorkv.tools.html;

import io.github.tailorkv.tools.html.Drawing.Anchor;
import java.util.function.DoubleFunction;

/** What charts have in common. */
final class Axes {
    private static final int STEPS = 5;

    private Axes() {}

    /** A vertical axis from 0 to {@code most}, with its title turned. */
    static void vertical(Drawing drawing, double left, double right, double top, double bottom, double most,
            String title, DoubleFunction<String> format) {
        for (int i = 0; i <= STEPS; i++) {
            double y = bottom - (bottom - top) * i / STEPS;
            drawing.line(left, y, right, y, LineStyle.GRID);
            drawing.label(left - 6, y + 4, Anchor.END, TextStyle.TICK, format.apply(most * i / STEPS));
        }
        turned(drawing, 14, (top + bottom) / 2, title);
    }

    static void turned(Drawing drawing, double x, double y, String title) {
        drawing.label(x, y, Anchor.MIDDLE, -90, TextStyle.TITLE, title);
    }
}
