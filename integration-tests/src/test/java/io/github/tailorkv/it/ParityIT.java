package io.github.tailorkv.it;

import static org.junit.jupiter.api.Assertions.assertTrue;

import com.github.tjake.jlama.model.AbstractModel;
import com.github.tjake.jlama.model.ModelSupport;
import com.github.tjake.jlama.safetensors.DType;
import io.github.tailorkv.TailorKv;
import io.github.tailorkv.models.Architecture;
import io.github.tailorkv.models.JlamaSession;
import io.github.tailorkv.models.ModelFolders;
import io.github.tailorkv.models.ModelSpec;
import io.github.tailorkv.models.RandomModels;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * With the exact policy a model computes what it computes in stock Jlama, whatever its architecture and however the prompt
 * is cut into batches.
 */
class ParityIT {
    private static final int POSITIONS = 3000;
    private static final int[] CHUNKS = {1, 7, 64, 256};

    @TempDir
    Path folder;

    private JlamaModels models;

    static List<Architecture> decoders() {
        return Architecture.decoders();
    }

    @BeforeEach
    void models() {
        models = new JlamaModels(folder);
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
        try (AbstractModel model = models.stock(spec)) {
            for (int chunk : chunked ? CHUNKS : new int[] {256}) {
                stock.put(chunk, run(model, chunk, tokens, answer));
            }
        }
        try (AbstractModel model = models.served(spec)) {
            for (int chunk : CHUNKS) {
                List<float[]> expected = Objects.requireNonNull(stock.get(chunked ? chunk : 256));
                List<float[]> ours = run(model, chunk, tokens, answer);
                double worst = 0;
                for (int i = 0; i < expected.size(); i++) {
                    JlamaModels.assertClose(expected.get(i), ours.get(i), "state " + i + " in chunks of " + chunk);
                    worst = Math.max(worst, JlamaModels.difference(expected.get(i), ours.get(i)));
                }
                System.out.printf("parity %s, chunks of %d: %.1e%n", architecture, chunk, worst);
            }
        }
    }

    /** A cache that wants rows in memory of its own gets all of them there, and every element of a row is written. */
    @ParameterizedTest
    @MethodSource("decoders")
    void hiddenStatesAreThoseOfStockWithRowsInLentMemory(Architecture architecture) throws IOException {
        ModelSpec spec = ModelSpec.builder(architecture).context(400).build();
        int[] tokens = RandomModels.tokens(spec, 300, 7);
        int[] answer = RandomModels.tokens(spec, 2, 8);
        List<float[]> stock;
        try (AbstractModel model = models.stock(spec)) {
            stock = run(model, 64, tokens, answer);
        }
        long before = PlainProvider.LENT.get();
        try (AbstractModel model = models.served(spec, Map.of("tailorkv.provider", PlainProvider.NAME))) {
            List<float[]> ours = run(model, 64, tokens, answer);
            for (int i = 0; i < stock.size(); i++) {
                JlamaModels.assertClose(stock.get(i), ours.get(i), "state " + i);
            }
        }
        assertTrue(PlainProvider.LENT.get() > before);
    }

    /**
     * As applications load models by default: 4-bit weights, activations quantized to 8 bits. A rounding that falls the
     * other way is a whole step of the 8 bits, so the tolerance is wider.
     */
    @Test
    void quantizedWeightsGiveWhatTheyGiveInStock() throws IOException {
        ModelSpec spec = ModelSpec.builder(Architecture.LLAMA).heads(8, 4).headSize(64).build();
        Path quantized = new ModelFolders(folder).quantized(spec);
        int[] tokens = RandomModels.tokens(spec, 700, 7);
        float[] stock;
        try (AbstractModel model = ModelSupport.loadModel(quantized.toFile(), DType.F32, DType.I8);
                JlamaSession session = JlamaSession.open(model)) {
            stock = session.prefill(tokens);
        }
        System.setProperty("tailorkv.policy", "exact");
        try (AbstractModel model = TailorKv.install(ModelSupport.loadModel(quantized.toFile(), DType.F32, DType.I8));
                JlamaSession session = JlamaSession.open(model)) {
            double difference = JlamaModels.difference(stock, session.prefill(tokens));
            assertTrue(difference < 0.02, "differs by " + difference);
        } finally {
            System.clearProperty("tailorkv.policy");
        }
    }

    /** The hidden states after a quarter of the prompt, after all of it, and after each token of the answer. */
    private static List<float[]> run(AbstractModel model, int chunk, int[] tokens, int[] answer) {
        try (JlamaSession session = JlamaSession.open(model)) {
            int quarter = tokens.length / 4;
            List<float[]> states = new ArrayList<>();
            states.add(session.prefillInChunks(chunk, Arrays.copyOf(tokens, quarter)));
            states.add(session.prefillInChunks(chunk, Arrays.copyOfRange(tokens, quarter, tokens.length)));
            for (int token : answer) {
                states.add(session.decode(token));
            }
            return states;
        }
    }
}
