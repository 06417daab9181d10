package io.github.tailorkv.tools;

import io.github.tailorkv.cache.MemoryEstimate;
import io.github.tailorkv.config.LayerKind;
import io.github.tailorkv.config.Policy;
import io.github.tailorkv.config.Profile;
import io.github.tailorkv.config.Settings;
import io.github.tailorkv.spi.ModelShape;
import io.github.tailorkv.tools.html.BarChart;
import io.github.tailorkv.tools.html.HeatMap;
import io.github.tailorkv.tools.html.Page;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Properties;
import java.util.stream.IntStream;

/** A profile as a page: dense preference, what follows from it, and the memory that it will take. */
final class ProfileReport {
    private static final int[] CONTEXTS = {2048, 8192, 32768, 131072};
    private static final List<String> PRESETS = List.of("balanced", "balanced, disk", "compact", "paper");

    private final Profile profile;
    private final ModelShape shape;
    private final List<KeyMagnitudes> keys;

    /** @param keys of each layer; empty where they were not measured */
    ProfileReport(Profile profile, ModelShape shape, List<KeyMagnitudes> keys) {
        this.profile = profile;
        this.shape = shape;
        this.keys = keys;
    }

    Page page() {
        Profile.Model model = profile.model();
        List<String> layers = IntStream.range(0, model.layers()).mapToObj(Integer::toString).toList();
        Map<Integer, LayerKind> kinds = new HashMap<>();
        for (int i = 0; i < model.layers(); i++) {
            kinds.put(i, profile.layers().get(i).kind());
        }
        Page page = new Page("TailorKV profile of " + model.name())
                .paragraph(model.type() + ", " + model.layers() + " layers, " + model.heads() + " query and "
                        + model.kvHeads() + " KV heads of " + model.headSize() + " channels. " + profile.texts().size()
                        + " texts, " + profile.created() + ".")
                .paragraph("Policy: " + Policy.list(kinds))
                .heading("Dense preference of each layer")
                .note("The share of attention outside the top 5 % of the tokens: mean over the texts, least and most as "
                        + "whiskers. Layers above the threshold need all tokens and are quantized; the others are served "
                        + "by their dominant tokens.")
                .chart(new BarChart("dense preference P", layers,
                        List.of(new BarChart.Series("P", profile.layers().stream().map(Profile.Layer::mean).toList(),
                                profile.layers().stream().map(Profile.Layer::least).toList(),
                                profile.layers().stream().map(Profile.Layer::most).toList())),
                        1, profile.threshold(), value -> String.format(Locale.ROOT, "%.2f", value)))
                .heading("By text")
                .note("A layer whose column changes from text to text across the threshold is better decided by each "
                        + "prompt (tailorkv.policy=online).")
                .chart(new HeatMap("dense preference by text and layer", "layer", layers,
                        profile.texts().stream().map(Profile.Text::name).toList(),
                        profile.texts().stream().map(Profile.Text::densePreference).toList(), false,
                        value -> String.format(Locale.ROOT, "%.2f", value)));
        heads(page, layers);
        if (!keys.isEmpty()) {
            keys(page, layers);
        }
        memory(page);
        return page;
    }

    private void heads(Page page, List<String> layers) {
        List<List<Double>> byLayer = profile.layers().stream().map(Profile.Layer::queryHeads).toList();
        if (byLayer.stream().anyMatch(List::isEmpty)) {
            return;
        }
        int kvHeads = profile.model().kvHeads();
        int group = profile.model().heads() / kvHeads;
        page.heading("By head")
                .note("Mean over the texts. A layer has one kind for all its heads: one dense head among sparse ones is "
                        + "outvoted, and what it loses is what a larger budget or more bits would have to mend.")
                .chart(headMap("query head", profile.model().heads(), layers, byLayer));
        if (group > 1) {
            page.note("By KV head, each the mean of the " + group + " query heads that share it.")
                    .chart(
                            headMap("KV head", kvHeads, layers,
                                    profile.layers().stream().map(layer -> layer.kvHeads(kvHeads)).toList()));
        }
    }

