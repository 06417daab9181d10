package io.github.tailorkv.tools.html;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.awt.image.BufferedImage;
import java.io.StringReader;
import java.nio.file.Path;
import java.util.HashSet;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import javax.imageio.ImageIO;
import javax.xml.parsers.DocumentBuilderFactory;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.w3c.dom.Document;
import org.w3c.dom.NodeList;
import org.xml.sax.InputSource;

class PageTest {
    @TempDir
    private Path folder = Path.of("");

    private static final String NASTY = "<script>alert('x')</script> & \"model\" \u0001";

    @Test
    void everythingIsEscapedAndWellFormed() throws Exception {
        Document page = parsed(page().html());
        assertEquals(0, page.getElementsByTagName("script").getLength());
        assertEquals(3, page.getElementsByTagName("svg").getLength());
        assertEquals("<script>alert('x')</script> & \"model\"  ", text(page, "h1"));
    }

    @Test
    void nothingIsLoadedFromAnywhere() {
        String html = page().html();
        assertFalse(html.replace("xmlns=\"http://www.w3.org/2000/svg\"", "").contains("://"), html);
        assertFalse(
                html.contains("src=") || html.contains("href=") || html.contains("url(") || html.contains("@import"));
    }

    @Test
    void numbersHaveAPointInEveryLocale() throws Exception {
        Locale before = Locale.getDefault();
        Locale.setDefault(Locale.GERMANY);
        try {
            NodeList bars = parsed(page().html()).getElementsByTagName("rect");
            for (int i = 0; i < bars.getLength(); i++) {
                assertTrue(
                        bars.item(i).getAttributes().getNamedItem("height").getNodeValue()
                                .matches("[0-9]+(\\.[0-9]+)?"));
            }
        } finally {
            Locale.setDefault(before);
        }
    }

    @Test
    void axesEndAtRoundNumbers() {
        assertEquals(1, BarChart.roundTop(0.97), 1e-12);
        assertEquals(6, BarChart.roundTop(5.5), 1e-12);
        assertEquals(20, BarChart.roundTop(17.7), 1e-12);
        assertEquals(100, BarChart.roundTop(100), 1e-9);
    }

    /** Each chart as a file, big enough to be read, with as many colours as it takes and text that is not cut off. */
    @Test
    void chartsBecomePictures() throws Exception {
        List<Path> files = Picture.write(page(), folder);
        assertEquals(3, files.size());
        for (Path file : files) {
            assertTrue(file.getFileName().toString().matches("0[123]-[a-z0-9-]+\\.png"), file.toString());
            BufferedImage image = ImageIO.read(file.toFile());
            assertTrue(image.getWidth() >= 600 && image.getHeight() >= 100);
            Set<Integer> colours = new HashSet<>();
            for (int x = 0; x < image.getWidth(); x++) {
                for (int y = 0; y < image.getHeight(); y++) {
                    colours.add(image.getRGB(x, y) & 0xFFFFFF);
                }
            }
            assertTrue(colours.size() > 20, "only " + colours.size() + " colours in " + file);
        }
    }

    /** Whatever an axis is asked to hold, bars and points lie where the SVG has them. */
    @Test
    void aPictureShowsWhatThePageShows() {
        Drawing drawing = new Drawing(100, 60, "").rectangle(10, 20, 30, 40, "#0072b2", "a bar");
        BufferedImage image = Picture.paint(drawing);
        assertEquals(0x0072b2, image.getRGB(2 * (12 + 25), 2 * (12 + 40)) & 0xFFFFFF);
        assertEquals(0xFFFFFF, image.getRGB(2 * (12 + 45), 2 * (12 + 40)) & 0xFFFFFF);
        assertTrue(drawing.svg().contains("<rect x=\"10\" y=\"20\" width=\"30\" height=\"40\" fill=\"#0072b2\">"));
    }

    private static String text(Document page, String element) {
        return page.getElementsByTagName(element).item(0).getTextContent();
    }

    private static Document parsed(String html) throws Exception {
        return DocumentBuilderFactory.newInstance().newDocumentBuilder()
                .parse(new InputSource(new StringReader(html.replace("<!DOCTYPE html>", ""))));
    }

    private static Page page() {
        List<Double> values = List.of(0.25, Double.NaN);
        return new Page(NASTY).heading(NASTY).paragraph(NASTY).note(NASTY)
                .table(List.of(NASTY, "b"), List.of(List.of("1", NASTY)))
                .chart(new BarChart(NASTY, List.of(NASTY, "short"),
                        List.of(new BarChart.Series(NASTY, values, values, values),
                                new BarChart.Series("other", values, List.of(), List.of())),
                        1, 0.2, Double::toString))
                .chart(new HeatMap(NASTY, NASTY, List.of(NASTY, "b"), List.of(NASTY), List.of(values), true,
                        Double::toString))
                .chart(new ScatterChart(new ScatterChart.Axis(NASTY, 0, 1, 4, false, Double::toString),
                        ScatterChart.Axis.powers("log", 10, 2e-6, 1, Double::toString),
                        ScatterChart.Better.HIGH,
                        List.of(new ScatterChart.Series(NASTY, 3,
                                List.of(new ScatterChart.Point(0.5, 0.1, NASTY, NASTY),
                                        new ScatterChart.Point(0.6, 0.3, "", NASTY))))));
    }
}
