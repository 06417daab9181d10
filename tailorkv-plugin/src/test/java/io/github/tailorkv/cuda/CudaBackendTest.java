package io.github.tailorkv.cuda;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;
import static org.mockito.Mockito.mock;
import static org.mockito.Mockito.when;

import io.github.tailorkv.config.LayerKind;
import io.github.tailorkv.config.Settings;
import io.github.tailorkv.config.SettingsException;
import io.github.tailorkv.cuda.GpuException.Kind;
import io.github.tailorkv.kernels.AttentionShape;
import io.github.tailorkv.spi.LayerStatistics;
import io.github.tailorkv.spi.ModelCache;
import io.github.tailorkv.spi.ModelShape;
import io.github.tailorkv.spi.SessionCache;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ForkJoinPool;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Everything around the kernels: choosing the GPU, its memory, its end. What they compute is checked on a GPU. */
final class CudaBackendTest {

    private static final AttentionShape SHAPE = new AttentionShape(8, 2, 64, 0.125f, 0);
    private static final CudaBackend.LayerPolicy RETRIEVE = new CudaBackend.LayerPolicy(
            Map.of(0, LayerKind.QUANTIZED, 1, LayerKind.RETRIEVAL), "test");

    private final ModelCache cpu = mock();
    private final FakeGpu gpu = new FakeGpu();

    private static ModelShape model(AttentionShape shape) {
        return new ModelShape("test", 2, shape, 1 << 20, false, 2, Optional.empty());
    }

    private static Settings settings(String... words) {
        Properties properties = new Properties();
        properties.setProperty("tailorkv.enabled", "true");
        for (String word : words) {
            int equals = word.indexOf('=');
            properties.setProperty("tailorkv." + word.substring(0, equals), word.substring(equals + 1));
        }
        return Settings.from(properties);
    }

    private Optional<ModelCache> open(Settings settings) {
        return CudaBackend.open(model(SHAPE), settings, () -> RETRIEVE, () -> cpu, image -> gpu);
    }

    private static void append(SessionCache session, int tokens) {
        try (Arena arena = Arena.ofShared()) {
            MemorySegment q = arena.allocate(4L * tokens * SHAPE.heads() * SHAPE.headSize(), 64);
            MemorySegment k = arena.allocate(4L * tokens * SHAPE.kvHeads() * SHAPE.headSize(), 64);
            for (int layer = 0; layer < 2; layer++) {
                session.attend(layer, session.statistics().get(layer).tokens(), tokens, q, k, k, q);
            }
        }
    }

    @Test
    void aForcedGpuThatIsNotThereIsAnErrorWithItsCause() {
        SettingsException error = assertThrows(
                SettingsException.class,
                () -> CudaBackend.open(model(SHAPE), settings("backend=cuda"), () -> RETRIEVE, () -> cpu, image -> {
                    throw new GpuException(Kind.UNUSABLE, "no NVIDIA driver is installed");
                }));
        String message = String.valueOf(error.getMessage());
        assertTrue(message.contains("tailorkv.backend=cuda") && message.contains("no NVIDIA driver"), message);
    }

    @Test
    void theCpuServesWhereThereIsNoGpu() {
        assertEquals(
                Optional.empty(),
                CudaBackend.open(model(SHAPE), settings(), () -> RETRIEVE, () -> cpu, image -> {
                    throw new GpuException(Kind.UNUSABLE, "no NVIDIA driver is installed");
                }));
    }

    @Test
    void noGpuIsLookedForWhereTheCpuIsAskedFor() {
        assertEquals(
                Optional.empty(),
                CudaBackend.open(model(SHAPE), settings("backend=scalar"), () -> RETRIEVE, () -> cpu, image -> {
                    throw new AssertionError();
                }));
    }

    @ParameterizedTest
    @CsvSource({"tail=true", "offload=disk", "rows=int4"})
    void whatTheKernelsCannotDoIsNamed(String setting) {
        SettingsException error = assertThrows(SettingsException.class, () -> open(settings("backend=cuda", setting)));
        assertTrue(String.valueOf(error.getMessage()).contains(setting), error.toString());
        assertEquals(Optional.empty(), open(settings(setting)));
    }

