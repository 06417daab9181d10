package io.github.tailorkv.tools.html;

import java.util.List;
import java.util.Map;

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
        .tick { font-size: 12px; fill: #444; } .axis-title { font-size: 13px; fill: #222; }
        .value { font-size: 11px; } .dark { fill: #222; } .light { fill: #fff; }
        .grid { stroke: #e2e2e2; } .axis { stroke: #888; } .whisker { stroke: #222; stroke-width: 1.5; }
        .threshold { stroke: #d55e00; stroke-width: 1.5; stroke-dasharray: 6 4; } .threshold-text { fill: #b04a00; }
        """;

    private final Markup body = new Markup();
    private final String title;

    /** @param title heading of the page */
    public Page(String title) {
        this.title = title;
        body.element("h1", title);
    }

    /** Adds a heading. */
    public Page heading(String text) {
        body.element("h2", text);
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
        body.raw(chart.svg());
        return this;
    }

    /** Adds charts side by side, each with its name above it. */
    public Page gallery(Map<String, Chart> charts) {
        body.raw("<div class=\"gallery\">\n");
        charts.forEach((name, chart) -> body.raw("<figure><figcaption>").text(name).raw("</figcaption>\n")
                .raw(chart.svg()).raw("</figure>\n"));
        body.raw("</div>\n");
        return this;
    }

    /** The whole file. */
    public String html() {
        return "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
                + "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<title>"
                + Markup.escaped(title) + "</title>\n<style>\n" + STYLE + "</style>\n</head>\n<body>\n" + body
                + "</body>\n</html>\n";
    }
}
