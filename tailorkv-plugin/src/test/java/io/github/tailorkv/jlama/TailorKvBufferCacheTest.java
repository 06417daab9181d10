package io.github.tailorkv.jlama;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotSame;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.mockito.Mockito.mock;
import static org.mockito.Mockito.when;

import com.github.tjake.jlama.math.ActivationFunction;
import com.github.tjake.jlama.model.AbstractModel;
import com.github.tjake.jlama.safetensors.Config;
import com.github.tjake.jlama.safetensors.DType;
import com.github.tjake.jlama.tensor.KvBufferCache;
import com.github.tjake.jlama.tensor.KvBufferCache.KvBuffer;
import io.github.tailorkv.config.Settings;
import io.github.tailorkv.jlama.CountingProvider.CountingModel;
import io.github.tailorkv.jlama.CountingProvider.CountingSession;
import io.github.tailorkv.kernels.AttentionShape;
import io.github.tailorkv.live.ModelMXBean;
import io.github.tailorkv.live.SessionReading;
import io.github.tailorkv.spi.ModelShape;
import java.lang.management.ManagementFactory;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;
import java.util.Optional;
import java.util.Properties;
import java.util.UUID;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.Consumer;
import javax.management.JMException;
import javax.management.JMX;
import javax.management.MBeanServer;
import javax.management.ObjectName;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.function.Executable;

/** What becomes of sessions, with a cache that only counts tokens. */
class TailorKvBufferCacheTest {
    private static final int LAYERS = 3;
    private static final int CONTEXT = 100;

    private final CountingProvider provider = new CountingProvider();
    private final AbstractModel model = mock(AbstractModel.class);
    private final UUID id = UUID.randomUUID();

    @BeforeEach
    void model() {
        when(model.getConfig()).thenReturn(new Config(
                CONTEXT, 32, 64, 2, 1, LAYERS, 1e-5f, 100, 1, List.of(2), ActivationFunction.Type.SILU, 10000.0, 1.0));
        when(model.getWorkingDType()).thenReturn(DType.F32);
    }

    private TailorKvBufferCache cache(String... properties) {
        Properties all = new Properties();
        for (int i = 0; i < properties.length; i += 2) {
            all.setProperty(properties[i], properties[i + 1]);
        }
        Settings settings = Settings.from(all);
        ModelShape shape = new ModelShape(
                "LLAMA", LAYERS, new AttentionShape(2, 1, 16, 0.25f, 0), CONTEXT, false, 1,
                Optional.of(Path.of("counting-" + id)));
        return new TailorKvBufferCache(model, provider, provider.open(shape, settings), shape, settings);
    }

    private CountingModel opened() {
        return provider.models.getLast();
    }

    private static CountingSession counting(TailorKvBufferCache cache, KvBuffer buffer) {
        return (CountingSession) cache.session(buffer).cache();
    }

    /** What the blocks of a model do, without the arithmetic. */
    private static void pass(TailorKvBufferCache cache, KvBuffer buffer, int start, int tokens) {
        for (int layer = 0; layer < LAYERS; layer++) {
            layer(cache, buffer, layer, start, tokens);
        }
    }

    private static void layer(TailorKvBufferCache cache, KvBuffer buffer, int layer, int start, int tokens) {
        Session session = cache.session(buffer);
        session.enter(layer == 0, start, tokens);
        counting(cache, buffer).append(layer, start, tokens);
        session.leave(layer == LAYERS - 1);
    }

    /** As Jlama's generate: the position is read once, then counted up for each generated token. */
    private void turn(TailorKvBufferCache cache, int prompt, int answer) {
        try (KvBuffer buffer = cache.getKvBuffer(id)) {
            int position = buffer.getCurrentContextPosition();
            pass(cache, buffer, position, prompt);
            for (int i = 0; i < answer; i++) {
                pass(cache, buffer, position + prompt + i, 1);
                buffer.incrementContextPosition();
            }
        }
    }

    private int length(TailorKvBufferCache cache, UUID session) {
        try (KvBuffer buffer = cache.getKvBuffer(session)) {
            return buffer.getCurrentContextPosition();
        }
    }

    private static String thrownByAnotherThread(Executable action) throws InterruptedException {
        AtomicReference<String> thrown = new AtomicReference<>("");
        Thread other = new Thread(() -> thrown.set(assertThrows(Exception.class, action).toString()));
        other.start();
        other.join();
        return Objects.requireNonNull(thrown.get());
    }

    @Test
    void positionIsWhatTheSessionHolds() {
        TailorKvBufferCache cache = cache();
        turn(cache, 10, 3);
        assertEquals(13, length(cache, id));
        turn(cache, 5, 2);
        assertEquals(20, length(cache, id));
        assertEquals(1, opened().sessions.size());
    }

