package io.github.tailorkv.jlama;

import com.github.tjake.jlama.model.AbstractModel;
import com.github.tjake.jlama.model.ModelSupport;
import com.github.tjake.jlama.model.ModelSupport.ModelType;
import com.github.tjake.jlama.model.TransformerBlock;
import com.github.tjake.jlama.safetensors.DType;
import com.github.tjake.jlama.safetensors.prompt.PromptContext;
import com.github.tjake.jlama.safetensors.prompt.PromptSupport;
import com.github.tjake.jlama.safetensors.tokenizer.Tokenizer;
import io.github.tailorkv.config.Settings;
import io.github.tailorkv.json.JsonException;
import io.github.tailorkv.json.JsonObject;
import io.github.tailorkv.spi.KvCacheProvider;
import io.github.tailorkv.spi.ModelCache;
import io.github.tailorkv.spi.ModelShape;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Locale;
import java.util.Optional;

/**
 * A model that the command-line tools run: one load of the weights, and any number of caches under different settings side
 * by side, each with sessions of its own. The attention looks for its cache in the session that it is given, so nothing
 * else has to be switched from one to the other.
 */
public final class LoadedModel implements AutoCloseable {
    private final AbstractModel model;
    private final ModelShape shape;
    private final KvCacheProvider hybrid;

    private LoadedModel(AbstractModel model, ModelShape shape, KvCacheProvider hybrid) {
        this.model = model;
        this.shape = shape;
        this.hybrid = hybrid;
    }

    /**
     * Loads a model folder as Hugging Face lays it out, with Jlama's default precisions.
     *
     * @throws IOException if the folder holds no model that can be run; the message is one line for the user
     */
    public static LoadedModel load(Path directory) throws IOException {
        ModelType type = type(directory);
        if (!Files.exists(directory.resolve("tokenizer.json"))) {
            throw new IOException(directory + " holds no tokenizer.json");
        }
        AbstractModel model;
        try {
            model = ModelSupport.loadModel(directory.toFile(), DType.F32, DType.I8);
        } catch (RuntimeException e) {
            Throwable cause = e;
            while (cause.getCause() != null) {
                cause = cause.getCause();
            }
            throw new IOException("Jlama cannot load the " + type + " model in " + directory + ": "
                    + String.valueOf(cause.getMessage()).lines().findFirst().orElse("") + " ("
                    + cause.getClass().getSimpleName() + ")", e);
        }
        boolean done = false;
        try {
            LoadedModel loaded = install(model, directory);
            done = true;
            return loaded;
        } finally {
            if (!done) {
                model.close();
            }
        }
    }

    private static ModelType type(Path directory) throws IOException {
        Path file = directory.resolve("config.json");
        if (!Files.isDirectory(directory)) {
            throw new IOException(directory + " is not a folder");
        }
        if (!Files.exists(file)) {
            throw new IOException(directory + " holds no config.json: it is not a model folder");
        }
        String name;
        try {
            name = JsonObject.parse(Files.readString(file)).text("model_type");
        } catch (JsonException e) {
            throw new IOException(file + " is no model's configuration: " + e.getMessage(), e);
        }
        for (ModelType type : ModelType.values()) {
            if (type.name().equals(name.toUpperCase(Locale.ROOT))) {
                if (type == ModelType.BERT) {
                    throw new IOException("the model in " + directory + " is a BERT: no decoder, so no KV cache");
                }
                return type;
            }
        }
        throw new IOException("the model in " + directory + " has the architecture " + name + "; Jlama "
                + JlamaSymbols.BUILT_FOR + " knows " + String.join(
                        ", ", Arrays.stream(ModelType.values()).map(type -> type.name().toLowerCase(Locale.ROOT))
                                .toList()));
    }

    private static LoadedModel install(AbstractModel model, Path directory) throws IOException {
        JlamaSymbols symbols;
        try {
            symbols = JlamaSymbols.resolve();
        } catch (JlamaSymbols.MismatchException e) {
            throw new IOException("TailorKV was built for Jlama " + JlamaSymbols.BUILT_FOR + ", and this one lacks "
                    + e.getMessage(), e);
        }
        TransformerBlock[] blocks = symbols.blocks(model);
        if (blocks == null || symbols.bufferCache(model) instanceof TailorKvBufferCache) {
            throw new IOException("TailorKV is switched on in this JVM already; run the tool without its agent");
        }
        Optional<String> obstacle = Installer.obstacle(model);
        KvCacheProvider hybrid = Providers.named("hybrid");
        ModelShape shape = Installer.shape(model, blocks.length, Optional.of(directory.toFile()));
        obstacle = obstacle.or(() -> hybrid.unsupported(shape));
        if (obstacle.isPresent()) {
            throw new IOException("TailorKV cannot serve the model in " + directory + ": " + obstacle.get());
        }
        try {
            Replacement.put(model, symbols, blocks, hybrid, shape, Settings.preset("exact"));
        } catch (IllegalStateException e) {
            throw new IOException("TailorKV cannot serve the model in " + directory + ": " + e.getMessage(), e);
        }
        return new LoadedModel(model, shape, hybrid);
    }

    /** Geometry of the model. */
    public ModelShape shape() {
        return shape;
    }

    /** Number of tokens in the vocabulary. */
    public int vocabulary() {
        return model.getConfig().vocabularySize;
    }

    /** The provider of this project. */
    public KvCacheProvider hybrid() {
        return hybrid;
    }

    /**
     * Opens a cache under given settings, of the provider that they name.
     *
     * @throws io.github.tailorkv.config.SettingsException if the settings do not fit the model
     */
    public CacheVariant variant(Settings settings) {
        return variant(settings, Providers.named(settings.provider()));
    }

    /**
     * Opens a cache of any provider.
     *
     * @throws io.github.tailorkv.config.SettingsException if the settings do not fit the model
     */
    public CacheVariant variant(Settings settings, KvCacheProvider provider) {
        KvCacheProvider recordable = new RecordableProvider(provider);
        ModelCache cache = recordable.open(shape, settings);
        return new CacheVariant(
                model, new TailorKvBufferCache(model, recordable, cache, shape, settings), cache.backend());
    }

    // ---- text ------------------------------------------------------------------------------------------------------

    /** Tokens of a text, without a mark of its beginning. */
    public int[] encode(String text) {
        return Arrays.stream(model.getTokenizer().encode(text)).mapToInt(Math::toIntExact).toArray();
    }

    /** A text as the beginning of a document, without a chat template. */
    public int[] document(String text) {
        return model.encodePrompt(PromptContext.of(text));
    }

    /** What the user says, in the model's chat template if it has one, ready for the model to answer. */
    public int[] prompt(String message) {
        Optional<PromptSupport> template = model.promptSupport();
        return model.encodePrompt(
                template.isPresent()
                        ? template.get().builder().addUserMessage(message).build()
                        : PromptContext.of(message));
    }

    /** The text of tokens, without those that only mark something. */
    public String decode(int... tokens) {
        Tokenizer tokenizer = model.getTokenizer();
        StringBuilder text = new StringBuilder();
        for (int token : tokens) {
            if (!tokenizer.getModel().isSpecialToken(token)) {
                text.append(tokenizer.decode(token));
            }
        }
        return text.toString();
    }

    /** Whether a token ends an answer. */
    public boolean isEnd(int token) {
        return model.getConfig().eosTokens.contains(token);
    }

    @Override
    public void close() {
        model.close();
    }
}
