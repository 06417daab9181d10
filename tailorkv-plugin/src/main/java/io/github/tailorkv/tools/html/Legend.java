package io.github.tailorkv.tools.html;

import io.github.tailorkv.tools.html.Drawing.Anchor;
import java.util.List;

/** Names of series beside their colours, in as many rows as they need. */
final class Legend {
    private static final double ROW = 20;
    private static final double CHARACTER = 7.6;

    private final List<String> names;

    Legend(List<String> names) {
        this.names = names;
    }

    double height(double width) {
        return names.isEmpty() ? 0 : place(null, 0, 0, width) + ROW;
    }

    void draw(Drawing drawing, double x, double y, double width) {
        place(drawing, x, y, width);
    }

    /** Returns the offset of the last row. */
    private double place(@org.jspecify.annotations.Nullable Drawing drawing, double x, double y, double width) {
        double column = 0;
        double row = 0;
        for (int i = 0; i < names.size(); i++) {
            double size = 26 + names.get(i).length() * CHARACTER;
            if (column > 0 && column + size > width) {
                column = 0;
                row += ROW;
            }
            if (drawing != null) {
                drawing.rectangle(x + column, y + row, 12, 12, Palette.series(i), names.get(i));
                drawing.label(x + column + 17, y + row + 11, Anchor.START, TextStyle.TICK, names.get(i));
            }
            column += size;
        }
        return row;
    }
}
