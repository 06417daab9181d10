package io.github.tailorkv.tools.html;

import io.github.tailorkv.tools.html.Drawing.Shape;
import java.awt.BasicStroke;
import java.awt.Color;
import java.awt.Font;
import java.awt.Graphics2D;
import java.awt.RenderingHints;
import java.awt.geom.AffineTransform;
import java.awt.geom.Ellipse2D;
import java.awt.geom.Line2D;
import java.awt.geom.Path2D;
import java.awt.geom.Rectangle2D;
import java.awt.image.BufferedImage;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import javax.imageio.ImageIO;

/** Drawings as PNG files, painted by Java itself: no screen is needed, but a font is. */
public final class Picture {
    /** Dots a pixel of a page. */
    private static final double SCALE = 2;

    private static final double MARGIN = 12;

    private Picture() {}

    /**
     * Paints all drawings of a page, each into a file named after its place and heading.
     *
     * @return the files
     * @throws IOException if a file cannot be written or this machine cannot paint; the message is one line for the user
     */
    public static List<Path> write(Page page, Path folder) throws IOException {
        List<Path> files = new ArrayList<>();
        try {
            for (Map.Entry<String, Drawing> entry : page.drawings().entrySet()) {
                Path file = folder.resolve(entry.getKey() + ".png");
                Path draft = folder.resolve(entry.getKey() + ".png.part");
                try (var stream = Files.newOutputStream(draft)) {
                    if (!ImageIO.write(paint(entry.getValue()), "png", stream)) {
                        throw new IOException("this Java writes no PNG files");
                    }
                }
                Files.move(draft, file, java.nio.file.StandardCopyOption.REPLACE_EXISTING);
                files.add(file);
            }
        } catch (LinkageError | InternalError | NullPointerException e) {
            // What the JDK throws where libraries for fonts are missing, or the fonts themselves, is none of one kind.
            throw new IOException(
                    "this Java cannot draw text, so there are no PNG files; install the package fontconfig "
                            + "and a font such as fonts-dejavu-core, or leave out --png (" + e + ")",
                    e);
        } catch (UncheckedIOException e) {
            throw e.getCause();
        }
        return files;
    }

    static BufferedImage paint(Drawing drawing) {
        // Before the first class of AWT asks: there may be a DISPLAY that does not work.
        if (System.getProperty("java.awt.headless") == null) {
            System.setProperty("java.awt.headless", "true");
        }
        BufferedImage image = new BufferedImage(
                (int) Math.ceil((drawing.width() + 2 * MARGIN) * SCALE),
                (int) Math.ceil((drawing.height() + 2 * MARGIN) * SCALE), BufferedImage.TYPE_INT_RGB);
        Graphics2D graphics = image.createGraphics();
        try {
            graphics.setColor(Color.WHITE);
            graphics.fillRect(0, 0, image.getWidth(), image.getHeight());
            graphics.setRenderingHint(RenderingHints.KEY_ANTIALIASING, RenderingHints.VALUE_ANTIALIAS_ON);
            graphics.setRenderingHint(RenderingHints.KEY_STROKE_CONTROL, RenderingHints.VALUE_STROKE_PURE);
            graphics.setRenderingHint(
                    RenderingHints.KEY_TEXT_ANTIALIASING, RenderingHints.VALUE_TEXT_ANTIALIAS_ON);
            graphics.setRenderingHint(
                    RenderingHints.KEY_FRACTIONALMETRICS, RenderingHints.VALUE_FRACTIONALMETRICS_ON);
            graphics.scale(SCALE, SCALE);
            graphics.translate(MARGIN, MARGIN);
            drawing.shapes().forEach(shape -> paint(graphics, shape));
        } finally {
            graphics.dispose();
        }
        return image;
    }

    private static void paint(Graphics2D graphics, Shape shape) {
        switch (shape) {
            case Shape.Rectangle box -> {
                graphics.setColor(Color.decode(box.fill()));
                graphics.fill(new Rectangle2D.Double(box.x(), box.y(), box.width(), box.height()));
            }
            case Shape.Circle disc -> {
                graphics.setColor(Color.decode(disc.fill()));
                graphics.fill(
                        new Ellipse2D.Double(
                                disc.x() - disc.radius(), disc.y() - disc.radius(), 2 * disc.radius(),
                                2 * disc.radius()));
            }
            case Shape.Line line -> {
                stroke(graphics, line.style());
                graphics.draw(new Line2D.Double(line.x1(), line.y1(), line.x2(), line.y2()));
            }
            case Shape.Track track -> track(graphics, track);
            case Shape.Label label -> label(graphics, label);
        }
    }

    private static void stroke(Graphics2D graphics, LineStyle style) {
        graphics.setColor(Color.decode(style.colour));
        graphics.setStroke(
                style.dashed
                        ? new BasicStroke(
                                (float) style.width, BasicStroke.CAP_BUTT, BasicStroke.JOIN_ROUND, 1,
                                LineStyle.DASHES, 0)
                        : new BasicStroke((float) style.width));
    }

    private static void track(Graphics2D graphics, Shape.Track track) {
        Path2D path = new Path2D.Double();
        for (int i = 0; i < track.points().size(); i += 2) {
            double x = track.points().get(i);
            double y = track.points().get(i + 1);
            if (i == 0) {
                path.moveTo(x, y);
            } else {
                path.lineTo(x, y);
            }
        }
        Color colour = Color.decode(track.colour());
        graphics.setColor(new Color(colour.getRed(), colour.getGreen(), colour.getBlue(), 153));
        graphics.setStroke(new BasicStroke(1.5f));
        graphics.draw(path);
    }

    private static void label(Graphics2D graphics, Shape.Label label) {
        graphics.setFont(new Font(Font.SANS_SERIF, Font.PLAIN, label.style().size));
        graphics.setColor(Color.decode(label.style().colour));
        double width = graphics.getFontMetrics().getStringBounds(label.text(), graphics).getWidth();
        double shift = switch (label.anchor()) {
            case START -> 0;
            case MIDDLE -> -width / 2;
            case END -> -width;
        };
        AffineTransform before = graphics.getTransform();
        graphics.translate(label.x(), label.y());
        graphics.rotate(Math.toRadians(label.degrees()));
        graphics.drawString(label.text(), (float) shift, 0);
        graphics.setTransform(before);
    }

    /** A part of a file name made of a text for people. */
    static Optional<String> slug(String text) {
        String slug = text.toLowerCase(java.util.Locale.ROOT).replaceAll("[^a-z0-9]+", "-").replaceAll("^-|-$", "");
        return slug.isEmpty() ? Optional.empty() : Optional.of(slug.substring(0, Math.min(slug.length(), 40)));
    }
}
