package io.github.tailorkv.bench;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.github.tjake.jlama.model.AbstractModel;
import com.github.tjake.jlama.model.ModelSupport;
import com.github.tjake.jlama.safetensors.Config;
import com.github.tjake.jlama.safetensors.DType;
import com.github.tjake.jlama.tensor.operations.TensorOperationsProvider;
import com.github.tjake.jlama.util.PhysicalCoreExecutor;
import io.github.tailorkv.models.JlamaSession;
import java.io.File;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Optional;
import java.util.SplittableRandom;
import org.jspecify.annotations.Nullable;

/**
 * The child process of {@link EndToEnd}: one contender, one model, one pass over the context lengths. It does not know
 * whether the plugin is there; it loads the model through Jlama's public API and feeds it tokens as {@code generate} does.
 * Results go to the standard output, a {@link Measurement} a line and a {@link RunSummary} last.
 */
final class MeasuredRun {
    /** Jlama's own chunk length: a prompt is fed in these, so that each can be timed. */
    private static final int CHUNK = 256;
    private static final int FLOOR_REPEATS = 3;
    private static final double NANOS = 1e9;

    /** Decode steps right before the timed ones, of which only the first is timed, by itself. */
    private static final int SETTLING_STEPS = 8;

    private static final int WARM_UP_STEPS = 64;

    private static final ObjectMapper JSON = new ObjectMapper();
    private static final PrintStream OUT = new PrintStream(System.out, true, StandardCharsets.UTF_8);

    private final RunRequest request;
    private final AbstractModel model;
    private final Config config;
    private final SplittableRandom random;
    private final double loadSeconds;
    private final long start = System.nanoTime();

    private double prefillSeconds;
    private int prefilled;
    private long peakResident;

    private MeasuredRun(RunRequest request, AbstractModel model, double loadSeconds) {
        this.request = request;
        this.model = model;
        this.config = model.getConfig();
        this.random = new SplittableRandom(request.seed());
        this.loadSeconds = loadSeconds;
    }

    /** Takes one argument, the {@link RunRequest} as JSON. */
    public static void main(String[] args) throws IOException {
        // A benchmark that is stopped must not leave this behind, at work for nobody and in the way of whatever is timed next.
        ProcessHandle.current().parent().ifPresent(parent -> {
            var _ = parent.onExit().thenRun(() -> Runtime.getRuntime().halt(1));
        });
        RunRequest request = JSON.readValue(args[0], RunRequest.class);
        long start = System.nanoTime();
        Optional<Integer> threads = request.threads() == 0 ? Optional.empty() : Optional.of(request.threads());
        try (AbstractModel model = ModelSupport.loadModel(
                new File(request.model()), null, DType.F32, DType.I8, Optional.empty(), threads)) {
            new MeasuredRun(request, model, (System.nanoTime() - start) / NANOS).run();
        }
    }

    private void run() throws IOException {
        int last = request.contexts().getLast() + SETTLING_STEPS + request.decodeSteps();
        if (last > config.contextLength) {
            throw new IllegalArgumentException(
                    "The model's context of " + config.contextLength + " tokens has no room for " + last);
        }
        warmUp();
        double floorPrefill = floorPrefill();
        double floorDecode = floorDecode();
        ProcessMemory.resetPeak();
        int tokens;
        try (JlamaSession session = JlamaSession.open(model)) {
            SyntheticCache synthetic = request.synthetic() ? syntheticCache(session) : null;
            for (int context : request.contexts()) {
                if (!measure(session, synthetic, context)) {
                    break;
                }
            }
            tokens = session.position();
        }
        emit(
                new RunSummary(
                        request.configuration(),
                        request.round(),
                        TensorOperationsProvider.get().name(),
                        PhysicalCoreExecutor.instance.get().getCoreCount(),
                        loadSeconds,
                        floorPrefill,
                        floorDecode,
                        tokens,
                        2L * config.numberOfLayers * config.kvLength * Float.BYTES * tokens,
                        peakResident));
    }

    /** Runs every path often enough for the compilers to be done with it. */
    private void warmUp() {
        try (JlamaSession session = JlamaSession.open(model)) {
            for (int done = 0; done < request.warmUp(); done += CHUNK) {
                session.prefill(tokens(CHUNK));
            }
            decode(session, WARM_UP_STEPS);
        }
    }

