package io.github.tailorkv.bench;

import io.github.tailorkv.config.Settings;
import io.github.tailorkv.spi.ModelCache;
import io.github.tailorkv.spi.SessionCache;
import java.io.PrintStream;
import java.util.Locale;

/**
 * How much more memory than the finished cache reading a prompt takes: what the process gains from the first chunk of a
 * prompt to the end of the first decode step, in which layers turn from what they are while a prompt is read into what they
 * stay, against what the session holds then. A model of Llama-3.2-1B's shape, without Jlama. Linux only. The heap is
 * touched before it begins and counted by itself, so the JVM needs a fixed one; settings are the system properties of the
 * plugin:
 *
 * <pre>{@code
 * java -Xms256m -Xmx256m -XX:+AlwaysPreTouch --add-modules jdk.incubator.vector --enable-native-access=ALL-UNNAMED \
 *     -Dtailorkv.backend=panama \
 *     -cp integration-tests/target/test-classes:$(cat integration-tests/target/benchmark-classpath.txt):<tailorkv.jar> \
 *     io.github.tailorkv.bench.PrefillMemory 8192
 * }</pre>
 */
public final class PrefillMemory {
    private static final int LAYERS = 16;
    /** Every so many chunks one is attended too; what attention needs is the same for each. */
    private static final int ATTENDED = 8;
    private static final int WARM_UP = 2048;
    private static final double MEGA = 1e6;

    private final RandomTokens random = new RandomTokens(LAYERS);

    private PrefillMemory() {}

    /**
     * Measures and prints.
     *
     * @param arguments tokens of the prompt
     */
    public static void main(String... arguments) {
        int tokens = arguments.length > 0 ? Integer.parseInt(arguments[0]) : 8192;
        new PrefillMemory().run(tokens, Settings.from(System.getProperties()), System.out);
    }

    private void run(int tokens, Settings settings, PrintStream log) {
        try (ModelCache warm = random.open(tokens, settings)) {
            read(warm, WARM_UP);
        }
        System.gc();
        ProcessMemory.resetPeak();
        ProcessMemory before = ProcessMemory.now();
        try (ModelCache cache = random.open(tokens, settings)) {
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

    /** Bytes that the session holds after the first decode step. */
    private long read(ModelCache cache, int tokens) {
        try (SessionCache session = cache.newSession()) {
            for (int at = 0; at < tokens; at += RandomTokens.CHUNK) {
                boolean attended = at / RandomTokens.CHUNK % ATTENDED == ATTENDED - 1;
                for (int layer = 0; layer < LAYERS; layer++) {
                    if (attended) {
                        random.attend(session, layer, at, RandomTokens.CHUNK);
                    } else {
                        random.append(session, layer, at, RandomTokens.CHUNK);
                    }
                }
            }
            for (int layer = 0; layer < LAYERS; layer++) {
                random.attend(session, layer, tokens, 1);
            }
            return session.statistics()
                    .stream()
                    .mapToLong(layer -> layer.residentBytes() + layer.offloadedBytes())
                    .sum();
        }
    }
}
