package io.github.tailorkv.tools.html;

import java.util.ArrayList;
import java.util.List;

/** Shapes on a white ground, in the order in which they cover each other; units are pixels of a page. */
public final class Drawing {
    private final double width;
    private final double height;
    private final String title;
    private final List<Shape> shapes = new ArrayList<>();

    /** @param title what there is to see */
    Drawing(double width, double height, String title) {
        this.width = width;
        this.height = height;
        this.title = title;
    }

    /** Where a label has its point. */
    enum Anchor {
        START, MIDDLE, END
    }

    /** What can be drawn. Titles are what a pointer over the shape says. */
    sealed interface Shape {
        /** A filled rectangle. */
        record Rectangle(double x, double y, double width, double height, String fill, String title) implements Shape {}

        /** A filled circle. */
        record Circle(double x, double y, double radius, String fill, String title) implements Shape {}

        /** A straight line. */
        record Line(double x1, double y1, double x2, double y2, LineStyle style) implements Shape {}

        /** Lines from point to point; coordinates alternate. */
        record Track(List<Double> points, String colour) implements Shape {}

        /** Text, turned about its point. */
        record Label(double x, double y, Anchor anchor, double degrees, TextStyle style, String text)
                implements
                    Shape {}
    }

    Drawing rectangle(double x, double y, double w, double h, String fill, String tip) {
        shapes.add(new Shape.Rectangle(x, y, Math.max(0, w), Math.max(0, h), fill, tip));
        return this;
    }

    Drawing circle(double x, double y, double radius, String fill, String tip) {
        shapes.add(new Shape.Circle(x, y, radius, fill, tip));
        return this;
    }

    Drawing line(double x1, double y1, double x2, double y2, LineStyle style) {
        shapes.add(new Shape.Line(x1, y1, x2, y2, style));
        return this;
    }

    Drawing track(List<Double> points, String colour) {
        shapes.add(new Shape.Track(List.copyOf(points), colour));
        return this;
    }

    Drawing label(double x, double y, Anchor anchor, TextStyle style, String text) {
        return label(x, y, anchor, 0, style, text);
    }

    Drawing label(double x, double y, Anchor anchor, double degrees, TextStyle style, String text) {
        shapes.add(new Shape.Label(x, y, anchor, degrees, style, text));
        return this;
    }

    double width() {
        return width;
    }

    double height() {
        return height;
    }

    String title() {
        return title;
    }

    List<Shape> shapes() {
        return List.copyOf(shapes);
    }

    /** An SVG element that needs the rules of a {@link Page}. */
    String svg() {
        Markup svg = new Markup().raw(
                "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 " + Markup.number(width) + " "
                        + Markup.number(height) + "\" width=\"" + Markup.number(width) + "\" height=\""
                        + Markup.number(height) + "\" role=\"img\" aria-label=\"" + Markup.escaped(title) + "\">\n");
        shapes.forEach(svg::shape);
        return svg.raw("</svg>\n").toString();
    }
}
