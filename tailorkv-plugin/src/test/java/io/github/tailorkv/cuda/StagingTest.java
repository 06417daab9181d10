package io.github.tailorkv.cuda;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.tailorkv.config.LayerKind;
import io.github.tailorkv.config.Settings;
import io.github.tailorkv.kernels.AttentionShape;
import io.github.tailorkv.spi.ModelCache;
import io.github.tailorkv.spi.ModelShape;
import io.github.tailorkv.spi.SessionCache;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.function.LongFunction;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * Rows of q, k and v lie on the device where the arguments say, of few tokens and of so many that they are cut; those of one
 * token lie in host memory, in the order in which the kernel is to lay them down on the device.
 */
final class StagingTest {

    private static final AttentionShape SHAPE = new AttentionShape(32, 8, 128, 0.1f, 0);

    /** Offsets in {@code struct Arguments}. */
    private static final int Q = 24;
    private static final int K = 32;
    private static final int V = 40;
    private static final int N = 160;
    private static final int STAGED = 200;

    private final FakeGpu gpu = new FakeGpu();

    private static MemorySegment counting(Arena arena, int floats, int first) {
        MemorySegment rows = arena.allocate(4L * floats, 64);
        for (int i = 0; i < floats; i++) {
            rows.setAtIndex(ValueLayout.JAVA_FLOAT, i, first + i);
        }
        return rows;
    }

    private float inHostMemory(long address) {
        for (Gpu.Pinned memory : gpu.host.values()) {
            long at = address - memory.address();
            if (at >= 0 && at < memory.segment().byteSize()) {
                return memory.segment().get(ValueLayout.JAVA_FLOAT, at);
            }
        }
        throw new AssertionError("there is no host memory at " + address);
    }

    private float onDevice(long address) {
        for (FakeGpu.Upload upload : gpu.uploads.reversed()) {
            long at = address - upload.target();
            if (at >= 0 && at < upload.bytes().capacity()) {
                return upload.bytes().getFloat((int) at);
            }
        }
        throw new AssertionError("nothing was sent to " + address);
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 2, 3, 65, 256})
    void rowsLieWhereTheArgumentsSay(int n) {
        Properties properties = new Properties();
        properties.setProperty("tailorkv.backend", "cuda");
        ModelShape model = new ModelShape("test", 1, SHAPE, 4096, false, 2, Optional.empty());
        int queries = n * SHAPE.heads() * SHAPE.headSize();
        int keys = n * SHAPE.kvHeads() * SHAPE.headSize();
        try (Arena arena = Arena.ofShared();
                ModelCache cache = CudaBackend.open(
                        model, Settings.from(properties),
                        () -> new CudaBackend.LayerPolicy(Map.of(0, LayerKind.EXACT), "test"),
                        () -> {
                            throw new AssertionError("no CPU");
                        }, image -> gpu).orElseThrow();
                SessionCache session = cache.newSession()) {
            gpu.uploads.clear();
            MemorySegment q = counting(arena, queries, 0);
            session.attend(
                    0, 0, n, q, counting(arena, keys, queries), counting(arena, keys, queries + keys),
                    arena.allocate(q.byteSize(), 64));
            if (n == 1) {
                assertTrue(gpu.launched.contains("decode4"), gpu.launched::toString);
                long toHost = gpu.struct.getLong(STAGED) - gpu.struct.getLong(Q);
                check(this::inHostMemory, toHost + gpu.struct.getLong(Q), queries, 0);
                check(this::inHostMemory, toHost + gpu.struct.getLong(K), keys, queries);
                check(this::inHostMemory, toHost + gpu.struct.getLong(V), keys, queries + keys);
                return;
            }
            assertTrue(gpu.launched.contains("append"), gpu.launched::toString);
            FakeGpu.Upload arguments = gpu.uploads.stream()
                    .filter(upload -> upload.bytes().capacity() >= GpuArguments.BYTES && upload.bytes().getInt(N) == n)
                    .findFirst()
                    .orElseThrow();
            check(this::onDevice, arguments.bytes().getLong(Q), queries, 0);
            check(this::onDevice, arguments.bytes().getLong(K), keys, queries);
            check(this::onDevice, arguments.bytes().getLong(V), keys, queries + keys);
        }
    }

    /** The ends of the rows and of every piece of them. */
    private void check(LongFunction<Float> memory, long address, int floats, int first) {
        int step = 64 << 10;
        for (int i = 0; i < floats; i += step) {
            assertEquals(first + i, memory.apply(address + 4L * i));
            int last = Math.min(floats, i + step) - 1;
            assertEquals(first + last, memory.apply(address + 4L * last));
        }
    }
}