    @Test
    void positionCanBeSetBackButNotForward() {
        TailorKvBufferCache cache = cache();
        turn(cache, 10, 0);
        try (KvBuffer buffer = cache.getKvBuffer(id)) {
            buffer.setCurrentContextPosition(4);
            assertEquals(4, buffer.getCurrentContextPosition());
            assertThrows(IllegalArgumentException.class, () -> buffer.setCurrentContextPosition(5));
        }
    }

    @Test
    void sessionsAreKeptApart() {
        TailorKvBufferCache cache = cache();
        turn(cache, 10, 3);
        assertEquals(0, length(cache, UUID.randomUUID()));
        assertEquals(13, length(cache, id));
    }

    @Test
    void turnThatFailsInALayerIsForgotten() {
        TailorKvBufferCache cache = cache();
        turn(cache, 10, 3);
        try (KvBuffer buffer = cache.getKvBuffer(id)) {
            pass(cache, buffer, 13, 7);
            layer(cache, buffer, 0, 20, 1);
            Session session = cache.session(buffer);
            session.enter(false, 20, 1);
            session.abandonPass();
            assertEquals(20, buffer.getCurrentContextPosition(), "the pass is forgotten at once");
        }
        assertEquals(13, length(cache, id), "the turn when it ends");
    }

    /** As when the embedding throws between two passes, or nobody told us of the error. */
    @Test
    void turnThatLeavesLayersUnevenIsForgotten() {
        TailorKvBufferCache cache = cache();
        turn(cache, 10, 0);
        try (KvBuffer buffer = cache.getKvBuffer(id)) {
            pass(cache, buffer, 10, 7);
            layer(cache, buffer, 0, 17, 1);
        }
        assertEquals(10, length(cache, id));
    }

    @Test
    void promptBeyondTheContextIsRefusedAndForgotten() {
        TailorKvBufferCache cache = cache();
        turn(cache, 60, 0);
        try (KvBuffer buffer = cache.getKvBuffer(id)) {
            pass(cache, buffer, 60, 32);
            var e = assertThrows(IllegalArgumentException.class, () -> pass(cache, buffer, 92, 32));
            assertTrue(e.toString().contains("holds 60 tokens, and 64 or more"), e.toString());
            assertTrue(e.toString().contains("context of 100"), e.toString());
        }
        assertEquals(60, length(cache, id));
        turn(cache, 40, 0);
        assertEquals(100, length(cache, id));
    }

    @Test
    void gapsAreRefused() {
        TailorKvBufferCache cache = cache();
        turn(cache, 10, 0);
        try (KvBuffer buffer = cache.getKvBuffer(id)) {
            assertThrows(IllegalStateException.class, () -> pass(cache, buffer, 11, 1));
        }
        assertEquals(10, length(cache, id));
    }

    @Test
    @Timeout(60)
    void secondThreadInATurnIsRefused() throws InterruptedException {
        TailorKvBufferCache cache = cache();
        try (KvBuffer buffer = cache.getKvBuffer(id)) {
            String refusal = thrownByAnotherThread(() -> cache.getKvBuffer(id));
            assertTrue(refusal.startsWith(IllegalStateException.class.getName()), refusal);
            assertTrue(refusal.contains("in use by thread " + Thread.currentThread().getName()), refusal);
            assertSame(buffer, cache.getKvBuffer(id), "the same thread may ask again");
            pass(cache, buffer, 0, 5);
        }
        assertEquals(5, length(cache, id));
    }

    @Test
    @Timeout(60)
    void secondThreadInAPassIsRefused() throws InterruptedException {
        TailorKvBufferCache cache = cache();
        try (KvBuffer buffer = cache.getKvBuffer(id)) {
            layer(cache, buffer, 0, 0, 4);
            String refusal = thrownByAnotherThread(() -> pass(cache, buffer, 0, 9));
            assertTrue(refusal.startsWith(IllegalStateException.class.getName()), refusal);
            layer(cache, buffer, 1, 0, 4);
            layer(cache, buffer, 2, 0, 4);
        }
        assertEquals(4, length(cache, id));
    }

    /** As when something is thrown between two layers: nobody tells of it, but the turn ends. */
    @Test
    @Timeout(60)
    void passIsOverWhenItsTurnEnds() throws InterruptedException {
        TailorKvBufferCache cache = cache();
        turn(cache, 10, 0);
        try (KvBuffer buffer = cache.getKvBuffer(id)) {
            layer(cache, buffer, 0, 10, 1);
        }
        Thread other = new Thread(() -> turn(cache, 7, 0));
        other.start();
        other.join();
        assertEquals(17, length(cache, id));
        try (KvBuffer buffer = cache.getKvBuffer(id)) {
            layer(cache, buffer, 0, 17, 1);
            cache.forget(id);
        }
        assertEquals(0, opened().open());
    }

