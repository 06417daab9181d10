package io.github.tailorkv.it;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.github.tjake.jlama.model.AbstractModel;
import com.github.tjake.jlama.model.functions.Generator;
import com.github.tjake.jlama.safetensors.prompt.PromptContext;
import io.github.tailorkv.models.Architecture;
import io.github.tailorkv.models.JlamaSession;
import io.github.tailorkv.models.ModelSpec;
import io.github.tailorkv.models.RandomModels;
import java.io.IOException;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Map;
import java.util.UUID;
import java.util.stream.IntStream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * The faults of Jlama's own cache and attention that a served model does not have, by the numbers that the README gives
 * them. Where it is cheap, the fault itself is shown too: when a release of Jlama mends it, the test says so.
 */
class FaultsIT {
    @TempDir
    Path folder;

    private final UUID id = UUID.randomUUID();
    private JlamaModels models;

    @BeforeEach
    void models() {
        models = new JlamaModels(folder);
    }

    private static int[] concat(int[]... parts) {
        return Arrays.stream(parts).flatMapToInt(IntStream::of).toArray();
    }

    /** The hidden state after all of it in one turn of a fresh session. */
    private static float[] inOneTurn(AbstractModel model, int[]... tokens) {
        try (JlamaSession session = JlamaSession.open(model)) {
            return session.prefill(concat(tokens));
        }
    }

    /** The hidden state after a further turn, from the position that the session gives. */
    private static float[] nextTurn(AbstractModel model, UUID id, int... tokens) {
        try (JlamaSession session = JlamaSession.open(model, id)) {
            session.position(session.buffer().getCurrentContextPosition());
            return session.prefill(tokens);
        }
    }

    private static int position(AbstractModel model, UUID id) {
        try (JlamaSession session = JlamaSession.open(model, id)) {
            return session.buffer().getCurrentContextPosition();
        }
    }

    @Test
    void b1PositionCountsPromptAndAnswer() throws IOException {
        ModelSpec spec = ModelSpec.builder(Architecture.LLAMA).context(200).build();
        try (AbstractModel model = models.served(spec)) {
            String text = RandomModels.text(spec, 50, 1);
            PromptContext prompt = model.promptSupport().orElseThrow().builder().addUserMessage(text).build();
            Generator.Response first = model.generate(id, prompt, 0, 90, (token, time) -> {});
            int begin = 1;
            assertEquals(begin + first.promptTokens + first.generatedTokens, position(model, id));
            assertEquals(90, position(model, id));
            model.generate(id, prompt, 0, 170, (token, time) -> {});
            assertEquals(170, position(model, id));
        }
        try (AbstractModel model = models.stock(spec)) {
            String text = RandomModels.text(spec, 50, 1);
            PromptContext prompt = model.promptSupport().orElseThrow().builder().addUserMessage(text).build();
            Generator.Response first = model.generate(id, prompt, 0, 90, (token, time) -> {});
            assertEquals(first.generatedTokens, position(model, id), "stock counts the answer only");
        }
    }

    @Test
    void b1SecondTurnContinuesAfterTheFirst() throws IOException {
        ModelSpec spec = ModelSpec.of(Architecture.LLAMA);
        int[] one = RandomModels.tokens(spec, 300, 1);
        int[] two = RandomModels.tokens(spec, 70, 2);
        int[] three = RandomModels.tokens(spec, 1, 3);
        try (AbstractModel model = models.served(spec)) {
            nextTurn(model, id, one);
            JlamaModels.assertClose(inOneTurn(model, one, two), nextTurn(model, id, two), "turn two");
            JlamaModels.assertClose(inOneTurn(model, one, two, three), nextTurn(model, id, three), "turn three");
            assertEquals(371, position(model, id));
        }
    }

    /** The buffer is closed at the end of the turn that {@code generate} makes. What it held must be there afterwards. */
    @Test
    void b2ClosingATurnLosesNothing() throws IOException {
        ModelSpec spec = ModelSpec.of(Architecture.QWEN2);
        int[] one = RandomModels.tokens(spec, 100, 1);
        int[] two = RandomModels.tokens(spec, 20, 2);
        try (AbstractModel model = models.served(spec)) {
            JlamaSession session = JlamaSession.open(model, id);
            session.prefill(one);
            session.close();
            session.close();
            nextTurn(model, UUID.randomUUID(), two);
            JlamaModels.assertClose(inOneTurn(model, one, two), nextTurn(model, id, two), "turn two");
        }
    }

