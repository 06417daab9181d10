package io.github.tailorkv.models;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.github.tjake.jlama.model.AbstractModel;
import com.github.tjake.jlama.model.ModelSupport;
import com.github.tjake.jlama.model.functions.Generator;
import com.github.tjake.jlama.safetensors.DType;
import com.github.tjake.jlama.safetensors.prompt.PromptContext;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.UUID;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;

/** Every random model does in stock Jlama what a real one does. */
class RandomModelsTest {
    private static final int TOKENS = 600;

    @TempDir
    Path folder;

    static List<Architecture> decoders() {
        return Architecture.decoders();
    }

    @ParameterizedTest
    @MethodSource("decoders")
    void prefillsAndDecodes(Architecture architecture) throws IOException {
        ModelSpec spec = ModelSpec.of(architecture);
        int[] tokens = RandomModels.tokens(spec, TOKENS, 1);
        try (AbstractModel model = load(spec)) {
            float[] batched;
            float[] chunked;
            try (JlamaSession session = JlamaSession.open(model)) {
                batched = session.prefill(tokens);
                assertTrue(size(session.decode(tokens[0])) > 0);
                assertEquals(TOKENS + 1, session.position());
            }
            try (JlamaSession session = JlamaSession.open(model)) {
                chunked = session.prefillInChunks(100, tokens);
            }
            double size = size(batched);
            assertTrue(size > 0.1 && size < 10, "hidden state of size " + size);
            // Jlama 0.8.4 gives the first expert's output of all rows to the first row of the batch.
            if (architecture != Architecture.MIXTRAL) {
                assertArrayEquals(batched, chunked, 1e-3f);
            }
        }
    }

    /** Were attention uniform, the far past would not show in the last hidden state. */
    @ParameterizedTest
    @MethodSource("decoders")
    void attendsToThePast(Architecture architecture) throws IOException {
        ModelSpec spec = ModelSpec.of(architecture);
        int[] tokens = RandomModels.tokens(spec, TOKENS, 1);
        int[] otherPast = tokens.clone();
        System.arraycopy(RandomModels.tokens(spec, TOKENS / 2, 2), 0, otherPast, 0, TOKENS / 2);
        try (AbstractModel model = load(spec);
                JlamaSession one = JlamaSession.open(model);
                JlamaSession other = JlamaSession.open(model)) {
            double change = distance(one.prefill(tokens), other.prefill(otherPast));
            assertTrue(change > 0.01, "changed by " + change);
        }
    }

    @ParameterizedTest
    @MethodSource("decoders")
    void generates(Architecture architecture) throws IOException {
        ModelSpec spec = ModelSpec.of(architecture);
        try (AbstractModel model = load(spec)) {
            String text = RandomModels.text(spec, 50, 3);
            assertEquals(50, model.getTokenizer().encode(text).length);
            assertEquals(text, " " + model.getTokenizer().decode(model.getTokenizer().encode(text)).strip());

            PromptContext prompt = model.promptSupport().orElseThrow().builder().addUserMessage(text).build();
            assertEquals(53, model.getTokenizer().encode(prompt.getPrompt()).length);
            Generator.Response response = model.generate(UUID.randomUUID(), prompt, 0, 80, (token, time) -> {});
            assertEquals(Generator.FinishReason.MAX_TOKENS, response.finishReason);
            assertTrue(response.generatedTokens > 20, "generated " + response.generatedTokens);
            assertTrue(response.responseText.chars().distinct().count() > 3, response.responseText);
        }
    }

    @Test
    void encoderEmbeds() throws IOException {
        ModelSpec spec = ModelSpec.builder(Architecture.BERT).context(512).build();
        RandomModels.write(spec, folder.resolve("model"));
        try (AbstractModel model = ModelSupport
                .loadEmbeddingModel(folder.resolve("model").toFile(), DType.F32, DType.F32)) {
            float[] one = model.embed(RandomModels.text(spec, 20, 1), Generator.PoolingType.MODEL);
            float[] other = model.embed(RandomModels.text(spec, 20, 2), Generator.PoolingType.MODEL);
            assertEquals(spec.hidden(), one.length);
            assertTrue(distance(one, other) > 0.01);
        }
    }

    @ParameterizedTest
    @EnumSource(WeightType.class)
    void isTheSameForTheSameSeed(WeightType type) throws IOException {
        ModelSpec.Builder spec = ModelSpec.builder(Architecture.LLAMA).type(type);
        byte[] one = weights(spec.build());
        assertArrayEquals(one, weights(spec.build()));
        int length = one.length;
        assertEquals(length, weights(spec.seed(43).build()).length);
        assertTrue(Arrays.mismatch(one, weights(spec.seed(43).build())) > 0);
    }

    @Test
    void bfloat16RoundsToNearest() throws IOException {
        ModelSpec spec = ModelSpec.builder(Architecture.LLAMA).type(WeightType.BF16).build();
        try (AbstractModel model = load(spec); JlamaSession session = JlamaSession.open(model)) {
            double size = size(session.prefill(RandomModels.tokens(spec, 20, 1)));
            assertTrue(size > 0.1 && size < 10, "hidden state of size " + size);
        }
    }

    @Test
    void headSizeMayDifferFromHiddenSizeWhereJlamaAllowsIt() throws IOException {
        for (Architecture architecture : List.of(Architecture.MISTRAL, Architecture.GEMMA2)) {
            ModelSpec spec = ModelSpec.builder(architecture).heads(8, 4).headSize(32).hidden(128).build();
            try (AbstractModel model = load(spec); JlamaSession session = JlamaSession.open(model)) {
                assertEquals(256, model.getConfig().attentionLength);
                assertTrue(size(session.prefill(RandomModels.tokens(spec, 20, 1))) > 0);
            }
        }
        assertThrows(IllegalArgumentException.class, () -> ModelSpec.builder(Architecture.LLAMA).hidden(128).build());
    }

    private byte[] weights(ModelSpec spec) throws IOException {
        return Files.readAllBytes(RandomModels.write(spec, folder.resolve("model")).resolve("model.safetensors"));
    }

    private AbstractModel load(ModelSpec spec) throws IOException {
        Path pages = Files.createDirectories(folder.resolve("pages"));
        return ModelSupport.loadModel(
                RandomModels.write(spec, folder.resolve("model")).toFile(),
                pages.toFile(),
                DType.F32,
                DType.I8,
                Optional.empty(),
                Optional.empty());
    }

    private static double size(float[] hidden) {
        return distance(hidden, new float[hidden.length]);
    }

    /** Root of the mean squared difference; NaN counts as infinitely far. */
    private static double distance(float[] one, float[] other) {
        double sum = 0;
        for (int i = 0; i < one.length; i++) {
            double difference = one[i] - other[i];
            sum += difference * difference;
        }
        return Double.isNaN(sum) ? Double.POSITIVE_INFINITY : Math.sqrt(sum / one.length);
    }
}
