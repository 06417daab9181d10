package io.github.tailorkv.config;

import io.github.tailorkv.json.JsonException;
import io.github.tailorkv.json.JsonObject;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.AtomicMoveNotSupportedException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Locale;
import java.util.Optional;

/**
 * What {@code profile} found out about a model, as the file {@code tailorkv.json} beside it: the dense preference of each
 * layer over several texts, and the kind that follows. The kinds are what the runtime goes by, so a user may edit them.
 *
 * @param model the model it was made of
 * @param threshold dense preference above which a layer became quantized
 * @param layers one entry a layer
 * @param texts the texts that were run
 * @param created date, as ISO 8601
 */
public record Profile(Model model, double threshold, List<Layer> layers, List<Text> texts, String created) {

    /** Name of the file beside the model. */
    public static final String FILE = "tailorkv.json";

    private static final String FORMAT = "tailorkv-profile";
    private static final int VERSION = 1;

    /** Fields of a model's {@code config.json} that make it another model when they differ. */
    private static final List<String> IDENTITY = List.of(
            "model_type", "hidden_size", "n_embd", "intermediate_size", "num_hidden_layers", "n_layer",
            "num_attention_heads", "n_head", "num_key_value_heads", "head_dim", "vocab_size", "rope_theta",
            "num_local_experts", "max_position_embeddings");

    public Profile {
        layers = List.copyOf(layers);
        texts = List.copyOf(texts);
    }

    /**
     * The model that a profile belongs to.
     *
     * @param type architecture, as Jlama names it
     * @param name folder name, for people
     * @param fingerprint {@link #fingerprint} of its folder; empty if that was not known
     */
    public record Model(String type, String name, int layers, int heads, int kvHeads, int headSize,
            String fingerprint) {}

    /**
     * One layer: its dense preference over all texts, and its kind.
     *
     * @param queryHeads mean of each query head; empty where heads were not looked at
     */
    public record Layer(double mean, double least, double most, LayerKind kind, List<Double> queryHeads) {

        public Layer {
            queryHeads = List.copyOf(queryHeads);
        }

        /** A layer whose heads were not looked at. */
        public Layer(double mean, double least, double most, LayerKind kind) {
            this(mean, least, most, kind, List.of());
        }

        /** Dense preference of each KV head: the mean of the query heads that share it. */
        public List<Double> kvHeads(int count) {
            int group = queryHeads.size() / count;
            List<Double> means = new ArrayList<>();
            for (int i = 0; i + group <= queryHeads.size() && group > 0; i += group) {
                means.add(
                        queryHeads.subList(i, i + group).stream().mapToDouble(value -> value).average().orElse(0));
            }
            return means;
        }
    }

    /** A text that was run, and what it gave. */
    public record Text(String name, int tokens, List<Double> densePreference) {

        public Text {
            densePreference = List.copyOf(densePreference);
        }
    }

    /**
     * Reads a profile.
     *
     * @throws IOException if the file cannot be read
     * @throws JsonException if it is no profile, or one of another version
     */
    public static Profile read(Path file) throws IOException, JsonException {
        String text;
        try {
            text = Files.readString(file);
        } catch (java.nio.charset.CharacterCodingException e) {
            throw new JsonException("it is not UTF-8 text");
        }
        JsonObject json = JsonObject.parse(text);
        if (!json.has("format") || !json.text("format").equals(FORMAT)) {
            throw new JsonException("it is not a TailorKV profile");
        }
        if (json.whole("version") != VERSION) {
            throw new JsonException(
                    "it has version " + json.whole("version") + " of the format, this TailorKV reads version "
                            + VERSION);
        }
        JsonObject model = json.object("model");
        List<Layer> layers = new ArrayList<>();
        for (JsonObject layer : json.objects("layers")) {
            if (layer.whole("layer") != layers.size()) {
                throw new JsonException("its layers are not numbered from 0 without a gap");
            }
            layers.add(
                    new Layer(
                            preference(layer, "mean"), preference(layer, "min"), preference(layer, "max"),
                            kind(layer.text("kind")),
                            layer.has("queryHeads") ? layer.numbers("queryHeads") : List.of()));
        }
        List<Text> texts = new ArrayList<>();
        for (JsonObject entry : json.objects("texts")) {
            texts.add(new Text(entry.text("name"), entry.whole("tokens"), entry.numbers("densePreference")));
        }
        Profile profile = new Profile(
                new Model(
                        model.text("type"), model.text("name"), model.whole("layers"), model.whole("heads"),
                        model.whole("kvHeads"), model.whole("headSize"), model.optionalText("fingerprint").orElse("")),
                json.number("threshold"), layers, texts, json.text("created"));
        if (layers.size() != profile.model.layers) {
            throw new JsonException("it describes " + layers.size() + " of " + profile.model.layers + " layers");
        }
        return profile;
    }

