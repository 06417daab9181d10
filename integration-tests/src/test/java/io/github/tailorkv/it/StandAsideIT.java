package io.github.tailorkv.it;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.github.tjake.jlama.model.AbstractModel;
import com.github.tjake.jlama.model.ModelSupport;
import com.github.tjake.jlama.model.functions.Generator;
import com.github.tjake.jlama.safetensors.DType;
import com.github.tjake.jlama.tensor.KvBufferCache;
import io.github.tailorkv.TailorKv;
import io.github.tailorkv.config.Settings;
import io.github.tailorkv.config.SettingsException;
import io.github.tailorkv.models.Architecture;
import io.github.tailorkv.models.JlamaSession;
import io.github.tailorkv.models.ModelSpec;
import io.github.tailorkv.models.RandomModels;
import io.github.tailorkv.spi.KvCacheProvider;
import io.github.tailorkv.spi.ModelCache;
import io.github.tailorkv.spi.ModelShape;
import java.io.IOException;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.logging.Handler;
import java.util.logging.LogRecord;
import java.util.logging.Logger;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** A model that cannot be served runs as it would without us, nothing of it changed, and one line says why. */
class StandAsideIT {
    @TempDir
    Path folder;

    private final Logger logger = Logger.getLogger("io.github.tailorkv");
    private final List<String> lines = new ArrayList<>();
    private final Handler recorder = new Handler() {
        @Override
        public void publish(LogRecord line) {
            lines.add(line.getLevel() + " " + line.getMessage());
        }

        @Override
        public void flush() {}

        @Override
        public void close() {}
    };
    private final ClassLoader before = Thread.currentThread().getContextClassLoader();

    /** Serves no model. */
    public static final class Picky implements KvCacheProvider {
        @Override
        public String name() {
            return "picky";
        }

        @Override
        public Optional<String> unsupported(ModelShape shape) {
            return Optional.of("it likes none");
        }

        @Override
        public ModelCache open(ModelShape shape, Settings settings) {
            throw new UnsupportedOperationException();
        }
    }

    /** Fails to open. */
    public static final class Failing implements KvCacheProvider {
        @Override
        public String name() {
            return "failing";
        }

        @Override
        public Optional<String> unsupported(ModelShape shape) {
            return Optional.empty();
        }

        @Override
        public ModelCache open(ModelShape shape, Settings settings) {
            throw new IllegalStateException("no luck today");
        }
    }

    /** Computes the attention of another geometry. */
    public static final class Wrong implements KvCacheProvider {
        @Override
        public String name() {
            return "wrong";
        }

        @Override
        public Optional<String> unsupported(ModelShape shape) {
            return Optional.empty();
        }

        @Override
        public ModelCache open(ModelShape shape, Settings settings) {
            var right = shape.attention();
            var wrong = new io.github.tailorkv.kernels.AttentionShape(
                    right.heads(), right.kvHeads(), right.headSize(), 3 * right.scale(), 0);
            return new PlainProvider().open(
                    new ModelShape(
                            shape.name(), shape.layers(), wrong, shape.contextLength(), false, 1, Optional.empty()),
                    settings);
        }
    }

    @BeforeEach
    void recordAndRegister() throws IOException {
        logger.addHandler(recorder);
        Path services = Files.createDirectories(folder.resolve("META-INF/services"));
        Files.write(
                services.resolve(KvCacheProvider.class.getName()),
                List.of(Picky.class.getName(), Failing.class.getName(), Wrong.class.getName()));
        Thread.currentThread().setContextClassLoader(new URLClassLoader(new URL[] {folder.toUri().toURL()}, before));
    }

    @AfterEach
    void restore() throws IOException {
        logger.removeHandler(recorder);
        ((URLClassLoader) Thread.currentThread().getContextClassLoader()).close();
        Thread.currentThread().setContextClassLoader(before);
    }

    private static void assertStock(AbstractModel model) {
        try (JlamaSession session = JlamaSession.open(model)) {
            assertSame(KvBufferCache.KvBuffer.class, session.buffer().getClass());
            assertTrue(session.prefill(5, 6, 7).length > 0);
            assertEquals(0, session.buffer().getCurrentContextPosition(), "B1");
        }
    }