    /** Jlama's pages hold 1,024 tokens of this model. */
    private static ModelSpec ofSeveralPages() {
        return ModelSpec.builder(Architecture.LLAMA).heads(8, 8).headSize(64).feedForward(64).context(2048).build();
    }

    @Test
    void b3ResumedSessionReadsItsOwnPages() throws IOException {
        ModelSpec spec = ofSeveralPages();
        int[] one = RandomModels.tokens(spec, 1200, 1);
        int[] two = RandomModels.tokens(spec, 30, 2);
        float[] expected;
        try (AbstractModel model = models.served(spec)) {
            expected = inOneTurn(model, one, two);
            nextTurn(model, id, one);
            JlamaModels.assertClose(expected, nextTurn(model, id, two), "turn two");
        }
        assertEquals(0, models.pageFiles());
        try (AbstractModel model = models.stock(spec)) {
            JlamaModels.assertClose(inOneTurn(model, one, two), expected, "stock in one turn");
            try (JlamaSession session = JlamaSession.open(model, id)) {
                session.prefill(one);
            }
            try (JlamaSession session = JlamaSession.open(model, id)) {
                session.position(one.length);
                double difference = JlamaModels.difference(expected, session.prefill(two));
                assertTrue(difference > JlamaModels.TOLERANCE, "stock reads other pages than it wrote");
            }
        }
    }

    @Test
    void b4LastPositionsOfTheContextWork() throws IOException {
        ModelSpec.Builder spec = ModelSpec.builder(Architecture.LLAMA).heads(8, 4);
        ModelSpec exactFit = spec.context(128).build();
        int[] tokens = RandomModels.tokens(exactFit, 128, 1);
        float[] expected;
        try (AbstractModel model = models.stock(spec.context(256).build())) {
            expected = inOneTurn(model, tokens);
        }
        try (AbstractModel model = models.stock(exactFit)) {
            assertThrows(Exception.class, () -> inOneTurn(model, tokens), "stock reads past its table");
        }
        try (AbstractModel model = models.served(exactFit)) {
            JlamaModels.assertClose(expected, inOneTurn(model, tokens), "the last position");
            nextTurn(model, id, tokens);
            var e = assertThrows(IllegalArgumentException.class, () -> nextTurn(model, id, 5));
            assertTrue(e.toString().contains("128"), e.toString());
            assertEquals(128, position(model, id));
        }
    }

    /**
     * A model computes the same when its heads change places, if it computes all of them. This one has eight, of which its
     * hidden length has room for four.
     */
    @Test
    void b5AllHeadsAreComputed() throws IOException {
        ModelSpec spec = ModelSpec.builder(Architecture.GEMMA2).hidden(64).heads(8, 4).headSize(16).build();
        int[] tokens = RandomModels.tokens(spec, 100, 1);
        JlamaModels reversed = models.weights(loader -> new ReversedHeads(loader, spec));
        try (AbstractModel model = models.served(spec); AbstractModel other = reversed.served(spec)) {
            JlamaModels.assertClose(inOneTurn(model, tokens), inOneTurn(other, tokens), "with the heads reversed");
        }
        try (AbstractModel model = models.stock(spec); AbstractModel other = reversed.stock(spec)) {
            double difference = JlamaModels.difference(inOneTurn(model, tokens), inOneTurn(other, tokens));
            assertTrue(difference > 0.01, "stock leaves heads out");
        }
    }

    /** 48 and 80 channels are no whole number of the widest vectors' powers of two. */
    @ParameterizedTest
    @ValueSource(ints = {48, 80, 112})
    void b7NoColumnIsDropped(int headSize) throws IOException {
        ModelSpec spec = ModelSpec.builder(Architecture.LLAMA).headSize(headSize).build();
        int[] tokens = RandomModels.tokens(spec, 100, 1);
        float[] expected;
        try (AbstractModel model = models.stock(spec)) {
            expected = inOneTurn(model, tokens);
        }
        for (String backend : new String[] {"scalar", "auto"}) {
            try (AbstractModel model = models.served(spec, Map.of("tailorkv.backend", backend))) {
                JlamaModels.assertClose(expected, inOneTurn(model, tokens), backend);
            }
        }
    }

