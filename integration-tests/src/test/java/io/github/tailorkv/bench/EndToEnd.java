package io.github.tailorkv.bench;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.tailorkv.bench.ContenderJvm.Outcome;
import io.github.tailorkv.models.Architecture;
import io.github.tailorkv.models.ModelFolders;
import io.github.tailorkv.models.ModelSpec;
import io.github.tailorkv.models.WeightType;
import java.io.IOException;
import java.io.PrintWriter;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.Callable;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/**
 * How fast a whole model is with the plugin, against stock Jlama in the same run. Run it with
 * {@code integration-tests/bench.sh}, for instance
 *
 * <pre>{@code
 * integration-tests/bench.sh --contexts 1k,2k,4k,8k --run stock exact balanced
 * integration-tests/bench.sh --synthetic-prefill --contexts 8k,32k,128k --run stock balanced compact
 * }</pre>
 *
 * <p>Contenders take turns, each time in a fresh JVM, so that none inherits another's compiled code, heap or page cache.
 * All of them see the same tokens. A result is the median over the rounds of the median over the decode steps: on a shared
 * machine only ratios within one run mean much.
 */
@Command(
        name = "bench.sh",
        mixinStandardHelpOptions = true,
        version = "TailorKV end-to-end benchmark for Jlama 0.8.4",
        sortOptions = false,
        usageHelpAutoWidth = true,
        description = {
            "Measures prefill and decode speed of a random-weight model at growing context lengths, with stock Jlama "
                    + "and with the plugin in turn, and prints a table of medians with ratios to stock.",
            ""
        },
        footer = {
            "",
            "Columns: prefill/s is the speed over the last --marginal tokens before the context length, to here/s that "
                    + "over all tokens; decode ms is the median of --decode-steps steps without sampling, first ms the first "
                    + "step there, in which the plugin may settle what it keeps of the prompt; attention ms "
                    + "is that less the same contender's step at an empty cache (floor), which is nearly all matrix "
                    + "products; RSS is the process after decoding, mapped page files included, peak the highest since "
                    + "the previous context length. KV is what the cache holds at the end, by the plugin's own report.",
            "",
            "Examples:",
            "  bench.sh --contexts 1k,2k,4k,8k --run stock exact balanced",
            "  bench.sh --synthetic-prefill --contexts 8k,32k,128k --run stock balanced compact",
            "  bench.sh --shape small --run stock retrieve:policy=retrieve,budget=256"
        })
public final class EndToEnd implements Callable<Integer> {
    private static final ObjectMapper JSON = new ObjectMapper();

    /** A model that can be asked for by name. */
    enum Shape {
        /** 2 layers of 64, F32, 384 tokens: to see that the harness works. */
        TINY,
        /** 4 layers of 512 in 4 bits: a minute's run. */
        SMALL,
        /** Llama-3.2-1B in 4 bits with 32,000 tokens. */
        LLAMA_1B,
        /** Llama-3.2-1B in 4 bits with all its 128,256 tokens. */
        LLAMA_1B_FULL,
        /** Llama-3.1-8B in 4 bits with 32,000 tokens. */
        LLAMA_8B;

        ModelSpec.Builder spec() {
            return switch (this) {
                case TINY -> ModelSpec.builder(Architecture.LLAMA);
                case SMALL -> ModelSpec.builder(Architecture.LLAMA)
                        .layers(4)
                        .heads(8, 2)
                        .headSize(64)
                        .feedForward(1024)
                        .vocabulary(4096)
                        .context(129 * 1024)
                        .type(WeightType.BF16);
                case LLAMA_1B -> ModelSpec.llama1B();
                case LLAMA_1B_FULL -> ModelSpec.llama1B().vocabulary(128_256);
                case LLAMA_8B -> ModelSpec.llama1B().layers(32).heads(32, 8).headSize(128).feedForward(14_336);
            };
        }
    }

    @Spec
    private @Nullable CommandSpec spec;

    @Option(names = "--run",
            arity = "1..*",
            paramLabel = "WHO",
            description = "Contenders: stock, a preset of the plugin (balanced, compact, paper, exact), or "
                    + "NAME:property=value,... with the plugin's properties without their 'tailorkv.' "
                    + "(default: stock exact balanced).")
    private List<String> contenders = List.of("stock", "exact", "balanced");

    @Option(
            names = "--contexts",
            split = ",",
            defaultValue = "1k,2k,4k,8k",
            paramLabel = "N",
            description = "Context lengths in tokens, k for 1024 (default: ${DEFAULT-VALUE}).")
    private List<String> contexts = List.of();

