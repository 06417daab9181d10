package io.github.tailorkv.report;

import io.github.tailorkv.live.SampledLayer;
import io.github.tailorkv.spi.LayerStatistics;
import java.io.IOException;
import java.lang.System.Logger;
import java.lang.System.Logger.Level;
import java.nio.file.AtomicMoveNotSupportedException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.ConcurrentHashMap;
import java.util.stream.Collectors;
import org.jspecify.annotations.Nullable;

/**
 * The session that held the most tokens of all, as it was then, in JSON: written after each turn that held more than any
 * before, whenever a model is closed and when the JVM ends. One report for each file and JVM, whatever the number of models;
 * who reads the file sees the old or the new one, never half of one.
 */
public final class RunReport {
    private static final Logger LOG = System.getLogger("io.github.tailorkv");
    private static final Map<Path, RunReport> BY_FILE = new ConcurrentHashMap<>();

    /**
     * Who served a session.
     *
     * @param stockBytesPerToken bytes that Jlama's own cache would hold for one token
     */
    public record Server(String provider, String backend, String policy, long stockBytesPerToken) {}

    private record Peak(Server server, List<LayerStatistics> layers, List<SampledLayer> sampled, int tokens) {}

    private final @Nullable Path file;
    private int sessions;
    private @Nullable Server lastServer;
    private @Nullable Peak peak;
    private boolean warned;

    private RunReport(@Nullable Path file) {
        this.file = file;
    }

    /** The report that goes to {@code file}; if there is none, one that is never written. */
    public static RunReport to(Optional<Path> file) {
        return file.map(path -> BY_FILE.computeIfAbsent(path.toAbsolutePath().normalize(), RunReport::register))
                .orElseGet(() -> new RunReport(null));
    }

    private static RunReport register(Path file) {
        RunReport report = new RunReport(file);
        Runtime.getRuntime().addShutdownHook(new Thread(report::write, "tailorkv-report"));
        return report;
    }

    /** Counts a session. */
    public synchronized void sessionOpened(Server server) {
        sessions++;
        lastServer = server;
    }

    /**
     * Takes note of what a session holds now.
     *
     * @param sampled what was measured of its layers; empty if nothing was
     */
    public synchronized void sessionHolds(
            Server server, List<LayerStatistics> layers, List<SampledLayer> sampled) {
        int tokens = tokens(layers);
        if (peak == null || tokens > peak.tokens) {
            peak = new Peak(server, List.copyOf(layers), List.copyOf(sampled), tokens);
            write();
        }
    }

    /** Writes the file. A path that cannot be written is told once and is no error. */
    public synchronized void write() {
        if (file == null) {
            return;
        }
        try {
            Path directory = file.getParent();
            if (directory == null) {
                throw new IOException("it is not a file");
            }
            Files.createDirectories(directory);
            Path draft = directory.resolve("." + file.getFileName() + "." + ProcessHandle.current().pid() + ".tmp");
            try {
                Files.writeString(draft, json());
                move(draft, file);
            } finally {
                Files.deleteIfExists(draft);
            }
        } catch (IOException | SecurityException e) {
            if (!warned) {
                warned = true;
                LOG.log(Level.WARNING, "The report cannot be written to " + file + " (" + e
                        + "); set tailorkv.report to a file in a folder that can be written.");
            }
        }
    }

    private static void move(Path from, Path to) throws IOException {
        try {
            Files.move(from, to, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
        } catch (AtomicMoveNotSupportedException e) {
            Files.move(from, to, StandardCopyOption.REPLACE_EXISTING);
        }
    }

    /** Layers that a failed turn left uneven count as what all of them hold. */
    private static int tokens(List<LayerStatistics> layers) {
        return layers.stream().mapToInt(LayerStatistics::tokens).min().orElse(0);
    }

    synchronized String json() {
        Peak shown = peak;
        Server server = shown != null ? shown.server : lastServer;
        List<LayerStatistics> layers = shown != null ? shown.layers : List.of();
        long tokens = shown != null ? shown.tokens : 0;
        long resident = layers.stream().mapToLong(LayerStatistics::residentBytes).sum();
        long offloaded = layers.stream().mapToLong(LayerStatistics::offloadedBytes).sum();
        long stock = server != null ? server.stockBytesPerToken * tokens : 0;
        return String.format(Locale.ROOT, """
            {
              "provider": %s,
              "backend": %s,
              "policy": %s,
              "sessions": %d,
              "totals": {"tokens": %d, "residentBytes": %d, "offloadedBytes": %d, "stockBytes": %d},
              "layers": [%s]
            }
            """, quoted(server == null ? null : server.provider), quoted(server == null ? null : server.backend),
                quoted(server == null ? null : server.policy), sessions, tokens, resident, offloaded, stock,
                layers.stream().map(layer -> layer(layer, shown))
                        .collect(Collectors.joining(",", "", layers.isEmpty() ? "" : "\n  ")));
    }

    private static String layer(LayerStatistics layer, @Nullable Peak peak) {
        double preference = layer.densePreference();
        return String.format(
                Locale.ROOT,
                "\n    {\"layer\": %d, \"kind\": %s, \"densePreference\": %s, \"tokens\": %d, \"residentBytes\": %d, "
                        + "\"offloadedBytes\": %d%s}",
                layer.layer(), quoted(layer.kind()), Double.isFinite(preference) ? Double.toString(preference) : "null",
                layer.tokens(), layer.residentBytes(), layer.offloadedBytes(),
                peak == null
                        ? ""
                        : peak.sampled.stream()
                                .filter(one -> one.layer() == layer.layer() && one.steps() > 0)
                                .map(RunReport::sampled)
                                .collect(Collectors.joining()));
    }

    /** Means of a step. */
    private static String sampled(SampledLayer layer) {
        double steps = layer.steps();
        return String.format(
                Locale.ROOT,
                ", \"sampled\": {\"steps\": %d, \"appendMicros\": %.3f, \"scoreMicros\": %.3f, \"gatherMicros\": %.3f,"
                        + " \"attendMicros\": %.3f, \"bytesRead\": %.0f, \"recall\": %s, \"recallSteps\": %d}",
                layer.steps(), layer.appendNanos() / steps / 1000, layer.scoreNanos() / steps / 1000,
                layer.gatherNanos() / steps / 1000, layer.attendNanos() / steps / 1000, layer.bytesRead() / steps,
                layer.recallSteps() == 0 ? "null" : String.format(Locale.ROOT, "%.4f", layer.recall()),
                layer.recallSteps());
    }

    private static String quoted(@Nullable String text) {
        if (text == null) {
            return "null";
        }
        StringBuilder json = new StringBuilder("\"");
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            if (c == '"' || c == '\\') {
                json.append('\\').append(c);
            } else if (c < ' ') {
                json.append("\\u%04x".formatted((int) c));
            } else {
                json.append(c);
            }
        }
        return json.append('"').toString();
    }
}
