package io.github.tailorkv.it;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.github.tjake.jlama.model.AbstractModel;
import com.github.tjake.jlama.model.ModelSupport;
import com.github.tjake.jlama.safetensors.DType;
import io.github.tailorkv.TailorKv;
import io.github.tailorkv.models.Architecture;
import io.github.tailorkv.models.JlamaSession;
import io.github.tailorkv.models.ModelSpec;
import io.github.tailorkv.models.RandomModels;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * With the exact policy a model computes what it computes in stock Jlama, whatever its architecture and however the prompt
 * is cut into batches.
 *
 * <p>Equal to the last bit it cannot be: sums run in another order, and Jlama rotates head h of position p by the angles
 * of position p + 2h, which float arithmetic rounds differently (an angle of several thousand radians has three digits
 * after the point). The tolerance is relative to the size of the hidden state.
 */
class ParityIT {
    private static final int POSITIONS = 3000;

    private static final int[] CHUNKS = {1, 7, 64, 256};

    private static final double TOLERANCE = 2e-3;

    @TempDir
    Path folder;

    static List<Architecture> decoders() {
        return Architecture.decoders();
    }

    @AfterEach
    void clearProperties() {
        System.clearProperty("tailorkv.policy");
        System.clearProperty("tailorkv.provider");
    }

    @ParameterizedTest
    @MethodSource("decoders")
    void hiddenStatesAreThoseOfStock(Architecture architecture) throws IOException {
        // Jlama's mixture of experts mixes up the rows of a batch: its stock results depend on the chunk.
        boolean chunked = architecture == Architecture.MIXTRAL;
        ModelSpec spec = ModelSpec.builder(architecture).context(POSITIONS + 64).build();
        int[] tokens = RandomModels.tokens(spec, chunked ? POSITIONS / 3 : POSITIONS, 7);
        int[] answer = RandomModels.tokens(spec, 8, 8);
        Map<Integer, List<float[]>> stock = new HashMap<>();
        try (AbstractModel model = load(spec)) {
            for (int chunk : chunked ? CHUNKS : new int[] {256}) {
                stock.put(chunk, run(model, chunk, tokens, answer));
            }
        }
        System.setProperty("tailorkv.policy", "exact");
        System.setProperty("tailorkv.provider", System.getProperty("parity.provider", "hybrid"));
        try (AbstractModel model = TailorKv.install(load(spec))) {
            for (int chunk : CHUNKS) {
                List<float[]> expected = Objects.requireNonNull(stock.get(chunked ? chunk : 256));
                List<float[]> ours = run(model, chunk, tokens, answer);
                for (int i = 0; i < expected.size(); i++) {
                    assertClose(expected.get(i), ours.get(i), "state " + i + " in chunks of " + chunk);
                }
            }
        }
    }

    /** The hidden states after a quarter of the prompt, after all of it, and after each token of the answer. */
    private static List<float[]> run(AbstractModel model, int chunk, int[] tokens, int[] answer) {
        try (JlamaSession session = JlamaSession.open(model)) {
            int quarter = tokens.length / 4;
            float[] early = session.prefillInChunks(chunk, Arrays.copyOf(tokens, quarter));
            float[] late = session.prefillInChunks(chunk, Arrays.copyOfRange(tokens, quarter, tokens.length));
            return Stream.concat(Stream.of(early, late), Arrays.stream(answer).mapToObj(session::decode)).toList();
        }
    }

    private AbstractModel load(ModelSpec spec) throws IOException {
        Path pages = Files.createTempDirectory(folder, "pages");
        Path model = RandomModels.write(spec, folder.resolve("model"));
        return ModelSupport.loadModel(
                model.toFile(), pages.toFile(), DType.F32, DType.F32, java.util.Optional.empty(),
                java.util.Optional.empty());
    }

    static void assertClose(float[] expected, float[] actual, String what) {
        assertEquals(expected.length, actual.length);
        double size = 0;
        double error = 0;
        for (int i = 0; i < expected.length; i++) {
            size += expected[i] * expected[i];
            error += (expected[i] - actual[i]) * (expected[i] - actual[i]);
        }
        double relative = Math.sqrt(error / size);
        assertTrue(relative <= TOLERANCE, () -> what + " differs by " + relative + " of its size");
    }
}