    @ParameterizedTest
    @CsvSource({"4, 2, 32", "4, 2, 272", "34, 2, 64", "71, 71, 64"})
    void shapesThatTheKernelsCannotServeAreNamed(int heads, int kvHeads, int headSize) {
        AttentionShape shape = new AttentionShape(heads, kvHeads, headSize, 1, 0);
        assertTrue(CudaBackend.unsupported(shape, settings()).isPresent());
    }

    @Test
    void everythingIsGivenBack() {
        try (ModelCache model = open(settings("backend=cuda", "budget=16")).orElseThrow()) {
            long before = gpu.used();
            SessionCache session = model.newSession();
            append(session, 700);
            append(session, 1);
            append(session, 300);
            session.truncate(130);
            append(session, 64);
            append(session, 1);
            for (LayerStatistics layer : session.statistics()) {
                assertEquals(195, layer.tokens());
            }
            session.close();
            session.close();
            assertTrue(gpu.used() - before < 200 << 20, "only scratch memory stays");
        }
        assertEquals(Map.of(), gpu.device);
        assertEquals(Map.of(), gpu.host);
        assertTrue(gpu.closed);
    }

    @Test
    void rowsOfRetrievalLayersLeaveTheDeviceWhenDecodingStarts() {
        try (ModelCache model = open(settings("backend=cuda", "budget=16")).orElseThrow()) {
            SessionCache session = model.newSession();
            append(session, 2000);
            LayerStatistics open = session.statistics().get(1);
            append(session, 1);
            LayerStatistics retrieval = session.statistics().get(1);
            assertEquals("retrieval", retrieval.kind());
            assertTrue(retrieval.residentBytes() < open.residentBytes() - retrieval.offloadedBytes() / 2);
            assertTrue(retrieval.offloadedBytes() >= 1900L * SHAPE.kvHeads() * 128);
            assertEquals(0, session.statistics().get(0).offloadedBytes());
        }
    }

    @Test
    void aStepIsToldWhereTheNextLayersRowsAre() {
        int nextBlocks = 224;
        int nextSealed = 232;
        try (ModelCache model = open(settings("backend=cuda", "budget=16")).orElseThrow();
                Arena arena = Arena.ofShared()) {
            SessionCache session = model.newSession();
            append(session, 2000);
            append(session, 1);
            assertEquals(0, gpu.struct.getLong(nextBlocks), "no layer comes after the last");
            MemorySegment q = arena.allocate(4L * SHAPE.heads() * SHAPE.headSize(), 64);
            session.attend(0, 2001, 1, q, q, q, q);
            assertTrue(gpu.device.containsKey(gpu.struct.getLong(nextBlocks)));
            assertEquals((2001 - settings().recent()) / 64, gpu.struct.getInt(nextSealed));
        }
    }

    /** The next layer chooses tokens as soon as it holds more than its budget, which may be the least one. */
    @Test
    void aStepIsToldOfTheNextLayersRowsWhereItsBudgetIsSmall() {
        int nextBlocks = 224;
        try (ModelCache model = open(settings("backend=cuda", "budget=768", "budget.least=384", "index.share=1"))
                .orElseThrow(); Arena arena = Arena.ofShared()) {
            SessionCache session = model.newSession();
            MemorySegment q = arena.allocate(4L * SHAPE.heads() * SHAPE.headSize(), 64);
            append(session, 384 + settings().recent());
            append(session, 1);
            session.attend(0, session.length(), 1, q, q, q, q);
            assertEquals(0, gpu.struct.getLong(nextBlocks), "6 blocks are no more than the budget");
            append(session, 64);
            session.attend(0, session.statistics().get(0).tokens(), 1, q, q, q, q);
            assertTrue(gpu.device.containsKey(gpu.struct.getLong(nextBlocks)), "7 blocks are");
        }
    }

