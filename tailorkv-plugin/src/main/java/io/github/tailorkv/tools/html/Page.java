package io.github.tailorkv.tools.html;

import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/** A report: headings, paragraphs, tables and charts in the order in which they are added. */
public final class Page {
    private static final String STYLE = """
        body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 1040px; margin: 2em auto;
               padding: 0 1em; }
        h1 { font-size: 1.6em; margin-bottom: .2em; } h2 { font-size: 1.2em; margin: 2em 0 .3em; }
        p { margin: .4em 0; max-width: 56em; } .note { color: #555; }
        table { border-collapse: collapse; margin: .8em 0; font-size: 13px; font-variant-numeric: tabular-nums; }
        th, td { padding: .25em .7em; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
        th:first-child, td:first-child { text-align: left; } th { border-bottom: 2px solid #888; }
        .scroll { overflow-x: auto; } .gallery { display: flex; flex-wrap: wrap; gap: 1em 2.5em; }
        figure { margin: 0; } figcaption { font-weight: 600; }
        svg { display: block; margin: .6em 0; max-width: 100%; height: auto; font-family: system-ui, sans-serif; }
        """;

    private static final String CHART_STYLE = Stream.concat(
            Arrays.stream(LineStyle.values()).map(LineStyle::rule),
            Arrays.stream(TextStyle.values()).map(TextStyle::rule)).collect(Collectors.joining("\n", "", "\n"));

    private final Markup body = new Markup();
    private final String title;
    private final Map<String, Drawing> drawings = new LinkedHashMap<>();
    private String section = "";

    /** @param title heading of the page */
    public Page(String title) {
        this.title = title;
        body.element("h1", title);
    }

    /** Adds a heading. */
    public Page heading(String text) {
        body.element("h2", text);
        section = text;
        return this;
    }

    /** Adds a paragraph. */
    public Page paragraph(String text) {
        body.element("p", text);
        return this;
    }

    /** Adds a paragraph that explains how to read what is near it. */
    public Page note(String text) {
        body.raw("<p class=\"note\">").text(text).raw("</p>\n");
        return this;
    }

    /** Adds a table. */
    public Page table(List<String> header, List<List<String>> rows) {
        body.raw("<div class=\"scroll\"><table>\n<tr>");
        header.forEach(cell -> body.raw("<th>").text(cell).raw("</th>"));
        body.raw("</tr>\n");
        for (List<String> row : rows) {
            body.raw("<tr>");
            row.forEach(cell -> body.raw("<td>").text(cell).raw("</td>"));
            body.raw("</tr>\n");
        }
        body.raw("</table></div>\n");
        return this;
    }

    /** Adds a chart. */
    public Page chart(Chart chart) {
        Drawing drawing = chart.drawing();
        keep(section, drawing);
        body.raw(drawing.svg());
        return this;
    }

    /** Adds charts side by side, each with its name above it. */
    public Page gallery(Map<String, Chart> charts) {
        body.raw("<div class=\"gallery\">\n");
        charts.forEach((name, chart) -> {
            Drawing drawing = chart.drawing();
            keep(section + " " + name, drawing);
            body.raw("<figure><figcaption>").text(name).raw("</figcaption>\n").raw(drawing.svg()).raw("</figure>\n");
        });
        body.raw("</div>\n");
        return this;
    }

    private void keep(String name, Drawing drawing) {
        String number = String.format(Locale.ROOT, "%02d", drawings.size() + 1);
        drawings.put(number + Picture.slug(name).map(slug -> "-" + slug).orElse(""), drawing);
    }

    /** What is drawn on the page, in its order, by names that are good for files. */
    Map<String, Drawing> drawings() {
        return drawings;
    }

    /** The whole file. */
    public String html() {
        return "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
                + "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<title>"
                + Markup.escaped(title) + "</title>\n<style>\n" + STYLE + CHART_STYLE + "</style>\n</head>\n<body>\n"
                + body
                + "</body>\n</html>\n";
    }
}