    @Test
    void b8ScalarKernelsServeSeveralPages() throws IOException {
        ModelSpec spec = ofSeveralPages();
        int[] tokens = RandomModels.tokens(spec, 1200, 1);
        float[] expected;
        try (AbstractModel model = models.stock(spec)) {
            expected = inOneTurn(model, tokens);
        }
        try (AbstractModel model = models.served(spec, Map.of("tailorkv.backend", "scalar"))) {
            JlamaModels.assertClose(expected, inOneTurn(model, tokens), "the scalar kernels");
        }
    }

    /** With GPT-2 the embedding has no room for it either. */
    @ParameterizedTest
    @EnumSource(names = {"LLAMA", "GPT2"})
    void promptBeyondTheContextLeavesTheSessionAsItWas(Architecture architecture) throws IOException {
        ModelSpec spec = ModelSpec.builder(architecture).context(512).build();
        int[] one = RandomModels.tokens(spec, 100, 1);
        int[] tooLong = RandomModels.tokens(spec, 413, 2);
        int[] two = RandomModels.tokens(spec, 20, 3);
        try (AbstractModel model = models.served(spec)) {
            nextTurn(model, id, one);
            var e = assertThrows(IllegalArgumentException.class, () -> nextTurn(model, id, tooLong));
            assertTrue(e.toString().contains("holds 100 tokens, and 413 or more"), e.toString());
            assertTrue(e.toString().contains("context of 512"), e.toString());
            assertEquals(100, position(model, id));
            JlamaModels.assertClose(inOneTurn(model, one, two), nextTurn(model, id, two), "the next turn");
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"LLAMA", "GPT2"})
    void promptBeyondTheContextFailsNoOtherTurnOfItsThread(Architecture architecture) throws IOException {
        ModelSpec spec = ModelSpec.builder(architecture).context(512).build();
        int[] one = RandomModels.tokens(spec, 100, 1);
        int[] two = RandomModels.tokens(spec, 60, 2);
        int[] tooLong = RandomModels.tokens(spec, 413, 3);
        UUID other = UUID.randomUUID();
        try (AbstractModel model = models.served(spec)) {
            for (UUID refused : new UUID[] {id, other}) {
                try (JlamaSession first = JlamaSession.open(model, id);
                        JlamaSession second = JlamaSession.open(model, other)) {
                    first.position(first.buffer().getCurrentContextPosition());
                    second.position(second.buffer().getCurrentContextPosition());
                    first.prefill(one);
                    second.prefill(two);
                    JlamaSession session = refused.equals(id) ? first : second;
                    assertThrows(IllegalArgumentException.class, () -> session.prefill(tooLong));
                }
                assertEquals(refused.equals(id) ? 0 : 100, position(model, id));
                assertEquals(60, position(model, other));
            }
        }
    }

    /** An application that lets the user edit the last question. */
    @Test
    void sessionCanBeTakenBack() throws IOException {
        ModelSpec spec = ModelSpec.of(Architecture.GRANITE);
        int[] one = RandomModels.tokens(spec, 90, 1);
        int[] dropped = RandomModels.tokens(spec, 50, 2);
        int[] two = RandomModels.tokens(spec, 20, 3);
        try (AbstractModel model = models.served(spec)) {
            nextTurn(model, id, concat(one, dropped));
            try (JlamaSession session = JlamaSession.open(model, id)) {
                session.position(one.length);
                JlamaModels.assertClose(inOneTurn(model, one, two), session.prefill(two), "after going back");
            }
            assertEquals(110, position(model, id));
        }
    }

    @Test
    void jlamasTableOfAnglesIsReleased() throws IOException {
        try (AbstractModel model = models.served(ModelSpec.of(Architecture.LLAMA))) {
            for (Object row : model.getConfig().ropeFreqs.orElseThrow()) {
                assertEquals(null, row);
            }
        }
    }
}