    @Test
    @Timeout(60)
    void secondThreadTakesNothingFromAPass() throws InterruptedException {
        TailorKvBufferCache cache = cache();
        try (KvBuffer buffer = cache.getKvBuffer(id)) {
            pass(cache, buffer, 0, 4);
            layer(cache, buffer, 0, 4, 1);
            Session session = cache.session(buffer);
            for (Executable action : List.<Executable>of(
                    session::endTurn, () -> buffer.setCurrentContextPosition(0), () -> session.truncate(0))) {
                String refusal = thrownByAnotherThread(action);
                assertTrue(refusal.startsWith(IllegalStateException.class.getName()), refusal);
                assertTrue(refusal.contains("in use by thread " + Thread.currentThread().getName()), refusal);
            }
            layer(cache, buffer, 1, 4, 1);
            layer(cache, buffer, 2, 4, 1);
        }
        assertEquals(5, length(cache, id));
    }

    @Test
    @Timeout(60)
    void noPassBeginsWhileTokensAreTakenBack() {
        TailorKvBufferCache cache = cache();
        for (Consumer<Session> action : List.<Consumer<Session>>of(s -> s.truncate(5), Session::endTurn)) {
            KvBuffer buffer = cache.getKvBuffer(UUID.randomUUID());
            pass(cache, buffer, 0, 9);
            Session session = cache.session(buffer);
            assertThrows(IllegalArgumentException.class, () -> session.enter(true, 9, CONTEXT));
            AtomicReference<Thread.State> state = new AtomicReference<>();
            counting(cache, buffer).onTruncate = () -> {
                Thread other = Thread.ofPlatform().daemon().start(() -> session.enter(true, 0, 1));
                while (other.getState() != Thread.State.BLOCKED && other.getState() != Thread.State.TERMINATED) {
                    Thread.onSpinWait();
                }
                state.set(other.getState());
            };
            action.accept(session);
            assertEquals(Thread.State.BLOCKED, state.get(), "it waits");
        }
    }

    @Test
    @Timeout(60)
    void turnOfADeadThreadIsTakenOver() throws InterruptedException {
        TailorKvBufferCache cache = cache();
        Thread other = new Thread(() -> pass(cache, cache.getKvBuffer(id), 0, 6));
        other.start();
        other.join();
        turn(cache, 4, 0);
        assertEquals(10, length(cache, id));
    }

    @Test
    void endedTurnCannotBeUsedAgain() {
        TailorKvBufferCache cache = cache();
        KvBuffer buffer = cache.getKvBuffer(id);
        buffer.close();
        buffer.close();
        assertThrows(IllegalStateException.class, () -> pass(cache, buffer, 0, 1));
        assertNotSame(buffer, cache.getKvBuffer(id));
    }

    @Test
    void oldestIdleSessionGoesFirst() {
        TailorKvBufferCache cache = cache("tailorkv.idle.sessions", "2");
        UUID[] ids = {id, UUID.randomUUID(), UUID.randomUUID()};
        for (UUID session : ids) {
            try (KvBuffer buffer = cache.getKvBuffer(session)) {
                pass(cache, buffer, 0, 8);
            }
        }
        assertEquals(2, opened().open());
        assertEquals(8, length(cache, ids[1]));
        assertEquals(8, length(cache, ids[2]));
        assertEquals(0, length(cache, ids[0]), "evicted, so it starts empty");
    }

    @Test
    void idleSessionsAreBoundedByMemoryToo() {
        TailorKvBufferCache cache = cache("tailorkv.idle.memory", "2000");
        for (int i = 0; i < 5; i++) {
            try (KvBuffer buffer = cache.getKvBuffer(UUID.randomUUID())) {
                pass(cache, buffer, 0, 9);
            }
        }
        assertEquals(2, opened().open());
    }

    @Test
    void busySessionsAreNotEvicted() {
        TailorKvBufferCache cache = cache("tailorkv.idle.sessions", "0");
        try (KvBuffer buffer = cache.getKvBuffer(id)) {
            pass(cache, buffer, 0, 8);
            length(cache, UUID.randomUUID());
            pass(cache, buffer, 8, 8);
            assertEquals(1, opened().open());
        }
        assertEquals(0, opened().open());
    }

    @Test
    void embeddingSessionEndsWithItsBuffer() {
        TailorKvBufferCache cache = cache();
        try (KvBuffer buffer = cache.getEphemeralKvBuffer()) {
            pass(cache, buffer, 0, 8);
            assertEquals(1, opened().open());
        }
        assertEquals(0, opened().open());
    }

    @Test
    void closedSessionIsFreedAtOnceOrAtTheEndOfItsTurn() {
        TailorKvBufferCache cache = cache();
        turn(cache, 8, 0);
        cache.forget(id);
        assertEquals(0, opened().open());
        assertEquals(0, length(cache, id));
        try (KvBuffer buffer = cache.getKvBuffer(id)) {
            pass(cache, buffer, 0, 4);
            cache.forget(id);
            pass(cache, buffer, 4, 4);
        }
        assertEquals(0, opened().open());
        assertEquals(0, length(cache, id));
    }