    @Option(
            names = "--synthetic-prefill",
            description = "Fill the cache with random keys and values instead of running the model over a prompt: "
                    + "decode speed at contexts whose prefill would take stock hours. For speed only; random keys are the "
                    + "worst case for retrieval quality.")
    private boolean synthetic;

    @Option(
            names = "--shape",
            defaultValue = "LLAMA_1B",
            description = "The model: ${COMPLETION-CANDIDATES} (default: ${DEFAULT-VALUE}). It is written once: the 1B "
                    + "shapes take 3 GB of disk while they are, 0.9 GB (full vocabulary 1.3) when done.")
    private Shape shape = Shape.LLAMA_1B;

    @Option(names = "--layers", paramLabel = "N", description = "Fewer or more layers than the shape has.")
    private @Nullable Integer layers;

    @Option(names = "--model", paramLabel = "FOLDER", description = "A model folder to use instead of a shape.")
    private @Nullable Path model;

    @Option(
            names = "--models",
            defaultValue = "integration-tests/target/models",
            paramLabel = "FOLDER",
            description = "Where written models are kept (default: ${DEFAULT-VALUE}).")
    private Path models = Path.of("");

    @Option(
            names = "--jar",
            defaultValue = "tailorkv-plugin/target/tailorkv.jar",
            paramLabel = "FILE",
            description = "The built plugin (default: ${DEFAULT-VALUE}).")
    private Path jar = Path.of("");

    @Option(
            names = "--rounds",
            defaultValue = "2",
            paramLabel = "N",
            description = "Turns of each contender (default: ${DEFAULT-VALUE}).")
    private int rounds;

    @Option(
            names = "--decode-steps",
            defaultValue = "24",
            paramLabel = "N",
            description = "Timed decode steps at each context length (default: ${DEFAULT-VALUE}).")
    private int decodeSteps;

    @Option(
            names = "--marginal",
            defaultValue = "512",
            paramLabel = "N",
            description = "Tokens before a context length whose prefill counts as the speed there (default: "
                    + "${DEFAULT-VALUE}).")
    private int marginal;

    @Option(
            names = "--warm-up",
            defaultValue = "2048",
            paramLabel = "N",
            description = "Unmeasured prompt tokens first (default: ${DEFAULT-VALUE}).")
    private int warmUp;

    @Option(
            names = "--settle",
            defaultValue = "10",
            paramLabel = "SECONDS",
            description = "Time for decoding what is timed afterwards, over and over, at each context length: until the JVM "
                    + "has compiled it, its compiler competes for the processors (default: ${DEFAULT-VALUE}).")
    private int settle;

    @Option(
            names = "--threads",
            defaultValue = "0",
            paramLabel = "N",
            description = "Threads that the application gives Jlama; by default, and where an application says nothing, "
                    + "Jlama takes half of the processors.")
    private int threads;

    @Option(
            names = "--limit",
            defaultValue = "1200",
            paramLabel = "SECONDS",
            description = "A contender begins no further context length after this time (default: ${DEFAULT-VALUE}).")
    private int limit;

    @Option(
            names = "--heap",
            defaultValue = "4g",
            paramLabel = "SIZE",
            description = "Java heap of each child (default: ${DEFAULT-VALUE}).")
    private String heap = "";

    @Option(names = "--jvm", paramLabel = "FLAG", description = "A further flag for each child's JVM; can be repeated.")
    private List<String> flags = List.of();

    @Option(
            names = "--seed",
            defaultValue = "1",
            paramLabel = "N",
            description = "Of tokens, keys and values (default: ${DEFAULT-VALUE}).")
    private long seed;

    @Option(
            names = "--json",
            defaultValue = "integration-tests/target/end-to-end.jsonl",
            paramLabel = "FILE",
            description = "Appends a line for the machine, each measurement and each child (default: ${DEFAULT-VALUE}).")
    private Path json = Path.of("");

    public static void main(String[] args) {
        System.exit(run(args));
    }

    /** The exit code of a run with these arguments. */
    static int run(String... args) {
        return new CommandLine(new EndToEnd()).setCaseInsensitiveEnumValuesAllowed(true).execute(args);
    }

