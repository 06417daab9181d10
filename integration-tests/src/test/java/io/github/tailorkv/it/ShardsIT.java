package io.github.tailorkv.it;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.github.tjake.jlama.model.AbstractModel;
import com.github.tjake.jlama.tensor.AbstractTensor;
import com.github.tjake.jlama.tensor.KvBufferCache;
import io.github.tailorkv.models.Architecture;
import io.github.tailorkv.models.JlamaSession;
import io.github.tailorkv.models.ModelSpec;
import io.github.tailorkv.models.RandomModels;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.UUID;
import java.util.concurrent.BrokenBarrierException;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.function.Consumer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/**
 * A model whose heads are divided among processes, as Jlama's workers do it: each computes its share, and what they have
 * is added up after each projection. Here the processes are threads.
 */
@SuppressWarnings("rawtypes")
class ShardsIT {
    private static final int SHARDS = 2;
    private static final int PROMPT = 400;

    @TempDir
    Path folder;

    /** Adds the tensors of all shards, each of which waits for the others. */
    private static final class Reducer implements Consumer<List<AbstractTensor>> {
        private final List<AbstractTensor> parts;
        private final CyclicBarrier barrier;

        Reducer(int shards) {
            parts = new ArrayList<>();
            barrier = new CyclicBarrier(shards, this::add);
        }

        private void add() {
            AbstractTensor first = parts.getFirst();
            for (int row = 0; row < first.shape().first(); row++) {
                for (int column = 0; column < first.shape().last(); column++) {
                    float sum = 0;
                    for (AbstractTensor part : parts) {
                        sum += part.get(row, column);
                    }
                    for (AbstractTensor part : parts) {
                        part.set(sum, row, column);
                    }
                }
            }
            parts.clear();
        }

        @Override
        public void accept(List<AbstractTensor> tensors) {
            synchronized (this) {
                parts.add(tensors.getFirst());
            }
            try {
                barrier.await(1, TimeUnit.MINUTES);
            } catch (InterruptedException | BrokenBarrierException | TimeoutException e) {
                throw new IllegalStateException(e);
            }
        }
    }

    /** The last hidden state after the prompt and one more token. */
    private static float[] run(AbstractModel shard, KvBufferCache.KvBuffer buffer, Reducer reducer, int[] tokens) {
        int prompt = tokens.length - 1;
        AbstractTensor hidden = shard.batchForward(Arrays.copyOf(tokens, prompt), 0, buffer, Optional.of(reducer));
        hidden.close();
        AbstractTensor last = shard.forward(tokens[prompt], prompt, buffer, Optional.of(reducer));
        try (last) {
            float[] row = new float[last.shape().last()];
            for (int i = 0; i < row.length; i++) {
                row[i] = last.get(0, i);
            }
            return row;
        }
    }

    @ParameterizedTest
    @EnumSource(mode = EnumSource.Mode.EXCLUDE, names = {"BERT", "GEMMA", "MIXTRAL"})
    @Timeout(300)
    void shardsTogetherGiveTheUnsplitAnswer(Architecture architecture) throws Exception {
        ModelSpec spec = ModelSpec.of(architecture);
        int[] tokens = RandomModels.tokens(spec, PROMPT, 3);
        float[] expected;
        JlamaModels models = new JlamaModels(folder);
        Path wholeReport = folder.resolve("whole.json");
        try (AbstractModel whole = models.served(spec, Map.of("tailorkv.report", wholeReport.toString()));
                JlamaSession session = JlamaSession.open(whole)) {
            session.prefill(Arrays.copyOf(tokens, PROMPT - 1));
            expected = session.decode(tokens[PROMPT - 1]);
        }
        Reducer reducer = new Reducer(SHARDS);
        List<Future<float[]>> answers = new ArrayList<>();
        try (ExecutorService threads = Executors.newFixedThreadPool(SHARDS)) {
            for (int i = 0; i < SHARDS; i++) {
                Map<String, String> report = Map.of("tailorkv.report",
                        folder.resolve("shard" + i + ".json").toString());
                AbstractModel shard = models.shard(i, SHARDS).served(spec, report);
                answers.add(threads.submit(() -> {
                    try (shard; JlamaSession session = JlamaSession.open(shard)) {
                        return run(shard, session.buffer(), reducer, tokens);
                    }
                }));
            }
            for (Future<float[]> answer : answers) {
                JlamaModels.assertClose(expected, answer.get(), "a shard's state");
            }
        }
        // B6: Jlama's last shard allocates too much.
        JsonNode whole = new ObjectMapper().readTree(wholeReport.toFile());
        for (int i = 0; i < SHARDS; i++) {
            JsonNode part = new ObjectMapper().readTree(folder.resolve("shard" + i + ".json").toFile());
            for (String bytes : List.of("stockBytes", "residentBytes")) {
                long all = whole.get("totals").get(bytes).longValue();
                assertTrue(all > 0);
                assertEquals(all, SHARDS * part.get("totals").get(bytes).longValue(), bytes);
            }
        }
    }

    /** A worker has a cache of its own, and one buffer for each session, which it never closes. */
    @Test
    void workersOwnBufferIsServed() throws IOException {
        ModelSpec spec = ModelSpec.of(Architecture.LLAMA);
        int[] tokens = RandomModels.tokens(spec, PROMPT, 3);
        JlamaModels models = new JlamaModels(folder);
        try (AbstractModel model = models.served(spec)) {
            float[] expected;
            try (JlamaSession session = JlamaSession.open(model)) {
                expected = session.prefill(tokens);
            }
            KvBufferCache.KvBuffer buffer = new KvBufferCache(model).getKvBuffer(UUID.randomUUID());
            float[] actual = run(model, buffer, new Reducer(1), tokens);
            JlamaModels.assertClose(expected, actual, "a worker's state");
        }
        assertEquals(0, models.pageFiles());
    }

    /** The only KV head of a Gemma model cannot be divided; stock divides it all the same. */
    @Test
    void modelWhoseHeadsCannotBeDividedStaysStock() throws IOException {
        try (AbstractModel shard = new JlamaModels(folder).shard(0, SHARDS).served(ModelSpec.of(Architecture.GEMMA));
                JlamaSession session = JlamaSession.open(shard)) {
            assertFalse(session.buffer().getClass().getName().startsWith("io.github.tailorkv."));
        }
    }
}
