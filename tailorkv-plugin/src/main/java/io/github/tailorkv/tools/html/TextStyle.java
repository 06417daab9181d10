package io.github.tailorkv.tools.html;

import java.util.Locale;

/** What text in charts looks like, on pages and in pictures. */
enum TextStyle {
    TICK("#444444", 12),
    TITLE("#222222", 13),
    THRESHOLD("#b04a00", 12),
    DARK("#222222", 11),
    LIGHT("#ffffff", 11);

    final String colour;
    final int size;

    TextStyle(String colour, int size) {
        this.colour = colour;
        this.size = size;
    }

    /** The class of elements of this style. */
    String css() {
        return "t-" + name().toLowerCase(Locale.ROOT);
    }

    String rule() {
        return "." + css() + " { font-size: " + size + "px; fill: " + colour + "; }";
    }
}