    private static HeatMap headMap(String what, int count, List<String> layers, List<List<Double>> values) {
        return new HeatMap("dense preference by layer and " + what, what,
                IntStream.range(0, count).mapToObj(Integer::toString).toList(),
                layers.stream().map(layer -> "layer " + layer).toList(), values, false,
                value -> String.format(Locale.ROOT, "%.2f", value));
    }

    private void keys(Page page, List<String> layers) {
        double top = BarChart.roundTop(keys.stream().mapToDouble(KeyMagnitudes::largest).max().orElse(1));
        page.heading("Keys")
                .note("Mean magnitude of the keys over all channels, and of the channel in which they are largest. A few "
                        + "channels far above the rest are why keys are quantized channel by channel, and why a few "
                        + "critical channels suffice to rank tokens.")
                .chart(new BarChart("magnitude of keys", layers,
                        List.of(
                                new BarChart.Series("all channels", keys.stream().map(KeyMagnitudes::mean).toList(),
                                        List.of(), List.of()),
                                new BarChart.Series("largest channel",
                                        keys.stream().map(KeyMagnitudes::largest).toList(), List.of(), List.of())),
                        top, Double.NaN, value -> String.format(Locale.ROOT, "%.1f", value)));
    }

    private void memory(Page page) {
        List<LayerKind> kinds = profile.layers().stream().map(Profile.Layer::kind).toList();
        List<String> contexts = IntStream.of(CONTEXTS).mapToObj(tokens -> tokens / 1024 + "k").toList();
        List<BarChart.Series> series = new ArrayList<>();
        List<List<String>> rows = new ArrayList<>();
        List<String> stock = new ArrayList<>(List.of("Jlama"));
        for (int tokens : CONTEXTS) {
            stock.add(bytes((double) shape.stockBytesPerToken() * tokens));
        }
        rows.add(stock);
        for (String preset : PRESETS) {
            MemoryEstimate estimate = new MemoryEstimate(shape, settings(preset));
            List<Double> ratios = new ArrayList<>();
            List<String> row = new ArrayList<>(List.of(preset));
            for (int tokens : CONTEXTS) {
                double resident = estimate.resident(kinds, tokens);
                ratios.add(100 * resident / ((double) shape.stockBytesPerToken() * tokens));
                row.add(bytes(resident) + " + " + bytes(estimate.offloaded(kinds, tokens)));
            }
            series.add(new BarChart.Series(preset, ratios, List.of(), List.of()));
            rows.add(row);
        }
        double top = BarChart.roundTop(
                series.stream().mapToDouble(one -> Collections.max(one.values())).max().orElse(100));
        List<String> header = new ArrayList<>(List.of("KV cache of a session"));
        header.addAll(contexts);
        page.heading("Memory")
                .note("What one session of this model will hold in RAM, as a share of Jlama's own cache, with the kinds "
                        + "of layers above. In the table: in RAM + offloaded.")
                .chart(new BarChart("% of Jlama's cache", contexts, series, top, Double.NaN,
                        value -> String.format(Locale.ROOT, "%.0f", value)))
                .table(header, rows);
    }

    private static Settings settings(String preset) {
        Properties properties = new Properties();
        boolean disk = preset.endsWith(", disk");
        properties.setProperty("tailorkv.preset", disk ? preset.substring(0, preset.indexOf(',')) : preset);
        if (disk) {
            properties.setProperty("tailorkv.offload", "disk");
        }
        return Settings.from(properties);
    }

    private static String bytes(double bytes) {
        return bytes < 1 << 30
                ? String.format(Locale.ROOT, "%.1f MiB", bytes / (1 << 20))
                : String.format(Locale.ROOT, "%.2f GiB", bytes / (1 << 30));
    }
}
