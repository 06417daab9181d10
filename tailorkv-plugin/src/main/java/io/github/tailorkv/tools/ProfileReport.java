package io.github.tailorkv.tools;

import io.github.tailorkv.config.LayerKind;
import io.github.tailorkv.config.Policy;
import io.github.tailorkv.config.Profile;
import io.github.tailorkv.tools.html.BarChart;
import io.github.tailorkv.tools.html.HeatMap;
import io.github.tailorkv.tools.html.Page;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.stream.IntStream;

/** A profile as a page: dense preference, what follows from it, and the memory that it will take. */
final class ProfileReport {
    private final Profile profile;
    private final List<KeyMagnitudes> keys;
    private final Forecast forecast;

    /** @param keys of each layer; empty where they were not measured */
    ProfileReport(Profile profile, List<KeyMagnitudes> keys, Forecast forecast) {
        this.profile = profile;
        this.keys = keys;
        this.forecast = forecast;
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
        speed(page);
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
        double top = BarChart.roundTop(
                forecast.memoryRatios().stream().mapToDouble(one -> Collections.max(one.values())).max().orElse(100));
        page.heading("Memory")
                .note("What one session of this model will hold in RAM, as a share of Jlama's own cache, with the kinds "
                        + "of layers above. In the table: in RAM + offloaded.")
                .chart(new BarChart("% of Jlama's cache", forecast.contexts(), forecast.memoryRatios(), top, Double.NaN,
                        value -> String.format(Locale.ROOT, "%.0f", value)))
                .table(forecast.memoryHeader(), forecast.memoryRows());
    }

    private void speed(Page page) {
        if (forecast.speedRows().isEmpty()) {
            return;
        }
        double top = BarChart.roundTop(
                forecast.speeds().stream().mapToDouble(one -> Collections.max(one.values())).max().orElse(1));
        page.heading("Speed")
                .note("Milliseconds a token of the answer will take on this machine, by the tokens before it.")
                .chart(new BarChart("ms a token", forecast.contexts(), forecast.speeds(), top, Double.NaN,
                        value -> String.format(Locale.ROOT, top < 20 ? "%.1f" : "%.0f", value)))
                .table(forecast.speedHeader(), forecast.speedRows());
        forecast.speedNotes().forEach(page::note);
    }
}