    @Test
    void aFullDeviceSendsBlocksToHostMemory() {
        try (ModelCache model = open(settings("backend=cuda", "budget=16", "gpu.memory=300m")).orElseThrow()) {
            SessionCache session = model.newSession();
            append(session, 300);
            gpu.deviceBytes = gpu.used();
            append(session, 3000);
            append(session, 1);
            assertEquals(3301, session.length());
            assertTrue(session.statistics().get(0).offloadedBytes() > 0);
        }
    }

    @Test
    void afterALossOldSessionsSaySoAndNewOnesRunOnTheCpu() {
        SessionCache onCpu = mock();
        when(cpu.newSession()).thenReturn(onCpu);
        when(cpu.backend()).thenReturn("panama");
        try (ModelCache model = open(settings("budget=16")).orElseThrow()) {
            SessionCache session = model.newSession();
            append(session, 100);
            assertEquals("cuda", model.backend());
            gpu.failure = new GpuException(Kind.LOST, "CUDA_ERROR_ILLEGAL_ADDRESS");
            IllegalStateException error = assertThrows(IllegalStateException.class, () -> append(session, 1));
            assertTrue(String.valueOf(error.getMessage()).contains("begin a new session"), error.toString());
            assertThrows(IllegalStateException.class, () -> append(session, 1));
            session.close();
            assertSame(onCpu, model.newSession());
            assertEquals("panama", model.backend());
        }
        assertTrue(gpu.closed);
    }

    /** The rows of a prompt are freed when its chunk has failed. */
    @Test
    void nothingIsCopiedAnyMoreOnceAChunkHasFailed() {
        Thread caller = Thread.currentThread();
        CountDownLatch begun = new CountDownLatch(1);
        AtomicInteger running = new AtomicInteger();
        try (ModelCache model = open(settings("backend=cuda", "budget=16")).orElseThrow()) {
            SessionCache session = model.newSession();
            gpu.onSend = () -> {
                running.incrementAndGet();
                try {
                    if (Thread.currentThread() != caller) {
                        begun.countDown();
                        Thread.sleep(200);
                    } else if (begun.await(1, TimeUnit.SECONDS)) {
                        throw new GpuException(Kind.LOST, "CUDA_ERROR_ECC_UNCORRECTABLE");
                    }
                } catch (InterruptedException e) {
                    throw new IllegalStateException(e);
                } finally {
                    running.decrementAndGet();
                }
            };
            assumeTrue(ForkJoinPool.getCommonPoolParallelism() > 0, "one thread copies everything");
            int waited = gpu.waited;
            assertThrows(IllegalStateException.class, () -> append(session, 256));
            assertEquals(0, running.get());
            assertTrue(gpu.waited > waited, "the GPU may still read the rows and write the output");
        }
    }

    @Test
    void memoryIsLentUntilTheEnd() {
        try (ModelCache model = open(settings("backend=cuda")).orElseThrow()) {
            int before = gpu.host.size();
            MemorySegment lent = Objects.requireNonNull(model.lend(1 << 20));
            assertEquals(1 << 20, lent.byteSize());
            assertEquals(before + 1, gpu.host.size());
            gpu.failure = new GpuException(Kind.LOST, "CUDA_ERROR_ECC_UNCORRECTABLE");
            assertNull(model.lend(1 << 20));
            gpu.failure = null;
        }
        assertEquals(Map.of(), gpu.host);
    }

    @Test
    void afterALossAForcedGpuFailsLoudly() {
        try (ModelCache model = open(settings("backend=cuda", "budget=16")).orElseThrow()) {
            SessionCache session = model.newSession();
            gpu.failure = new GpuException(Kind.LOST, "CUDA_ERROR_ECC_UNCORRECTABLE");
            assertThrows(IllegalStateException.class, () -> append(session, 1));
            assertThrows(IllegalStateException.class, model::newSession);
        }
    }

    @Test
    void tooLittleMemoryForTheModelItselfFallsBack() {
        gpu.deviceBytes = 1000;
        assertEquals(Optional.empty(), open(settings()));
        assertTrue(gpu.closed);
        assertFalse(gpu.device.size() > 8);
    }
}