    private static double preference(JsonObject layer, String name) throws JsonException {
        double value = layer.numberOrNaN(name);
        if (value < 0 || value > 1) {
            throw new JsonException("\"" + name + "\" is not a dense preference, which lies between 0 and 1");
        }
        return value;
    }

    private static LayerKind kind(String label) throws JsonException {
        for (LayerKind kind : LayerKind.values()) {
            if (kind.label().equals(label)) {
                return kind;
            }
        }
        throw new JsonException("\"" + label + "\" is no kind of layer; it takes exact, quantized or retrieval");
    }

    /** Writes the profile; a reader sees the old file or the new one. */
    public void write(Path file) throws IOException {
        Path target = file.toAbsolutePath();
        Path draft = target.resolveSibling("." + target.getFileName() + "." + ProcessHandle.current().pid() + ".tmp");
        try {
            Files.writeString(draft, toJson().toPrettyString());
            try {
                Files.move(draft, target, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
            } catch (AtomicMoveNotSupportedException e) {
                Files.move(draft, target, StandardCopyOption.REPLACE_EXISTING);
            }
        } finally {
            Files.deleteIfExists(draft);
        }
    }

    JsonObject toJson() {
        List<JsonObject> layerList = new ArrayList<>();
        for (Layer layer : layers) {
            JsonObject entry = new JsonObject()
                    .put("layer", layerList.size())
                    .put("kind", layer.kind.label())
                    .put("mean", rounded(layer.mean))
                    .put("min", rounded(layer.least))
                    .put("max", rounded(layer.most));
            if (!layer.queryHeads.isEmpty()) {
                entry.put("queryHeads", rounded(layer.queryHeads))
                        .put("kvHeads", rounded(layer.kvHeads(model.kvHeads)));
            }
            layerList.add(entry);
        }
        List<JsonObject> textList = new ArrayList<>();
        for (Text text : texts) {
            textList.add(
                    new JsonObject().put("name", text.name).put("tokens", text.tokens)
                            .put("densePreference", rounded(text.densePreference)));
        }
        return new JsonObject()
                .put("format", FORMAT)
                .put("version", VERSION)
                .put("created", created)
                .put(
                        "model", new JsonObject()
                                .put("type", model.type)
                                .put("name", model.name)
                                .put("layers", model.layers)
                                .put("heads", model.heads)
                                .put("kvHeads", model.kvHeads)
                                .put("headSize", model.headSize)
                                .put("fingerprint", model.fingerprint))
                .put("threshold", threshold)
                .put("layers", layerList)
                .put("texts", textList);
    }

    private static List<Double> rounded(List<Double> values) {
        return values.stream().map(value -> rounded(value)).toList();
    }

    private static double rounded(double value) {
        return Math.rint(value * 1e4) / 1e4;
    }

    /**
     * Tells models apart: a hash of what {@code config.json} says of the architecture, the same for all precisions and
     * spellings of a model's folder. Empty if the folder has no readable {@code config.json}.
     */
    public static Optional<String> fingerprint(Path directory) {
        try {
            JsonObject config = JsonObject.parse(Files.readString(directory.resolve("config.json")));
            StringBuilder identity = new StringBuilder();
            for (String name : IDENTITY) {
                if (config.has(name)) {
                    String value = name.equals("model_type") ? config.text(name).toLowerCase(Locale.ROOT)
                            : Double.toString(config.number(name));
                    identity.append(name).append('=').append(value).append('\n');
                }
            }
            byte[] hash = MessageDigest.getInstance("SHA-256")
                    .digest(identity.toString().getBytes(StandardCharsets.UTF_8));
            return Optional.of(HexFormat.of().formatHex(hash, 0, 8));
        } catch (IOException | JsonException e) {
            return Optional.empty();
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException(e);
        }
    }
}