    @Override
    public Integer call() throws IOException, InterruptedException {
        CommandSpec command = Objects.requireNonNull(spec);
        PrintWriter out = command.commandLine().getOut();
        PrintWriter log = command.commandLine().getErr();
        List<Configuration> configurations = new ArrayList<>();
        List<Integer> lengths = new ArrayList<>();
        try {
            contenders.forEach(text -> configurations.add(Configuration.parse(text)));
            contexts.forEach(text -> lengths.add(tokens(text)));
        } catch (IllegalArgumentException e) {
            throw new ParameterException(command.commandLine(), e.getMessage(), e);
        }
        lengths.sort(null);
        int processors = Runtime.getRuntime().availableProcessors();
        if (threads < 0 || threads > processors) {
            throw new ParameterException(
                    command.commandLine(), "--threads " + threads + ": there are " + processors + " processors");
        }
        if (configurations.stream().anyMatch(c -> !c.stock()) && !Files.isRegularFile(jar)) {
            throw new ParameterException(command.commandLine(), jar + " is not there; build it with 'mvn package'");
        }

        Path folder = modelFolder(log);
        List<Measurement> measurements = new ArrayList<>();
        Map<String, List<Outcome>> outcomes = new LinkedHashMap<>();
        ContenderJvm child = new ContenderJvm(jar.toAbsolutePath(), heap, flags, log);
        append(machine(folder));
        for (int round = 1; round <= rounds; round++) {
            for (Configuration configuration : configurations) {
                log.printf(Locale.ROOT, "round %d of %d: %s%n", round, rounds, configuration.name());
                RunRequest request = new RunRequest(
                        configuration.name(),
                        configuration.stock(),
                        round,
                        folder.toString(),
                        lengths,
                        decodeSteps,
                        marginal,
                        threads,
                        warmUp,
                        settle,
                        synthetic,
                        limit,
                        seed);
                Outcome outcome = child.run(request, configuration, measurement -> {
                    measurements.add(measurement);
                    log.println("  " + measurement.brief());
                    log.flush();
                });
                outcomes.computeIfAbsent(configuration.name(), name -> new ArrayList<>()).add(outcome);
                ObjectNode line = JSON.valueToTree(outcome.summary());
                append(configuration.stock() ? line : line.set("report", outcome.report()));
            }
        }
        for (Measurement measurement : measurements) {
            append(measurement);
        }
        new ResultTable(configurations, measurements, outcomes).print(out);
        return 0;
    }

    private Path modelFolder(PrintWriter log) throws IOException {
        if (model != null) {
            return model;
        }
        ModelSpec.Builder builder = shape.spec();
        if (layers != null) {
            builder.layers(layers);
        }
        log.println("model " + shape + " in " + models + " (written now if it is not there)");
        log.flush();
        ModelFolders folders = new ModelFolders(models);
        return shape == Shape.TINY ? folders.plain(builder.build()) : folders.quantized(builder.build());
    }

    private static int tokens(String text) {
        boolean thousands = text.endsWith("k");
        try {
            int count = Integer.parseInt(thousands ? text.substring(0, text.length() - 1) : text);
            if (count > 0) {
                return thousands ? Math.multiplyExact(count, 1024) : count;
            }
        } catch (NumberFormatException e) {
            // the same complaint as for a number that is not positive
        }
        throw new IllegalArgumentException("'" + text + "' is no context length; write 4096 or 4k");
    }

    private ObjectNode machine(Path folder) throws IOException {
        ObjectNode line = JSON.createObjectNode();
        line.put("time", Instant.now().truncatedTo(ChronoUnit.SECONDS).toString());
        line.put("cpu", cpu());
        line.put("cores", Runtime.getRuntime().availableProcessors());
        line.put("load", ManagementFactory.getOperatingSystemMXBean().getSystemLoadAverage());
        line.put("java", System.getProperty("java.vm.version"));
        line.put("model", folder.getFileName().toString());
        line.put("arguments", String.join(" ", Objects.requireNonNull(spec).commandLine().getParseResult()
                .originalArgs()));
        return line;
    }

    private static String cpu() throws IOException {
        Path info = Path.of("/proc/cpuinfo");
        if (!Files.isReadable(info)) {
            return System.getProperty("os.arch");
        }
        return Files.readAllLines(info)
                .stream()
                .filter(line -> line.startsWith("model name"))
                .map(line -> line.substring(line.indexOf(':') + 1).strip())
                .findFirst()
                .orElse(System.getProperty("os.arch"));
    }

    private void append(Object line) throws IOException {
        Path parent = json.toAbsolutePath().getParent();
        if (parent != null) {
            Files.createDirectories(parent);
        }
        Files.writeString(
                json,
                JSON.writeValueAsString(line) + "\n",
                StandardOpenOption.CREATE,
                StandardOpenOption.APPEND);
    }
}
