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
import java.util.Objects;
import java.util.Optional;
import java.util.Properties;
import java.util.function.LongFunction;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * Rows of q, k and v lie on the device where the arguments say, of few tokens and of so many that they are cut; those of one
 * token lie in host memory, in the order in which the kernel is to lay them down on the device.
 */
final class StagingTest {

    private static final AttentionShape SHAPE = new AttentionShape(32, 8, 128, 0.1f, 0);

    private static final int QUERIES = SHAPE.heads() * SHAPE.headSize();
    private static final int KEYS = SHAPE.kvHeads() * SHAPE.headSize();

    /** Offsets in {@code struct Arguments}. */
    private static final int Q = 24;
    private static final int K = 32;
    private static final int V = 40;
    private static final int OUT = 48;
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
        int queries = n * QUERIES;
        int keys = n * KEYS;
        try (Arena arena = Arena.ofShared(); ModelCache cache = open(); SessionCache session = cache.newSession()) {
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
            assertEquals(n, gpu.struct.getInt(N));
            check(this::onDevice, gpu.struct.getLong(Q), queries, 0);
            check(this::onDevice, gpu.struct.getLong(K), keys, queries);
            check(this::onDevice, gpu.struct.getLong(V), keys, queries + keys);
        }
    }

    /** Rows in memory that was lent are not copied by the host, also of a chunk that is cut, and the output goes there. */
    @ParameterizedTest
    @CsvSource({"2, 0", "256, 0", "700, 1"})
    void rowsInLentMemoryAreSentFromThere(int n, int cuts) {
        int most = 512;
        try (ModelCache cache = open(); SessionCache session = cache.newSession()) {
            MemorySegment memory = Objects.requireNonNull(cache.lend(4L * n * (2 * QUERIES + 2 * KEYS)));
            for (int i = 0; i < n * (2 * QUERIES + 2 * KEYS); i++) {
                memory.setAtIndex(ValueLayout.JAVA_FLOAT, i, i);
            }
            int k = n * QUERIES;
            int v = k + n * KEYS;
            int out = v + n * KEYS;
            gpu.uploads.clear();
            session.attend(
                    0, 0, n, memory.asSlice(0, 4L * k), memory.asSlice(4L * k, 4L * n * KEYS),
                    memory.asSlice(4L * v, 4L * n * KEYS), memory.asSlice(4L * out));
            int from = cuts * most;
            int last = n - from;
            assertEquals(last, gpu.struct.getInt(N));
            check(this::onDevice, gpu.struct.getLong(Q), last * QUERIES, from * QUERIES);
            check(this::onDevice, gpu.struct.getLong(K), last * KEYS, k + from * KEYS);
            check(this::onDevice, gpu.struct.getLong(V), last * KEYS, v + from * KEYS);
            long next = 0;
            long bytes = 0;
            for (FakeGpu.Fetch fetch : gpu.fetches) {
                assertEquals((int) (out + bytes / 4), inHostMemory(fetch.target()), "parts follow each other");
                assertTrue(next == 0 || fetch.source() == next || fetch.source() == gpu.struct.getLong(OUT));
                next = fetch.source() + fetch.bytes();
                bytes += fetch.bytes();
            }
            assertEquals(4L * n * QUERIES, bytes);
        }
    }

    private ModelCache open() {
        Properties properties = new Properties();
        properties.setProperty("tailorkv.backend", "cuda");
        ModelShape model = new ModelShape("test", 1, SHAPE, 4096, false, 2, Optional.empty());
        return CudaBackend.open(
                model, Settings.from(properties),
                () -> new CudaBackend.LayerPolicy(Map.of(0, LayerKind.EXACT), "test"),
                () -> {
                    throw new AssertionError("no CPU");
                }, image -> gpu).orElseThrow();
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