    private double floorPrefill() {
        double[] seconds = new double[FLOOR_REPEATS];
        for (int i = 0; i < FLOOR_REPEATS; i++) {
            try (JlamaSession session = JlamaSession.open(model)) {
                seconds[i] = prefillChunk(session, CHUNK);
            }
        }
        return CHUNK / Quantiles.median(seconds);
    }

    private double floorDecode() throws IOException {
        try (JlamaSession session = JlamaSession.open(model)) {
            return decodeAndReport(session, Measurement.FLOOR, null, 0);
        }
    }

    /** False if the time was up before the context length was reached. */
    private boolean measure(JlamaSession session, @Nullable SyntheticCache synthetic, int context) throws IOException {
        long begin = System.nanoTime();
        Double marginal = null;
        if (synthetic != null) {
            synthetic.fill(session, session.position(), context);
            session.position(context);
        } else {
            marginal = prefillTo(session, context);
            if (session.position() < context) {
                return false;
            }
        }
        double seconds = (System.nanoTime() - begin) / NANOS;
        decodeAndReport(session, context, marginal, seconds);
        ProcessMemory.resetPeak();
        return !timeIsUp();
    }

    /** Tokens/s over the last tokens before the context length. */
    private double prefillTo(JlamaSession session, int context) {
        int marginalTokens = 0;
        double marginalSeconds = 0;
        while (session.position() < context && !timeIsUp()) {
            int count = Math.min(CHUNK, context - session.position());
            double seconds = prefillChunk(session, count);
            prefillSeconds += seconds;
            prefilled += count;
            if (session.position() > context - request.marginal()) {
                marginalTokens += count;
                marginalSeconds += seconds;
            }
        }
        return marginalTokens / marginalSeconds;
    }

    private double prefillChunk(JlamaSession session, int count) {
        int[] tokens = tokens(count);
        long begin = System.nanoTime();
        session.prefill(tokens);
        return (System.nanoTime() - begin) / NANOS;
    }

    /** Milliseconds of each step. */
    private double[] decode(JlamaSession session, int count) {
        double[] steps = new double[count];
        for (int i = 0; i < steps.length; i++) {
            int token = tokens(1)[0];
            long begin = System.nanoTime();
            session.decode(token);
            steps[i] = (System.nanoTime() - begin) * 1e3 / NANOS;
        }
        return steps;
    }

    /** The median of the timed steps. */
    private double decodeAndReport(JlamaSession session, int context, @Nullable Double marginal, double seconds)
            throws IOException {
        double first = decode(session, 1)[0];
        settle(session);
        decode(session, SETTLING_STEPS - 1);
        double[] steps = decode(session, request.decodeSteps());
        ProcessMemory memory = ProcessMemory.now();
        peakResident = Math.max(peakResident, memory.peakResident());
        emit(
                new Measurement(
                        request.configuration(),
                        request.round(),
                        context,
                        request.synthetic(),
                        marginal,
                        marginal == null ? null : prefilled / prefillSeconds,
                        first,
                        Quantiles.median(steps),
                        Quantiles.of(0.1, steps),
                        Quantiles.of(0.9, steps),
                        memory.resident(),
                        memory.residentFiles(),
                        memory.peakResident(),
                        memory.peakHeap(),
                        seconds));
        return Quantiles.median(steps);
    }

    /** Decodes over and over, for the time that was asked for, where steps will be timed. */
    private void settle(JlamaSession session) {
        // How many tokens that takes depends on the contender; those that are timed are the same for all of them.
        SplittableRandom tokens = new SplittableRandom(request.seed());
        int position = session.position();
        long begin = System.nanoTime();
        while (System.nanoTime() - begin < request.settleSeconds() * NANOS) {
            if (session.position() == position + SETTLING_STEPS + request.decodeSteps()) {
                session.position(position);
            }
            session.decode(tokens.nextInt(config.vocabularySize / 2, config.vocabularySize));
        }
        session.position(position);
    }

    private SyntheticCache syntheticCache(JlamaSession session) {
        if (request.stock()) {
            return new StockSyntheticCache(model, request.seed());
        }
        // The plugin's session begins with the first token.
        session.decode(tokens(1)[0]);
        return new PluginSyntheticCache(request.seed());
    }

    private int[] tokens(int count) {
        return random.ints(count, config.vocabularySize / 2, config.vocabularySize).toArray();
    }

    private boolean timeIsUp() {
        return System.nanoTime() - start > request.limitSeconds() * NANOS;
    }

    private static void emit(Object line) throws IOException {
        OUT.println(JSON.writeValueAsString(line));
    }
}
