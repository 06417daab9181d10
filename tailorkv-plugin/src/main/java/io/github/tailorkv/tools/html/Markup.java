package io.github.tailorkv.tools.html;

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

    Markup rectangle(double x, double y, double width, double height, String fill, String title) {
        return raw(
                "<rect x=\"" + number(x) + "\" y=\"" + number(y) + "\" width=\"" + number(Math.max(0, width))
                        + "\" height=\"" + number(Math.max(0, height)) + "\" fill=\"" + fill + "\">")
                .element("title", title).raw("</rect>\n");
    }

    Markup line(double x1, double y1, double x2, double y2, String style) {
        return raw(
                "<line x1=\"" + number(x1) + "\" y1=\"" + number(y1) + "\" x2=\"" + number(x2) + "\" y2=\"" + number(y2)
                        + "\" class=\"" + style + "\"/>\n");
    }

    Markup circle(double x, double y, double radius, String fill, String title) {
        return raw(
                "<circle cx=\"" + number(x) + "\" cy=\"" + number(y) + "\" r=\"" + number(radius) + "\" fill=\"" + fill
                        + "\">")
                .element("title", title).raw("</circle>\n");
    }

    /** @param anchor start, middle or end */
    Markup label(double x, double y, String anchor, String style, String text) {
        return raw(
                "<text x=\"" + number(x) + "\" y=\"" + number(y) + "\" text-anchor=\"" + anchor + "\" class=\"" + style
                        + "\">")
                .text(text).raw("</text>\n");
    }

    /** A label turned by 35 degrees, that ends at the point. */
    Markup tilted(double x, double y, String text) {
        return raw(
                "<text text-anchor=\"end\" class=\"tick\" transform=\"translate(" + number(x) + " " + number(y)
                        + ") rotate(-35)\">")
                .text(text).raw("</text>\n");
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
