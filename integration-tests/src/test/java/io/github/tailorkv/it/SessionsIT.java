package io.github.tailorkv.it;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.github.tjake.jlama.model.AbstractModel;
import com.github.tjake.jlama.model.functions.Generator;
import io.github.tailorkv.models.Architecture;
import io.github.tailorkv.models.JlamaSession;
import io.github.tailorkv.models.ModelSpec;
import io.github.tailorkv.models.RandomModels;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.UUID;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Many sessions: at once, one after another, and what they leave. */
class SessionsIT {
    @TempDir
    Path folder;

    /** The hidden states after each of a few turns. */
    private static List<float[]> conversation(AbstractModel model, UUID id, ModelSpec spec, int seed) {
        List<float[]> states = new ArrayList<>();
        for (int turn = 0; turn < 3; turn++) {
            try (JlamaSession session = JlamaSession.open(model, id)) {
                session.position(session.buffer().getCurrentContextPosition());
                states.add(session.prefill(RandomModels.tokens(spec, 60 + 17 * seed, 10L * seed + turn)));
                for (int token : RandomModels.tokens(spec, 10, seed)) {
                    states.add(session.decode(token));
                }
            }
        }
        return states;
    }

    @ParameterizedTest
    @EnumSource(names = {"LLAMA", "MIXTRAL", "GPT2"})
    @Timeout(300)
    void sessionsOnSeveralThreadsDoNotDisturbEachOther(Architecture architecture) throws Exception {
        ModelSpec spec = ModelSpec.of(architecture);
        int sessions = 6;
        try (AbstractModel model = new JlamaModels(folder).served(spec)) {
            List<List<float[]>> expected = new ArrayList<>();
            for (int i = 0; i < sessions; i++) {
                expected.add(conversation(model, UUID.randomUUID(), spec, i));
            }
            List<Future<List<float[]>>> actual = new ArrayList<>();
            CountDownLatch start = new CountDownLatch(1);
            try (ExecutorService threads = Executors.newFixedThreadPool(sessions)) {
                for (int i = 0; i < sessions; i++) {
                    int seed = i;
                    actual.add(threads.submit(() -> {
                        start.await();
                        return conversation(model, UUID.randomUUID(), spec, seed);
                    }));
                }
                start.countDown();
                for (int i = 0; i < sessions; i++) {
                    for (int state = 0; state < expected.get(i).size(); state++) {
                        JlamaModels.assertClose(
                                expected.get(i).get(state), actual.get(i).get().get(state),
                                "state " + state + " of session " + i);
                    }
                }
            }
        }
    }

    @Test
    @Timeout(120)
    void oneSessionOnTwoThreadsIsRefused() throws Exception {
        ModelSpec spec = ModelSpec.of(Architecture.LLAMA);
        UUID id = UUID.randomUUID();
        try (AbstractModel model = new JlamaModels(folder).served(spec);
                ExecutorService thread = Executors.newSingleThreadExecutor()) {
            var prompt = model.promptSupport().orElseThrow().builder().addUserMessage("w").build();
            List<String> refusals = new ArrayList<>();
            Generator.Response response = model.generate(id, prompt, 0, 20, (token, time) -> {
                try {
                    refusals.add(thread.submit(() -> assertThrows(
                            IllegalStateException.class, () -> model.generate(id, prompt, 0, 20, (t, ms) -> {})))
                            .get()
                            .toString());
                } catch (Exception e) {
                    refusals.add("not refused: " + e);
                }
            });
            assertTrue(response.generatedTokens > 5);
            assertTrue(refusals.size() > 5);
            refusals.forEach(refusal -> assertTrue(refusal.contains("is in use by thread"), refusal));
        }
    }

    /** Sessions that were closed leave nothing, whether by {@code closeSession} or to make room. */
    @ParameterizedTest
    @EnumSource(OpenAndClose.Closing.class)
    void aThousandSessionsLeaveMemoryFlat(OpenAndClose.Closing closing) throws Exception {
        Path model = RandomModels.write(OpenAndClose.SPEC, folder.resolve("model"));
        ChildJvm.Ended ended = new ChildJvm(folder)
                .option("-Xms256m", "-Xmx256m", "-XX:+AlwaysPreTouch", "-XX:+UseSerialGC")
                .property("tailorkv.policy", "exact")
                .property("tailorkv.idle.sessions", 3)
                .classPath(ChildJvm.TEST_CLASSES, ChildJvm.TAILORKV)
                .classPath(ChildJvm.jlama())
                .run(OpenAndClose.class.getName(), model, closing)
                .successful();
        long grown = Long.parseLong(ended.after("grown by KiB: "));
        long held = Long.parseLong(ended.after("KiB held by all sessions together: "));
        System.out.println("resident memory grew by " + grown + " KiB while sessions held " + held + " KiB");
        assertTrue(held > 200_000, ended::toString);
        assertTrue(grown < held / 10, ended::toString);
    }

    @Test
    void closedModelHoldsNoSession() throws IOException {
        ModelSpec spec = ModelSpec.of(Architecture.LLAMA);
        UUID id = UUID.randomUUID();
        AbstractModel model = new JlamaModels(folder).served(spec);
        conversation(model, id, spec, 1);
        model.close();
        try (JlamaSession session = JlamaSession.open(model, id)) {
            assertEquals(0, session.buffer().getCurrentContextPosition());
        } finally {
            model.close();
        }
    }
}
