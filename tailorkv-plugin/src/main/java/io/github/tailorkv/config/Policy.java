package io.github.tailorkv.config;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.TreeMap;
import org.jspecify.annotations.Nullable;

/**
 * Who decides the kind of each layer: the profile beside the model, the prompt itself, or the user.
 *
 * @param mode where the decision comes from
 * @param layers for {@link Mode#LIST}: the kind of each layer named by the user
 */
public record Policy(Mode mode, Map<Integer, LayerKind> layers) {

    /** Where the decision comes from. */
    public enum Mode {
        /** The profile beside the model if there is one, else online. */
        AUTO,
        /** The dense preference score of each prompt. */
        ONLINE,
        /** The profile beside the model, which must be there. */
        PROFILE,
        /** The same kind for every layer. */
        FIXED,
        /** A list of layers, each with its kind. */
        LIST
    }

    static final String ALLOWED = "auto, online, profile, quantize, retrieve, exact or a list such as "
            + "0-1:quantize,2-31:retrieve that names every layer once";

    public Policy {
        layers = Map.copyOf(layers);
    }

    /** A policy that makes every layer the same. */
    public static Policy fixed(LayerKind kind) {
        return new Policy(Mode.FIXED, Map.of(-1, kind));
    }

    /** A policy that names the kind of each layer. */
    public static Policy list(Map<Integer, LayerKind> layers) {
        return new Policy(Mode.LIST, layers);
    }

    /**
     * Reads the text of the property {@code tailorkv.policy}.
     *
     * @throws SettingsException if the text is no policy
     */
    static Policy parse(String text) {
        return switch (text) {
            case "auto" -> new Policy(Mode.AUTO, Map.of());
            case "online" -> new Policy(Mode.ONLINE, Map.of());
            case "profile" -> new Policy(Mode.PROFILE, Map.of());
            case "quantize", "retrieve", "exact" -> fixed(Objects.requireNonNull(kind(text)));
            default -> list(text);
        };
    }

    private static @Nullable LayerKind kind(String word) {
        return switch (word) {
            case "quantize" -> LayerKind.QUANTIZED;
            case "retrieve" -> LayerKind.RETRIEVAL;
            case "exact" -> LayerKind.EXACT;
            default -> null;
        };
    }

    private static Policy list(String text) {
        Map<Integer, LayerKind> layers = new TreeMap<>();
        for (String part : text.split(",", -1)) {
            int colon = part.indexOf(':');
            if (colon < 0) {
                throw bad(text, "\"" + part + "\" is not of the form LAYERS:KIND");
            }
            @Nullable
            LayerKind kind = kind(part.substring(colon + 1).strip());
            if (kind == null) {
                throw bad(text, "\"" + part.substring(colon + 1) + "\" is no kind of layer");
            }
            int first;
            int last;
            try {
                String[] range = part.substring(0, colon).strip().split("-", -1);
                first = Integer.parseInt(range[0]);
                last = range.length == 1 ? first : Integer.parseInt(range[1]);
                if (range.length > 2 || first < 0 || last < first || last > 100_000) {
                    throw new NumberFormatException();
                }
            } catch (NumberFormatException e) {
                throw bad(text, "\"" + part.substring(0, colon) + "\" is not a layer or a range of layers");
            }
            for (int layer = first; layer <= last; layer++) {
                if (layers.put(layer, kind) != null) {
                    throw bad(text, "layer " + layer + " is named twice");
                }
            }
        }
        return new Policy(Mode.LIST, layers);
    }

    private static SettingsException bad(String text, String why) {
        return new SettingsException("tailorkv.policy=" + text + ": " + why + "; allowed: " + ALLOWED);
    }

    /**
     * The kind that the user fixed for a layer; empty where a score decides.
     */
    public Optional<LayerKind> fixedKind(int layer) {
        return switch (mode) {
            case FIXED -> Optional.ofNullable(layers.get(-1));
            case LIST -> Optional.ofNullable(layers.get(layer));
            case AUTO, ONLINE, PROFILE -> Optional.empty();
        };
    }

    /**
     * Checks that a list names every layer of the model and no other.
     *
     * @throws SettingsException if it does not
     */
    public void checkLayers(int count) {
        if (mode != Mode.LIST) {
            return;
        }
        List<Integer> missing = new ArrayList<>();
        for (int layer = 0; layer < count; layer++) {
            if (!layers.containsKey(layer)) {
                missing.add(layer);
            }
        }
        if (!missing.isEmpty()) {
            throw bad(toString(), "the model has layers 0-" + (count - 1) + ", but " + missing + " are not named");
        }
        for (int layer : layers.keySet()) {
            if (layer >= count) {
                throw bad(toString(), "the model has layers 0-" + (count - 1) + " only, but " + layer + " is named");
            }
        }
    }

    /** The text that {@link #parse} reads. */
    @Override
    public String toString() {
        if (mode == Mode.FIXED) {
            return word(fixedKind(0).orElseThrow());
        }
        if (mode != Mode.LIST) {
            return mode.name().toLowerCase(java.util.Locale.ROOT);
        }
        StringBuilder text = new StringBuilder();
        int start = -1;
        int previous = -1;
        @Nullable
        LayerKind kind = null;
        for (Map.Entry<Integer, LayerKind> entry : new TreeMap<>(layers).entrySet()) {
            if (entry.getValue() != kind || entry.getKey() != previous + 1) {
                append(text, start, previous, kind);
                start = entry.getKey();
                kind = entry.getValue();
            }
            previous = entry.getKey();
        }
        append(text, start, previous, kind);
        return text.toString();
    }

    private static void append(StringBuilder text, int first, int last,
            @Nullable LayerKind kind) {
        if (kind == null) {
            return;
        }
        text.append(text.isEmpty() ? "" : ",")
                .append(first == last ? "" + first : first + "-" + last)
                .append(':')
                .append(word(kind));
    }

    private static String word(LayerKind kind) {
        return switch (kind) {
            case EXACT -> "exact";
            case QUANTIZED -> "quantize";
            case RETRIEVAL -> "retrieve";
        };
    }
}