    @ParameterizedTest
    @CsvSource({"picky, picky: it likes none", "failing, no luck today",
        "wrong, the self-test of provider wrong failed"})
    void providerThatCannotServeLeavesTheModelStock(String provider, String reason) throws IOException {
        JlamaModels models = new JlamaModels(folder);
        ModelSpec spec = ModelSpec.of(Architecture.GEMMA2);
        try (AbstractModel model = models.served(spec, Map.of("tailorkv.provider", provider))) {
            assertEquals(1, lines.size(), lines::toString);
            assertTrue(lines.getFirst().startsWith("WARNING TailorKV stands aside from this GEMMA2 model"),
                    lines::toString);
            assertTrue(lines.getFirst().contains(reason), lines::toString);
            assertStock(model);
        }
    }

    @ParameterizedTest
    @CsvSource({"tailorkv.provider, hybird", "tailorkv.bits, 3", "tailorkv.backend, gpu", "tailorkv.policy, 0:exact",
        "tailorkv.polciy, exact"})
    void wrongSettingIsAnErrorAndTheModelStaysStock(String property, String value) throws IOException {
        AbstractModel model = new JlamaModels(folder).stock(ModelSpec.of(Architecture.LLAMA));
        System.setProperty(property, value);
        try {
            var e = assertThrows(SettingsException.class, () -> TailorKv.install(model));
            assertTrue(e.toString().contains(property), e.toString());
            assertStock(model);
        } finally {
            System.clearProperty(property);
            model.close();
        }
    }

    @Test
    void secondInstallationDoesNothing() throws IOException {
        // With the backend auto a further line says which GPU is used, or why none is.
        try (AbstractModel model = new JlamaModels(folder)
                .served(ModelSpec.of(Architecture.LLAMA), Map.of("tailorkv.backend", "panama"))) {
            assertEquals(1, lines.size(), lines::toString);
            assertTrue(lines.getFirst()
                    .startsWith("INFO TailorKV serves this LLAMA model (2 layers, 4 query and 2 KV heads"));
            assertSame(model, TailorKv.install(model));
            assertEquals(1, lines.size(), lines::toString);
        }
    }

    @Test
    void encoderStaysStockWithoutAWord() throws IOException {
        ModelSpec spec = ModelSpec.builder(Architecture.BERT).context(512).build();
        RandomModels.write(spec, folder.resolve("bert"));
        try (AbstractModel model = ModelSupport
                .loadEmbeddingModel(folder.resolve("bert").toFile(), DType.F32, DType.F32)) {
            float[] expected = model.embed(RandomModels.text(spec, 20, 1), Generator.PoolingType.MODEL);
            TailorKv.install(model);
            assertEquals(List.of(), lines);
            JlamaModels.assertClose(
                    expected, model.embed(RandomModels.text(spec, 20, 1), Generator.PoolingType.MODEL), "embedding");
        }
    }

    /** Its layers and its output are other processes' work. */
    @Test
    void coordinatorWithoutLayersStaysStockWithoutAWord() throws IOException {
        Path model = RandomModels.write(ModelSpec.of(Architecture.LLAMA), folder.resolve("model"));
        try (AbstractModel coordinator = ModelSupport.loadModel(
                AbstractModel.InferenceType.INPUT_TO_EMBEDDING, model.toFile(), folder.toFile(), DType.F32, DType.F32,
                Optional.empty(), Optional.empty(), Optional.empty(),
                com.github.tjake.jlama.safetensors.SafeTensorSupport::loadWeights)) {
            TailorKv.install(coordinator);
            assertEquals(List.of(), lines);
        }
    }

    @Test
    void decoderEmbedsAsStock() throws IOException {
        JlamaModels models = new JlamaModels(folder);
        ModelSpec spec = ModelSpec.of(Architecture.LLAMA);
        String text = RandomModels.text(spec, 200, 1);
        float[] expected;
        try (AbstractModel model = models.stock(spec)) {
            expected = model.embed(text, Generator.PoolingType.AVG);
        }
        try (AbstractModel model = models.served(spec)) {
            JlamaModels.assertClose(expected, model.embed(text, Generator.PoolingType.AVG), "embedding");
            assertFalse(lines.isEmpty());
        }
    }
}
