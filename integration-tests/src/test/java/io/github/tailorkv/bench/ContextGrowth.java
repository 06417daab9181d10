package io.github.tailorkv.bench;

import com.github.tjake.jlama.model.AbstractModel;
import com.github.tjake.jlama.model.ModelSupport;
import com.github.tjake.jlama.safetensors.DType;
import io.github.tailorkv.models.JlamaSession;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Locale;
import java.util.SplittableRandom;
import java.util.concurrent.Callable;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

/**
 * How the time of a decode step grows with the context: a session of random keys and values for each length, all of one
 * model in one JVM, which decode a few steps each by turns, in another order every round. A shared machine is slow for
 * seconds or minutes at a time; here that hits all lengths alike, and what counts is the ratio within a round. Run it, after
 * {@code bench.sh} has written its model and {@code mvn package} the jar, from the root of the repository with
 *
 * <pre>{@code
 * java --add-modules jdk.incubator.vector --enable-native-access=ALL-UNNAMED -Xmx4g \
 *     -javaagent:tailorkv-plugin/target/tailorkv.jar -Dtailorkv.enabled=true -Dtailorkv.provider=session-watch \
 *     -cp integration-tests/target/test-classes:$(cat integration-tests/target/benchmark-classpath.txt) \
 *     io.github.tailorkv.bench.ContextGrowth --model MODEL_FOLDER --contexts 1024,2048,8192,32768
 * }</pre>
 *
 * <p>The first length is what the others are compared with.
 */
@Command(name = "ContextGrowth", mixinStandardHelpOptions = true)
public final class ContextGrowth implements Callable<Integer> {

    /** Steps until a session's own memory, and not the last one's, is in the caches. */
    private static final int UNTIMED = 2;

    private static final int WARM_UP = 6;

    @Option(names = "--model", required = true, description = "Model folder.")
    private Path folder = Path.of("");

    @Option(names = "--contexts", split = ",", defaultValue = "1024,32768", description = "Tokens of each session.")
    private List<Integer> contexts = List.of();

    @Option(names = "--steps", defaultValue = "6", description = "Timed steps of a session in a round.")
    private int steps;

    @Option(names = "--rounds", defaultValue = "40", description = "Rounds.")
    private int rounds;

    private final SplittableRandom random = new SplittableRandom(1);

    public static void main(String[] args) {
        System.exit(new CommandLine(new ContextGrowth()).execute(args));
    }

    @Override
    public Integer call() throws Exception {
        try (AbstractModel model = ModelSupport.loadModel(folder.toFile(), DType.F32, DType.I8)) {
            List<JlamaSession> sessions = new ArrayList<>();
            try {
                for (int context : contexts) {
                    JlamaSession session = JlamaSession.open(model);
                    sessions.add(session);
                    session.decode(token(model));
                    new PluginSyntheticCache(1).fill(session, 1, context);
                }
                measure(model, sessions);
            } finally {
                for (JlamaSession session : sessions) {
                    session.close();
                }
            }
        }
        return 0;
    }

    private int token(AbstractModel model) {
        return random.nextInt(model.getConfig().vocabularySize);
    }

    private void measure(AbstractModel model, List<JlamaSession> sessions) {
        double[][] millis = new double[contexts.size()][rounds];
        double[][] ratios = new double[contexts.size()][rounds];
        List<Integer> order = new ArrayList<>();
        for (int i = 0; i < contexts.size(); i++) {
            order.add(i);
        }
        for (int round = -WARM_UP; round < rounds; round++) {
            double[] now = new double[contexts.size()];
            Collections.shuffle(order, random);
            for (int i : order) {
                now[i] = block(model, sessions.get(i), contexts.get(i));
            }
            for (int i = 0; round >= 0 && i < now.length; i++) {
                millis[i][round] = now[i];
                ratios[i][round] = now[i] / now[0];
            }
        }
        System.out.println("tokens | ms a step, median of the rounds | of the first length: median (quartiles)");
        for (int i = 0; i < contexts.size(); i++) {
            System.out.printf(
                    Locale.ROOT,
                    "%d | %.2f | %.3f (%.3f-%.3f)%n",
                    contexts.get(i),
                    Quantiles.median(millis[i]),
                    Quantiles.median(ratios[i]),
                    Quantiles.of(0.25, ratios[i]),
                    Quantiles.of(0.75, ratios[i]));
        }
    }

    /** Median of a few steps from the same position, in milliseconds. */
    private double block(AbstractModel model, JlamaSession session, int context) {
        session.position(context);
        double[] millis = new double[steps];
        for (int step = -UNTIMED; step < steps; step++) {
            int token = token(model);
            long begin = System.nanoTime();
            session.decode(token);
            if (step >= 0) {
                millis[step] = (System.nanoTime() - begin) * 1e-6;
            }
        }
        return Quantiles.median(millis);
    }
}
