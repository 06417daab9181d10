package io.github.tailorkv.tools;

import io.github.tailorkv.config.LayerKind;
import io.github.tailorkv.config.Settings;
import java.util.List;
import java.util.Properties;

/** A way to serve a model that a profile foretells memory and speed of, with the kinds of layers that it found. */
enum PlannedPolicy {
    BALANCED("balanced", "balanced", false),
    BALANCED_DISK("balanced, disk", "balanced", true),
    COMPACT("compact", "compact", false),
    PAPER("paper", "paper", false),
    EXACT("exact", "exact", false);

    private final String title;
    private final String preset;
    private final boolean disk;

    PlannedPolicy(String title, String preset, boolean disk) {
        this.title = title;
        this.preset = preset;
        this.disk = disk;
    }

    String title() {
        return title;
    }

    /** The kinds of the layers under this policy, of those that the profile found. */
    List<LayerKind> kinds(List<LayerKind> found) {
        return this == EXACT ? found.stream().map(kind -> LayerKind.EXACT).toList() : found;
    }

    Settings settings() {
        return Settings.from(properties());
    }

    /**
     * Settings that make every layer the same, to be timed at two lengths: with the budget of long contexts at both, so that
     * what it grows by is not taken for the cost of tokens. At lengths where it is smaller the time comes out too high.
     */
    Settings settings(LayerKind kind) {
        Properties properties = properties();
        properties.setProperty("tailorkv.budget.least", Integer.toString(settings().budget()));
        properties.setProperty("tailorkv.policy", switch (kind) {
            case EXACT -> "exact";
            case QUANTIZED -> "quantize";
            case RETRIEVAL -> "retrieve";
        });
        return Settings.from(properties);
    }

    private Properties properties() {
        Properties properties = new Properties();
        properties.setProperty("tailorkv.preset", preset);
        if (disk) {
            properties.setProperty("tailorkv.offload", "disk");
        }
        return properties;
    }
}
