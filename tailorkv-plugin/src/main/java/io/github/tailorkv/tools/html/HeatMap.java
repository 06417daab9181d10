package io.github.tailorkv.tools.html;

import io.github.tailorkv.tools.html.Drawing.Anchor;
import java.util.List;
import java.util.function.DoubleFunction;

/** A grid of coloured values. */
public final class HeatMap implements Chart {
    private static final double CELL_HEIGHT = 24;
    private static final double CHARACTER = 6.8;

    private final String title;
    private final String columnTitle;
    private final List<String> columns;
    private final List<String> rows;
    private final List<List<Double>> values;
    private final boolean success;
    private final DoubleFunction<String> format;

    /**
     * @param title what the values are
     * @param columnTitle what the columns are
     * @param values by row, then column, in [0, 1]; NaN for none
     * @param success whether 1 is good (red to green) rather than much (pale to dark)
     */
    public HeatMap(String title, String columnTitle, List<String> columns, List<String> rows, List<List<Double>> values,
            boolean success, DoubleFunction<String> format) {
        this.title = title;
        this.columnTitle = columnTitle;
        this.columns = List.copyOf(columns);
        this.rows = List.copyOf(rows);
        this.values = List.copyOf(values);
        this.success = success;
        this.format = format;
    }

    @Override
    public Drawing drawing() {
        double left = 16 + rows.stream().mapToInt(String::length).max().orElse(1) * CHARACTER;
        int widest = columns.stream().mapToInt(String::length).max().orElse(1);
        double cell = Math.max(widest * CHARACTER + 10, Math.clamp(860.0 / columns.size(), 22, 64));
        double width = left + cell * columns.size() + 12;
        double top = 42;
        double height = top + CELL_HEIGHT * rows.size() + 8;
        Drawing drawing = new Drawing(Math.max(width, 300), height, title);
        drawing.label(left + cell * columns.size() / 2, 14, Anchor.MIDDLE, TextStyle.TITLE, columnTitle);
        for (int c = 0; c < columns.size(); c++) {
            drawing.label(left + (c + 0.5) * cell, 34, Anchor.MIDDLE, TextStyle.TICK, columns.get(c));
        }
        for (int r = 0; r < rows.size(); r++) {
            double y = top + r * CELL_HEIGHT;
            drawing.label(left - 8, y + CELL_HEIGHT / 2 + 4, Anchor.END, TextStyle.TICK, rows.get(r));
            for (int c = 0; c < columns.size(); c++) {
                double value = values.get(r).get(c);
                if (!Double.isNaN(value)) {
                    cell(drawing, left + c * cell, y, cell, value,
                            rows.get(r) + ", " + columnTitle + " " + columns.get(c));
                }
            }
        }
        return drawing;
    }

    private void cell(Drawing drawing, double x, double y, double width, double value, String where) {
        String colour = success ? Palette.success(value) : Palette.heat(value);
        drawing.rectangle(x, y, width - 1, CELL_HEIGHT - 1, colour, where + ": " + format.apply(value));
        String text = format.apply(value);
        if (text.length() * 6.2 < width - 4) {
            drawing.label(x + width / 2, y + CELL_HEIGHT / 2 + 3.5, Anchor.MIDDLE, Palette.on(colour), text);
        }
    }
}
