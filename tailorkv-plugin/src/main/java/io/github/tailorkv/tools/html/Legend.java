package io.github.tailorkv.tools.html;

import io.github.tailorkv.tools.html.Drawing.Anchor;
import java.util.List;
import java.util.stream.IntStream;

/** Names of series beside their colours, in as many rows as they need. */
final class Legend {
    private static final double ROW = 20;
    private static final double CHARACTER = 7.6;

    private final List<String> names;
    private final List<Integer> colours;

    /** Series in the colours of their numbers. */
    Legend(List<String> names) {
        this(names, IntStream.range(0, names.size()).boxed().toList());
    }

    /** @param colours numbers in the palette */
    Legend(List<String> names, List<Integer> colours) {
        this.names = names;
        this.colours = colours;
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
                drawing.rectangle(x + column, y + row, 12, 12, Palette.series(colours.get(i)), names.get(i));
                drawing.label(x + column + 17, y + row + 11, Anchor.START, TextStyle.TICK, names.get(i));
            }
            column += size;
        }
        return row;
    }
}
