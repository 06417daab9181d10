package io.github.tailorkv.cache;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.tailorkv.config.LayerKind;
import io.github.tailorkv.config.Settings;
import io.github.tailorkv.kernels.AttentionKernels;
import io.github.tailorkv.kernels.AttentionShape;
import io.github.tailorkv.kernels.KernelLadder;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Proxy;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Consumer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** How the KV heads of a retrieval layer are shared out among threads. */
class RetrievalPassTest {
    private static final int TOKENS = 9000;
    private static final AttentionShape SHAPE = new AttentionShape(8, 4, 64, 0.125f, 0);

    private final long seed = new Random().nextLong();
    private final Random random = new Random(seed);
    private final AttentionKernels kernels = KernelLadder.choose("auto");
    /** Calls of the operation that fails until it does. */
    private final AtomicInteger callsToFailure = new AtomicInteger(Integer.MAX_VALUE);

    private MemorySegment rows(Arena arena, int heads, int tokens) {
        int count = tokens * heads * SHAPE.headSize();
        MemorySegment rows = arena.allocate(4L * count, 64);
        for (int i = 0; i < count; i++) {
            rows.setAtIndex(ValueLayout.JAVA_FLOAT, i, (float) random.nextGaussian());
        }
        return rows;
    }

    /** The same kernels, of which one operation can fail. */
    private AttentionKernels failing(String operation) {
        return watched(name -> {
            if (name.equals(operation) && callsToFailure.decrementAndGet() == 0) {
                throw new IllegalStateException(operation);
            }
        });
    }

    private AttentionKernels watched(Consumer<String> watcher) {
        return (AttentionKernels) Proxy.newProxyInstance(
                AttentionKernels.class.getClassLoader(), new Class<?>[] {AttentionKernels.class},
                (proxy, method, arguments) -> {
                    watcher.accept(method.getName());
                    try {
                        return method.invoke(kernels, arguments);
                    } catch (InvocationTargetException e) {
                        throw e.getCause();
                    }
                });
    }

    /** A retrieval layer that has one token more than it counts, as a pass finds it. */
    private LayerCache filled(LayerContext context, TilePool pool, Workers workers, Arena arena) {
        LayerCache layer = new LayerCache(context, 0, pool);
        for (int at = 0; at < TOKENS; at += 1000) {
            MemorySegment q = rows(arena, SHAPE.heads(), 1000);
            MemorySegment k = rows(arena, SHAPE.kvHeads(), 1000);
            MemorySegment v = rows(arena, SHAPE.kvHeads(), 1000);
            layer.reserve(1000);
            for (int head = 0; head < SHAPE.kvHeads(); head++) {
                layer.write(head, 1000, k, v);
            }
            layer.advance(1000, q);
            layer.sealOld(workers);
        }
        layer.settle(workers);
        assertEquals(LayerKind.RETRIEVAL, layer.kind());
        layer.reserve(1);
        MemorySegment k = rows(arena, SHAPE.kvHeads(), 1);
        for (int head = 0; head < SHAPE.kvHeads(); head++) {
            layer.write(head, 1, k, k);
        }
        return layer;
    }

    private static LayerContext context(AttentionKernels kernels) {
        Settings settings = SessionDriver.settings("policy=retrieve", "budget=200");
        return new LayerContext(SHAPE, settings, kernels, Map.of(0, LayerKind.RETRIEVAL), false);
    }

    private static float[] run(
            RetrievalPass pass, LayerCache layer, MemorySegment q, Workers workers, Arena arena) {
        MemorySegment out = arena.allocate(q.byteSize(), 64);
        pass.run(layer, q, out, workers);
        return out.toArray(ValueLayout.JAVA_FLOAT);
    }

    /** Whole KV heads, all of them in halves, stretches of blocks: each head is attended in the same way. */
    @ParameterizedTest
    @ValueSource(ints = {2, 3, 4, 7})
    @Timeout(120)
    void attentionIsTheSameForAnyNumberOfThreads(int threads) {
        LayerContext context = context(kernels);
        try (Arena arena = Arena.ofShared();
                Workers one = new Workers(1);
                Workers many = new Workers(threads);
                TilePool pool = new TilePool(LayerCache.tileBytes(SHAPE));
                LayerCache layer = filled(context, pool, one, arena);
                Workspace alone = new Workspace(context, 1);
                Workspace shared = new Workspace(context, threads)) {
            for (int step = 0; step < 20; step++) {
                MemorySegment q = rows(arena, SHAPE.heads(), 1);
                float[] expected = run(alone.retrieval, layer, q, one, arena);
                assertArrayEquals(
                        expected, run(shared.retrieval, layer, q, many, arena), 1e-6f, () -> "seed " + seed);
            }
        }
    }

    /** One KV head in a thousand has a sample whose bound too few tokens reach; only then is there a second pass over its ranks. */
    @Test
    void tokensAreChosenInThePassThatRanksThem() {
        AtomicInteger ranked = new AtomicInteger();
        AtomicInteger again = new AtomicInteger();
        LayerContext context = context(watched(name -> {
            ranked.addAndGet(name.equals("indexRanks") ? 1 : 0);
            again.addAndGet(name.equals("stretchMaxima") ? 1 : 0);
        }));
        try (Arena arena = Arena.ofShared();
                Workers workers = new Workers(2);
                TilePool pool = new TilePool(LayerCache.tileBytes(SHAPE));
                LayerCache layer = filled(context, pool, workers, arena);
                Workspace work = new Workspace(context, 2)) {
            int steps = 50;
            for (int step = 0; step < steps; step++) {
                run(work.retrieval, layer, rows(arena, SHAPE.heads(), 1), workers, arena);
            }
            int heads = steps * SHAPE.kvHeads();
            assertTrue(ranked.get() >= 3 * heads, () -> ranked + " panels ranked for " + heads + " KV heads");
            assertTrue(again.get() <= heads / 20, () -> again + " of " + heads + " KV heads twice, seed " + seed);
        }
    }

    /** Also the second half of a KV head, which waits for the first, ends after an error, and the next pass is right. */
    @ParameterizedTest
    @CsvSource({"indexRanks, 2", "indexRanks, 4", "atLeast, 2", "atLeast, 4", "recordScores, 2", "recordScores, 4"})
    @Timeout(120)
    void anErrorInAPieceEndsThePass(String operation, int threads) {
        LayerContext context = context(failing(operation));
        try (Arena arena = Arena.ofShared();
                Workers workers = new Workers(threads);
                TilePool pool = new TilePool(LayerCache.tileBytes(SHAPE));
                LayerCache layer = filled(context, pool, workers, arena);
                Workspace work = new Workspace(context, threads)) {
            MemorySegment q = rows(arena, SHAPE.heads(), 1);
            float[] expected = run(work.retrieval, layer, q, workers, arena);
            int fewest = SHAPE.kvHeads();
            for (int call = 1; call <= fewest; call++) {
                callsToFailure.set(call);
                IllegalStateException error = assertThrows(
                        IllegalStateException.class, () -> run(work.retrieval, layer, q, workers, arena));
                assertEquals(operation, error.getMessage());
                assertTrue(callsToFailure.get() <= 0);
                assertArrayEquals(
                        expected, run(work.retrieval, layer, q, workers, arena), 1e-6f, () -> "seed " + seed);
            }
        }
    }
}
