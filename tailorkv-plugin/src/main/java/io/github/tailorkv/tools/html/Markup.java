package io.github.tailorkv.tools.html;

import io.github.tailorkv.tools.html.Drawing.Shape;
import java.util.Locale;

/** HTML and SVG being written. Text is always escaped, numbers have a point whatever the locale. */
final class Markup {
    private final StringBuilder out = new StringBuilder();

    static String escaped(String text) {
        StringBuilder safe = new StringBuilder();
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            switch (c) {
                case '<' -> safe.append("&lt;");
                case '>' -> safe.append("&gt;");
                case '&' -> safe.append("&amp;");
                case '"' -> safe.append("&quot;");
                case '\'' -> safe.append("&#39;");
                default -> safe.append(c < ' ' && c != '\n' && c != '\t' ? ' ' : c);
            }
        }
        return safe.toString();
    }

    /** Markup of our own, as it is. */
    Markup raw(String markup) {
        out.append(markup);
        return this;
    }

    /** Text, escaped. */
    Markup text(String text) {
        out.append(escaped(text));
        return this;
    }

    /** An element with text in it. */
    Markup element(String name, String text) {
        return raw("<" + name + ">").text(text).raw("</" + name + ">\n");
    }

    // ---- SVG -------------------------------------------------------------------------------------------------------

    Markup shape(Shape shape) {
        return switch (shape) {
            case Shape.Rectangle box -> raw(
                    "<rect x=\"" + number(box.x()) + "\" y=\"" + number(box.y()) + "\" width=\"" + number(box.width())
                            + "\" height=\"" + number(box.height()) + "\" fill=\"" + box.fill() + "\">")
                    .element("title", box.title()).raw("</rect>\n");
            case Shape.Circle disc -> raw(
                    "<circle cx=\"" + number(disc.x()) + "\" cy=\"" + number(disc.y()) + "\" r=\""
                            + number(disc.radius()) + "\" fill=\"" + disc.fill() + "\">")
                    .element("title", disc.title()).raw("</circle>\n");
            case Shape.Line line -> raw(
                    "<line x1=\"" + number(line.x1()) + "\" y1=\"" + number(line.y1()) + "\" x2=\"" + number(line.x2())
                            + "\" y2=\"" + number(line.y2()) + "\" class=\"" + line.style().css() + "\"/>\n");
            case Shape.Track track -> track(track);
            case Shape.Label label -> raw(
                    "<text text-anchor=\"" + label.anchor().name().toLowerCase(Locale.ROOT) + "\" class=\""
                            + label.style().css() + "\"" + place(label) + ">")
                    .text(label.text()).raw("</text>\n");
        };
    }

    private Markup track(Shape.Track track) {
        StringBuilder path = new StringBuilder();
        for (int i = 0; i < track.points().size(); i += 2) {
            path.append(i == 0 ? "M" : "L").append(number(track.points().get(i))).append(' ')
                    .append(number(track.points().get(i + 1)));
        }
        return raw(
                "<path d=\"" + path + "\" fill=\"none\" stroke=\"" + track.colour()
                        + "\" stroke-width=\"1.5\" stroke-opacity=\".6\"/>\n");
    }

    private static String place(Shape.Label label) {
        return label.degrees() == 0
                ? " x=\"" + number(label.x()) + "\" y=\"" + number(label.y()) + "\""
                : " transform=\"translate(" + number(label.x()) + " " + number(label.y()) + ") rotate("
                        + number(label.degrees()) + ")\"";
    }

    static String number(double value) {
        String text = String.format(Locale.ROOT, "%.2f", value);
        return text.endsWith(".00") ? text.substring(0, text.length() - 3) : text;
    }

    @Override
    public String toString() {
        return out.toString();
    }
}
