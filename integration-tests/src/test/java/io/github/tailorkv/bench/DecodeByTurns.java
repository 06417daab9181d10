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
 * The time of a decode step at several context lengths and under several settings, all in one JVM: a session of random keys
 * and values for each pair, and they decode a few steps each by turns, in another order every round. A shared machine is
 * slow for seconds or minutes at a time; here that hits all of them alike, and what counts is the ratio within a round. Run
 * it, after {@code bench.sh} has written its model and {@code mvn package} the jar, from the root of the repository with
 *
 * <pre>{@code
 * java --add-modules jdk.incubator.vector --enable-native-access=ALL-UNNAMED -Xmx4g \
 *     -javaagent:tailorkv-plugin/target/tailorkv.jar -Dtailorkv.enabled=true -Dtailorkv.provider=session-watch \
 *     -cp integration-tests/target/test-classes:$(cat integration-tests/target/benchmark-classpath.txt) \
 *     io.github.tailorkv.bench.DecodeByTurns --model MODEL_FOLDER --contexts 1024,2048,8192,32768 --run exact balanced
 * }</pre>
 *
 * <p>The first length is what the others are compared with, and the first of the settings likewise.
 */
@Command(name = "DecodeByTurns", mixinStandardHelpOptions = true)
public final class DecodeByTurns implements Callable<Integer> {

    /** Steps until a session's own memory, and not the last one's, is in the caches. */
    private static final int UNTIMED = 2;

    private static final int WARM_UP = 6;

    @Option(names = "--model", required = true, description = "Model folder.")
    private Path folder = Path.of("");

    @Option(names = "--run",
            arity = "1..*",
            description = "Settings: a preset, or NAME:property=value,... without the properties' 'tailorkv.'.")
    private List<String> settings = List.of("balanced");

    @Option(names = "--contexts", split = ",", defaultValue = "1024,32768", description = "Tokens of each session.")
    private List<Integer> contexts = List.of();

    @Option(names = "--steps", defaultValue = "6", description = "Timed steps of a session in a round.")
    private int steps;

    @Option(names = "--rounds", defaultValue = "40", description = "Rounds.")
    private int rounds;

    private final SplittableRandom random = new SplittableRandom(1);

    /** A session and what is known of it. */
    private record Turn(String settings, int context, AbstractModel model, JlamaSession session) {}

    public static void main(String[] args) {
        System.exit(new CommandLine(new DecodeByTurns()).execute(args));
    }

    @Override
    public Integer call() throws Exception {
        List<AbstractModel> models = new ArrayList<>();
        List<Turn> turns = new ArrayList<>();
        try {
            for (String words : settings) {
                Configuration configuration = Configuration.parse(words);
                AbstractModel model = load(configuration);
                models.add(model);
                for (int context : contexts) {
                    JlamaSession session = JlamaSession.open(model);
                    turns.add(new Turn(configuration.name(), context, model, session));
                    session.decode(token(model));
                    new PluginSyntheticCache(1).fill(session, 1, context);
                }
            }
            measure(turns);
        } finally {
            turns.forEach(turn -> turn.session().close());
            models.forEach(AbstractModel::close);
        }
        return 0;
    }

    /** The plugin reads its properties when a model is loaded. */
    private AbstractModel load(Configuration configuration) {
        if (configuration.stock()) {
            throw new IllegalArgumentException("stock Jlama cannot run in a JVM with the plugin: use bench.sh");
        }
        configuration.properties().forEach(System::setProperty);
        AbstractModel model = ModelSupport.loadModel(folder.toFile(), DType.F32, DType.I8);
        configuration.properties().keySet().forEach(System::clearProperty);
        return model;
    }

    private int token(AbstractModel model) {
        return random.nextInt(model.getConfig().vocabularySize);
    }

    private void measure(List<Turn> turns) {
        double[][] millis = new double[turns.size()][rounds];
        List<Integer> order = new ArrayList<>();
        for (int i = 0; i < turns.size(); i++) {
            order.add(i);
        }
        for (int round = -WARM_UP; round < rounds; round++) {
            Collections.shuffle(order, random);
            for (int i : order) {
                double median = block(turns.get(i));
                if (round >= 0) {
                    millis[i][round] = median;
                }
            }
        }
        System.out
                .println("settings | tokens | ms a step, median of the rounds | of the first length: median (quartiles)"
                        + " | of the first settings: median (quartiles)");
        int lengths = contexts.size();
        for (int i = 0; i < turns.size(); i++) {
            System.out.printf(
                    Locale.ROOT,
                    "%s | %d | %.2f | %s | %s%n",
                    turns.get(i).settings(),
                    turns.get(i).context(),
                    Quantiles.median(millis[i]),
                    ratio(millis[i], millis[i - i % lengths]),
                    ratio(millis[i], millis[i % lengths]));
        }
    }

    private static String ratio(double[] millis, double[] first) {
        double[] ratios = new double[millis.length];
        for (int round = 0; round < ratios.length; round++) {
            ratios[round] = millis[round] / first[round];
        }
        return String.format(
                Locale.ROOT,
                "%.3f (%.3f-%.3f)",
                Quantiles.median(ratios),
                Quantiles.of(0.25, ratios),
                Quantiles.of(0.75, ratios));
    }

    /** Median of a few steps from the same position, in milliseconds. */
    private double block(Turn turn) {
        turn.session().position(turn.context());
        double[] millis = new double[steps];
        for (int step = -UNTIMED; step < steps; step++) {
            int token = token(turn.model());
            long begin = System.nanoTime();
            turn.session().decode(token);
            if (step >= 0) {
                millis[step] = (System.nanoTime() - begin) * 1e-6;
            }
        }
        return Quantiles.median(millis);
    }
}
