package io.github.tailorkv.bench;

import io.github.tailorkv.config.Settings;
import io.github.tailorkv.spi.ModelCache;
import io.github.tailorkv.spi.SessionCache;
import java.io.PrintStream;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.Locale;
import java.util.Properties;

/**
 * How long one layer attends for one token once everything is compiled, at several lengths in turn: for comparing settings
 * and builds on a machine that is never quiet. A whole model spends most of a step on products that are none of ours and
 * swing by more than what is looked for.
 *
 * <p>Between two calls a buffer larger than the caches is read, as in a real step the weights of the model pass through
 * them.
 *
 * <pre>{@code
 * java --add-modules jdk.incubator.vector --enable-native-access=ALL-UNNAMED \
 *     -cp integration-tests/target/test-classes:<tailorkv.jar>:$(cat integration-tests/target/benchmark-classpath.txt) \
 *     io.github.tailorkv.bench.LayerSteps 2048,8192,32768 1200 policy=retrieve,budget=512 policy=exact
 * }</pre>
 */
public final class LayerSteps {
    private static final int SWEEP_BYTES = 64 << 20;
    private static final int LINE = 64;

    /** What was read of the buffer, so that reading it is not for nothing. */
    @SuppressWarnings("unused")
    private static long swept;

    private LayerSteps() {}

    /**
     * Measures and prints.
     *
     * @param arguments lengths, steps at each, and settings such as {@code policy=retrieve,budget=512}
     */
    public static void main(String... arguments) {
        int[] lengths = Arrays.stream(arguments[0].split(",", -1)).mapToInt(Integer::parseInt).toArray();
        for (int i = 2; i < arguments.length; i++) {
            run(lengths, Integer.parseInt(arguments[1]), arguments[i], System.out);
        }
    }

    /** Measures one line: of the second half of the steps, median and the tenth of them that was fastest. */
    static void run(int[] lengths, int steps, String words, PrintStream log) {
        RandomTokens random = new RandomTokens(1);
        SessionCache[] sessions = new SessionCache[lengths.length];
        double[][] millis = new double[lengths.length][steps];
        try (ModelCache cache = random.open(Arrays.stream(lengths).max().orElseThrow(), settings(words));
                Arena arena = Arena.ofConfined()) {
            for (int i = 0; i < lengths.length; i++) {
                sessions[i] = cache.newSession();
                for (int at = 0; at < lengths[i]; at += RandomTokens.CHUNK) {
                    random.append(sessions[i], 0, at, Math.min(RandomTokens.CHUNK, lengths[i] - at));
                }
            }
            MemorySegment buffer = arena.allocate(SWEEP_BYTES, LINE);
            for (int step = 0; step < steps; step++) {
                for (int i = 0; i < lengths.length; i++) {
                    sweep(buffer);
                    millis[i][step] = random.attend(sessions[i], 0, lengths[i], 1) / 1e6;
                    sessions[i].truncate(lengths[i]);
                }
            }
            for (SessionCache session : sessions) {
                session.close();
            }
        }
        StringBuilder line = new StringBuilder(String.format(Locale.ROOT, "%-36s", words));
        for (int i = 0; i < lengths.length; i++) {
            double[] settled = Arrays.copyOfRange(millis[i], steps / 2, steps);
            line.append(String.format(
                    Locale.ROOT, "  %,7d %.3f ms (%.3f)", lengths[i], Quantiles.median(settled),
                    Quantiles.of(0.1, settled)));
        }
        log.println(line);
    }

    private static Settings settings(String words) {
        Properties properties = new Properties();
        properties.setProperty("tailorkv.backend", "panama");
        for (String word : words.split(",", -1)) {
            int equals = word.indexOf('=');
            properties.setProperty("tailorkv." + word.substring(0, equals), word.substring(equals + 1));
        }
        return Settings.from(properties);
    }

    private static void sweep(MemorySegment buffer) {
        long sum = 0;
        for (long at = 0; at < buffer.byteSize(); at += LINE) {
            sum += buffer.get(ValueLayout.JAVA_BYTE, at);
        }
        swept = sum;
    }
}