    @Test
    void closingFreesEverythingOnceNothingIsInUse() {
        TailorKvBufferCache cache = cache();
        length(cache, UUID.randomUUID());
        KvBuffer buffer = cache.getKvBuffer(id);
        pass(cache, buffer, 0, 4);
        cache.close();
        cache.close();
        assertEquals(1, opened().open());
        assertEquals(0, opened().closed);
        pass(cache, buffer, 4, 4);
        buffer.close();
        assertEquals(0, opened().open());
        assertEquals(1, opened().closed);
        opened().sessions.forEach(session -> assertEquals(1, session.closed));
    }

    @Test
    void turnThatEndsWithAnErrorIsOverAllTheSame() {
        TailorKvBufferCache cache = cache();
        turn(cache, 8, 0);
        KvBuffer buffer = cache.getKvBuffer(id);
        layer(cache, buffer, 0, 8, 1);
        CountingSession session = counting(cache, buffer);
        session.onTruncate = failing("truncate");
        session.onClose = failing("close");
        Error error = assertThrows(AssertionError.class, buffer::close);
        assertEquals("truncate", error.getMessage());
        assertEquals("close", error.getSuppressed()[0].getMessage());
        assertEquals(1, session.closed);
        assertEquals(0, length(cache, id), "the session starts empty");
    }

    @Test
    void errorInTheEndOfOneSessionLeavesNothingOpen() throws Exception {
        TailorKvBufferCache cache = cache();
        for (int i = 0; i < 3; i++) {
            try (KvBuffer buffer = cache.getKvBuffer(UUID.randomUUID())) {
                counting(cache, buffer).onClose = failing("close " + i);
            }
        }
        Error error = assertThrows(AssertionError.class, cache::close);
        assertEquals("close 0", error.getMessage());
        assertEquals(List.of("close 1", "close 2"),
                Arrays.stream(error.getSuppressed()).map(Throwable::getMessage).toList());
        assertEquals(0, opened().open());
        assertEquals(1, opened().closed);
        assertFalse(ManagementFactory.getPlatformMBeanServer().isRegistered(beanName()));
    }

    private ObjectName beanName() throws JMException {
        return new ObjectName("io.github.tailorkv:type=Model,name=counting-" + id);
    }

    private static Runnable failing(String message) {
        return () -> {
            throw new AssertionError(message);
        };
    }

    @Test
    void closedModelCanBeUsedAgain() {
        TailorKvBufferCache cache = cache();
        turn(cache, 8, 0);
        cache.close();
        assertEquals(0, length(cache, id));
        assertEquals(2, provider.models.size());
    }

    @Test
    void modelIsAnMxBeanFromOpeningToClosing() throws Exception {
        MBeanServer server = ManagementFactory.getPlatformMBeanServer();
        ObjectName name = beanName();
        TailorKvBufferCache cache = cache("tailorkv.sample", "2");
        ModelMXBean bean = JMX.newMXBeanProxy(server, name, ModelMXBean.class);
        turn(cache, 10, 6);
        assertEquals(3, bean.getSampledSteps());
        assertEquals(List.of(new SessionReading(id.toString(), false, 16, 3 * 533, 0)), bean.getSessions());
        try (KvBuffer buffer = cache.getKvBuffer(id)) {
            assertEquals(true, bean.getSessions().get(0).busy());
            layer(cache, buffer, 0, 16, 1);
            cache.session(buffer).abandonPass();
        }
        assertEquals(3, bean.getSampledSteps());
        cache.forget(id);
        assertEquals(List.of(), bean.getSessions());
        cache.close();
        assertFalse(server.isRegistered(name));
        turn(cache, 1, 1);
        assertTrue(server.isRegistered(name), "the model can be used again");
        cache.close();
        assertFalse(server.isRegistered(name));
    }

    @Test
    @Timeout(60)
    void bufferOfAnotherCacheIsServedUntilItIsGarbage() throws InterruptedException {
        TailorKvBufferCache cache = cache();
        KvBuffer buffer = new KvBufferCache(model).getKvBuffer(id);
        pass(cache, buffer, 0, 4);
        pass(cache, buffer, 4, 1);
        assertEquals(5, counting(cache, buffer).length());
        assertEquals(1, opened().sessions.size());
        buffer = new KvBufferCache(model).getKvBuffer(id);
        assertEquals(0, counting(cache, buffer).length());
        while (opened().open() > 1) {
            System.gc();
            Thread.sleep(20);
        }
        assertEquals(1, opened().sessions.getFirst().closed);
        assertEquals(0, counting(cache, buffer).length());
    }
}
