package io.github.tailorkv.bench;

import com.github.tjake.jlama.model.AbstractModel;
import com.github.tjake.jlama.model.ModelSupport;
import com.github.tjake.jlama.safetensors.DType;
import io.github.tailorkv.live.ModelMXBean;
import io.github.tailorkv.models.JlamaSession;
import java.lang.management.ManagementFactory;
import java.nio.file.Path;
import java.util.Locale;
import java.util.SplittableRandom;
import java.util.concurrent.Callable;
import javax.management.JMX;
import javax.management.MBeanServer;
import javax.management.ObjectName;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

/**
 * What measuring decode steps costs: one session, random keys and values, sampling switched on and off by turns between
 * blocks of steps from the same position, in one JVM. Run it, after {@code bench.sh} has written its model and {@code mvn
 * package} the jar, from the root of the repository with
 *
 * <pre>{@code
 * java --add-modules jdk.incubator.vector --enable-native-access=ALL-UNNAMED -Xmx4g \
 *     -javaagent:tailorkv-plugin/target/tailorkv.jar -Dtailorkv.enabled=true -Dtailorkv.provider=session-watch \
 *     -cp integration-tests/target/test-classes:$(cat integration-tests/target/benchmark-classpath.txt) \
 *     io.github.tailorkv.bench.SamplingCost --model MODEL_FOLDER --context 8192
 * }</pre>
 *
 * <p>Means, not medians, are what counts, since the cost lies in few steps. On a shared machine the processor time, all
 * threads together, says more than the clock. The difference is the mean over pairs of blocks, with its standard error;
 * the median minds other processes less.
 */
@Command(name = "SamplingCost", mixinStandardHelpOptions = true)
public final class SamplingCost implements Callable<Integer> {
    private static final int UNTIMED = 4;
    private static final int WARM_UP = 8;

    @Option(names = "--model", required = true, description = "Model folder.")
    private Path folder = Path.of("");

    @Option(names = "--context", defaultValue = "8192", description = "Tokens before each block.")
    private int context;

    @Option(names = "--every", defaultValue = "16", description = "One step in so many is measured.")
    private int every;

    @Option(names = "--steps", defaultValue = "16", description = "Steps of a block.")
    private int steps;

    @Option(names = "--pairs", defaultValue = "200", description = "Pairs of blocks.")
    private int pairs;

    private final SplittableRandom random = new SplittableRandom(1);

    /** Of one step of a block. */
    private record Mean(double wallMillis, double cpuMillis) {}

    public static void main(String[] args) {
        System.exit(new CommandLine(new SamplingCost()).execute(args));
    }

    @Override
    public Integer call() throws Exception {
        try (AbstractModel model = ModelSupport.loadModel(folder.toFile(), DType.F32, DType.I8);
                JlamaSession session = JlamaSession.open(model)) {
            int vocabulary = model.getConfig().vocabularySize;
            session.decode(random.nextInt(vocabulary));
            new PluginSyntheticCache(1).fill(session, 1, context);
            MBeanServer server = ManagementFactory.getPlatformMBeanServer();
            ObjectName name = server
                    .queryNames(new ObjectName(ModelMXBean.DOMAIN + ":type=Model,*"), null)
                    .iterator()
                    .next();
            ModelMXBean bean = JMX.newMXBeanProxy(server, name, ModelMXBean.class);
            for (int i = 0; i < WARM_UP; i++) {
                block(session, bean, vocabulary, i % 2 == 0 ? 1 : 0);
            }
            long before = bean.getSampledSteps();
            double[] wall = new double[pairs];
            double[] cpu = new double[pairs];
            double offWall = 0;
            double offCpu = 0;
            for (int pair = 0; pair < pairs; pair++) {
                boolean onFirst = random.nextBoolean();
                Mean first = block(session, bean, vocabulary, onFirst ? every : 0);
                Mean second = block(session, bean, vocabulary, onFirst ? 0 : every);
                Mean on = onFirst ? first : second;
                Mean off = onFirst ? second : first;
                wall[pair] = on.wallMillis - off.wallMillis;
                cpu[pair] = on.cpuMillis - off.cpuMillis;
                offWall += off.wallMillis / pairs;
                offCpu += off.cpuMillis / pairs;
            }
            System.out.printf(
                    Locale.ROOT, "%d steps measured, recall of %d layers%n", bean.getSampledSteps() - before,
                    bean.getLayers().stream().filter(layer -> layer.recallSteps() > 0).count());
            print("clock", offWall, wall);
            print("processor", offCpu, cpu);
        }
        return 0;
    }

    private Mean block(JlamaSession session, ModelMXBean bean, int vocabulary, int sampleEvery) {
        bean.setSampleEvery(0);
        session.position(context);
        for (int i = 0; i < UNTIMED; i++) {
            session.decode(random.nextInt(vocabulary));
        }
        bean.setSampleEvery(sampleEvery);
        var system = (com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
        long cpu = system.getProcessCpuTime();
        long wall = System.nanoTime();
        for (int i = 0; i < steps; i++) {
            session.decode(random.nextInt(vocabulary));
        }
        return new Mean(
                (System.nanoTime() - wall) / 1e6 / steps, (system.getProcessCpuTime() - cpu) / 1e6 / steps);
    }

    private static void print(String what, double off, double[] differences) {
        double mean = 0;
        for (double difference : differences) {
            mean += difference / differences.length;
        }
        double squares = 0;
        for (double difference : differences) {
            squares += (difference - mean) * (difference - mean);
        }
        double error = Math.sqrt(squares / (differences.length - 1) / differences.length);
        System.out.printf(
                Locale.ROOT,
                "%s: %.3f ms a step without sampling; with it %+.2f %% (standard error %.2f), median of the pairs %+.2f %%%n",
                what, off, 100 * mean / off, 100 * error / off, 100 * Quantiles.median(differences) / off);
    }
}
