package io.github.tailorkv.tools.html;

import java.util.Locale;

/** What lines of charts look like, on pages and in pictures. */
enum LineStyle {
    GRID("#e2e2e2", 1, false),
    AXIS("#888888", 1, false),
    WHISKER("#222222", 1.5, false),
    THRESHOLD("#d55e00", 1.5, true),
    FRONTIER("#222222", 1.2, true);

    /** Lengths of a dash and of the gap behind it. */
    static final float[] DASHES = {6, 4};

    final String colour;
    final double width;
    final boolean dashed;

    LineStyle(String colour, double width, boolean dashed) {
        this.colour = colour;
        this.width = width;
        this.dashed = dashed;
    }

    /** The class of elements of this style. */
    String css() {
        return name().toLowerCase(Locale.ROOT);
    }

    String rule() {
        return "." + css() + " { stroke: " + colour + "; stroke-width: " + Markup.number(width) + "; fill: none;"
                + (dashed ? " stroke-dasharray: 6 4;" : "") + " }";
    }
}
