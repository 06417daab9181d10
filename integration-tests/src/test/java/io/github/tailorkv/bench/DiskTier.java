package io.github.tailorkv.bench;

import io.github.tailorkv.config.Settings;
import io.github.tailorkv.spi.ModelCache;
import io.github.tailorkv.spi.SessionCache;
import java.io.IOException;
import java.io.PrintStream;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.Properties;

/**
 * What the disk costs a decode step: retrieval layers with rows in RAM, with rows in a file that the page cache holds, and
 * with a file of which nothing is in RAM at the beginning of each step (Linux; pages are written back and thrown out). It
 * answers whether it would pay to guess dominant tokens a layer ahead, so that reading overlaps with computing.
 *
 * <pre>{@code
 * java --add-modules jdk.incubator.vector --enable-native-access=ALL-UNNAMED \
 *     -cp integration-tests/target/test-classes:$(cat integration-tests/target/benchmark-classpath.txt):<tailorkv.jar> \
 *     io.github.tailorkv.bench.DiskTier 32768 [FOLDER]
 * }</pre>
 */
public final class DiskTier {
    private static final int LAYERS = 4;
    private static final int WARM_UP = 20;
    private static final int MS_SYNC = 4;
    private static final int MADV_PAGEOUT = 21;

    private final RandomTokens random = new RandomTokens(LAYERS);
    private final MethodHandle msync;
    private final MethodHandle madvise;
    private final PrintStream log;

    private DiskTier(PrintStream log) {
        Linker linker = Linker.nativeLinker();
        FunctionDescriptor range = FunctionDescriptor
                .of(ValueLayout.JAVA_INT, ValueLayout.JAVA_LONG, ValueLayout.JAVA_LONG, ValueLayout.JAVA_INT);
        msync = linker.downcallHandle(linker.defaultLookup().findOrThrow("msync"), range);
        madvise = linker.downcallHandle(linker.defaultLookup().findOrThrow("madvise"), range);
        this.log = log;
    }

    /**
     * Measures and prints.
     *
     * @param arguments context length, and the folder of the offload files (the temp folder)
     */
    public static void main(String... arguments) throws Throwable {
        int tokens = arguments.length > 0 ? Integer.parseInt(arguments[0]) : 32_768;
        run(tokens, arguments.length > 1 ? arguments[1] : System.getProperty("java.io.tmpdir"), System.out);
    }

    /** Measures and prints one line for each tier. */
    static void run(int tokens, String folder, PrintStream log) throws Throwable {
        DiskTier tier = new DiskTier(log);
        tier.measure(tokens, "ram", folder);
        tier.measure(tokens, "disk", folder);
    }

    private void measure(int tokens, String offload, String folder) throws Throwable {
        Properties properties = new Properties();
        properties.setProperty("tailorkv.policy", "retrieve");
        properties.setProperty("tailorkv.backend", "panama");
        properties.setProperty("tailorkv.offload", offload);
        properties.setProperty("tailorkv.offload.dir", folder);
        try (ModelCache cache = random.open(tokens, Settings.from(properties));
                SessionCache session = cache.newSession()) {
            for (int at = 0; at < tokens; at += RandomTokens.CHUNK) {
                for (int layer = 0; layer < LAYERS; layer++) {
                    random.append(session, layer, at, RandomTokens.CHUNK);
                }
            }
            steps(session, WARM_UP, false);
            report(offload, steps(session, 40, false));
            if (offload.equals("disk")) {
                report("disk, nothing in RAM", steps(session, 12, true));
                report("disk, again", steps(session, 40, false));
            }
        }
    }

    private double[] steps(SessionCache session, int count, boolean cold) throws Throwable {
        double[] millis = new double[count];
        for (int step = 0; step < count; step++) {
            if (cold) {
                throwOut();
            }
            long nanos = 0;
            int at = session.length();
            for (int layer = 0; layer < LAYERS; layer++) {
                nanos += random.attend(session, layer, at, 1);
            }
            millis[step] = nanos / 1e6 / LAYERS;
        }
        return millis;
    }

    /** Empties the page cache of every offload file of this process. */
    private void throwOut() throws Throwable {
        int found = 0;
        for (String line : mappings()) {
            String range = line.substring(0, line.indexOf(' '));
            long start = Long.parseUnsignedLong(range.substring(0, range.indexOf('-')), 16);
            long bytes = Long.parseUnsignedLong(range.substring(range.indexOf('-') + 1), 16) - start;
            if ((int) msync.invokeExact(start, bytes, MS_SYNC) != 0
                    || (int) madvise.invokeExact(start, bytes, MADV_PAGEOUT) != 0) {
                throw new IllegalStateException("this system does not throw out pages of a mapped file");
            }
            found++;
        }
        if (found == 0) {
            throw new IllegalStateException("no offload file is mapped");
        }
    }

    private static List<String> mappings() throws IOException {
        return Files.readAllLines(Path.of("/proc/self/maps")).stream()
                .filter(line -> line.contains("/tailorkv-") && line.contains(".rows"))
                .toList();
    }

    private void report(String what, double... millis) {
        log.printf(
                Locale.ROOT, "%-22s %6.2f ms a layer (%.2f-%.2f)%n", what, Quantiles.median(millis),
                Quantiles.of(0.1, millis), Quantiles.of(0.9, millis));
    }
}
