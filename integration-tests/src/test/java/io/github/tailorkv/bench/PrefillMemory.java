package io.github.tailorkv.bench;

import io.github.tailorkv.cache.HybridCacheProvider;
import io.github.tailorkv.config.Settings;
import io.github.tailorkv.kernels.AttentionShape;
import io.github.tailorkv.spi.ModelCache;
import io.github.tailorkv.spi.ModelShape;
import io.github.tailorkv.spi.SessionCache;
import java.io.PrintStream;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Locale;
import java.util.Optional;
import java.util.Properties;

/**
 * How much more memory than the finished cache reading a prompt takes: what the process gains from the first chunk of a
 * prompt to the end of the first decode step, in which layers turn from what they are while a prompt is read into what they
 * stay, against what the session holds then. A model of Llama-3.2-1B's shape, without Jlama. Linux only. The heap is
 * touched before it begins and counted by itself, so the JVM needs a fixed one:
 *
 * <pre>{@code
 * java -Xms256m -Xmx256m -XX:+AlwaysPreTouch --add-modules jdk.incubator.vector --enable-native-access=ALL-UNNAMED \
 *     -cp integration-tests/target/test-classes:$(cat integration-tests/target/benchmark-classpath.txt):<tailorkv.jar> \
 *     io.github.tailorkv.bench.PrefillMemory 8192 [policy=online ...]
 * }</pre>
 */
public final class PrefillMemory {
    private static final int LAYERS = 16;
    private static final int CHUNK = 256;
    /** Every so many chunks one is attended too; what attention needs is the same for each. */
    private static final int ATTENDED = 8;
    private static final int WARM_UP = 2048;
    private static final double MEGA = 1e6;
    private static final AttentionShape SHAPE = new AttentionShape(32, 8, 64, 0.125f, 0);

    private final RandomRows keys = new RandomRows(1, Math.sqrt(2.75));
    private final RandomRows values = new RandomRows(2, 1);
    private final MemorySegment out = Arena.global().allocate((long) CHUNK * queryFloats() * Float.BYTES, 64)
            .fill((byte) 1);

    private PrefillMemory() {}

    /**
     * Measures and prints.
     *
     * @param arguments tokens of the prompt, and settings without their {@code tailorkv.}
     */
    public static void main(String... arguments) {
        int tokens = arguments.length > 0 ? Integer.parseInt(arguments[0]) : 8192;
        Properties properties = new Properties();
        properties.setProperty("tailorkv.backend", "panama");
        for (int i = 1; i < arguments.length; i++) {
            int equals = arguments[i].indexOf('=');
            properties.setProperty("tailorkv." + arguments[i].substring(0, equals), arguments[i].substring(equals + 1));
        }
        new PrefillMemory().run(tokens, Settings.from(properties), System.out);
    }

    private void run(int tokens, Settings settings, PrintStream log) {
        int threads = Math.max(2, Runtime.getRuntime().availableProcessors() / 2);
        ModelShape model = new ModelShape("LLAMA", LAYERS, SHAPE, 2 * tokens, false, threads, Optional.empty());
        try (ModelCache warm = new HybridCacheProvider().open(model, settings)) {
            read(warm, WARM_UP);
        }
        System.gc();
        ProcessMemory.resetPeak();
        ProcessMemory before = ProcessMemory.now();
        try (ModelCache cache = new HybridCacheProvider().open(model, settings)) {
            long held = read(cache, tokens);
            ProcessMemory after = ProcessMemory.now();
            long gained = after.peakResident() - before.resident();
            log.printf(
                    Locale.ROOT,
                    "%d tokens: %.1f MB in the finished cache, at most %.1f MB more in the process meanwhile: %.2f times;"
                            + " heap at most %.1f MB, %.1f before%n",
                    tokens, held / MEGA, gained / MEGA, (double) gained / held, after.peakHeap() / MEGA,
                    before.peakHeap() / MEGA);
        }
    }

    private static int queryFloats() {
        return SHAPE.heads() * SHAPE.headSize();
    }

    private static int keyFloats() {
        return SHAPE.kvHeads() * SHAPE.headSize();
    }

    /** Bytes that the session holds after the first decode step. */
    private long read(ModelCache cache, int tokens) {
        try (SessionCache session = cache.newSession()) {
            for (int at = 0; at < tokens; at += CHUNK) {
                for (int layer = 0; layer < LAYERS; layer++) {
                    MemorySegment q = keys.next(CHUNK * queryFloats());
                    MemorySegment k = keys.next(CHUNK * keyFloats());
                    MemorySegment v = values.next(CHUNK * keyFloats());
                    if (at / CHUNK % ATTENDED == ATTENDED - 1) {
                        session.attend(layer, at, CHUNK, q, k, v, out);
                    } else {
                        session.append(layer, at, CHUNK, q, k, v);
                    }
                }
            }
            for (int layer = 0; layer < LAYERS; layer++) {
                session.attend(
                        layer, tokens, 1, keys.next(queryFloats()), keys.next(keyFloats()), values.next(keyFloats()),
                        out);
            }
            return session.statistics()
                    .stream()
                    .mapToLong(layer -> layer.residentBytes() + layer.offloadedBytes())
                    .sum();
        }
    }
}
