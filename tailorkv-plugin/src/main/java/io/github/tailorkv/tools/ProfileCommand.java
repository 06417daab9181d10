package io.github.tailorkv.tools;

import io.github.tailorkv.config.LayerKind;
import io.github.tailorkv.config.Policy;
import io.github.tailorkv.config.Profile;
import io.github.tailorkv.config.Settings;
import io.github.tailorkv.jlama.CacheVariant;
import io.github.tailorkv.jlama.LoadedModel;
import io.github.tailorkv.jlama.TokenSession;
import io.github.tailorkv.kernels.KernelLadder;
import io.github.tailorkv.spi.LayerStatistics;
import io.github.tailorkv.spi.ModelShape;
import io.github.tailorkv.tools.evaluate.Logits;
import io.github.tailorkv.tools.html.Page;
import io.github.tailorkv.tools.tasks.TaskFamily;
import io.github.tailorkv.tools.tasks.TaskGenerator;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.LocalDate;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Properties;
import java.util.function.IntFunction;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/** Finds out which layers of a model attend densely, and writes the profile beside the model. */
@Command(name = "profile",
        description = {
            "Runs a model over texts and measures the dense preference P of each layer: the share of attention outside "
                    + "the top 5 %% of the tokens. Layers above the threshold are to be quantized, the others attend to "
                    + "their dominant tokens only.",
            "", "Writes tailorkv.json beside the model, where -Dtailorkv.policy=auto and profile look for it.", ""})
final class ProfileCommand extends ModelCommand {
    /** Shorter texts are attended to densely by every layer. A prompt that is made up has at least four fifths of this. */
    private static final int LEAST_TOKENS = 1280;

    /** For short texts: dense preference does not depend on the budget, but from which length on it is judged does. */
    private static final int SMALL_BUDGET = 256;

    private static final int MOST_CONTEXT = 1 << 24;

    /** Steps that are timed. */
    private static final int STEPS = 17;

    /** Of different attention density. */
    private static final List<TaskFamily> SAMPLES = List.of(
            TaskFamily.NEEDLE_NOISE, TaskFamily.NEEDLE_ESSAY, TaskFamily.MANY_NEEDLES, TaskFamily.COMMON_WORDS,
            TaskFamily.FACTS);

    @Option(names = "--text", paramLabel = "FILE", arity = "1..*",
            description = "Texts to run, in UTF-8. Default: five made-up ones of different attention density.")
    private List<Path> files = List.of();

    @Option(names = "--tokens", paramLabel = "N", arity = "1..*", defaultValue = "2048,4096", split = ",",
            description = "Lengths to run them at (${DEFAULT-VALUE}). Longer texts are cut.")
    private int[] lengths = {};

    @Option(names = "--heads", description = "Also measure each head of each layer.")
    private boolean heads;

    @Option(names = "--contexts", paramLabel = "N", arity = "1..*", split = ",",
            defaultValue = "2048,8192,32768,131072",
            description = "Context lengths to foretell memory and speed for (${DEFAULT-VALUE}).")
    private int[] contexts = {};

    @Option(names = "--no-speed", description = "Foretell no speed, and so measure none.")
    private boolean noSpeed;

    @Option(names = "--threshold", paramLabel = "TAU", defaultValue = "0.2",
            description = "Dense preference above which a layer is quantized (${DEFAULT-VALUE}).")
    private double threshold;

    @Option(names = "--seed", paramLabel = "S", defaultValue = "1",
            description = "Of the made-up texts (${DEFAULT-VALUE}).")
    private long seed;

    @Option(names = {"-o", "--output"}, paramLabel = "FILE",
            description = "Where the profile goes. Default: tailorkv.json beside the model.")
    private @Nullable Path output;

    @Option(names = "--html", paramLabel = "FILE",
            description = "Where the report with charts goes. Default: beside the profile, ending in .html.")
    private @Nullable Path html;

    /** By layer and query head, the sums over the texts. */
    private double[][] headSums = {};

    /** What the model took for a token behind the last text, to check the estimate by. */
    private List<LayerKind> checkedKinds = List.of();
    private int checkedTokens;
    private double checkedMillis;

    @Mixin
    private Pictures pictures = new Pictures();

    private record Sample(String name, List<Integer> tokens) {
        static Sample of(String name, int[] tokens, int most) {
            return new Sample(name, Arrays.stream(tokens).limit(most).boxed().toList());
        }
    }

    @Override
    void run() throws ToolException, IOException {
        Path file = output != null ? output : directory().resolve(Profile.FILE);
        String name = String.valueOf(file.getFileName());
        Path page = html != null ? html : file.resolveSibling(name.replaceFirst("\\.json$", "") + ".html");
        if (Arrays.stream(contexts).anyMatch(tokens -> tokens < 1 || tokens > MOST_CONTEXT)) {
            throw new ToolException("--contexts takes lengths from 1 to " + MOST_CONTEXT);
        }
        try (LoadedModel model = load()) {
            checkWritable(file);
            checkWritable(page);
            pictures.check();
            List<Sample> samples = samples(model);
            KeyProbe probe = new KeyProbe(model.hybrid());
            List<Profile.Text> texts = measure(model, probe, samples);
            Profile profile = profile(model, texts);
            print(profile);
            profile.write(file);
            Forecast forecast = forecast(model, profile);
            forecast.print(out());
            Page report = new ProfileReport(profile, probe.magnitudes(), forecast).page();
            Files.writeString(page, report.html());
            pictures.write(report, out());
            out().println("Wrote " + file + " and " + page + ".");
        }
    }

    private List<Sample> samples(LoadedModel model) throws ToolException, IOException {
        int most = model.shape().contextLength() - 1;
        List<Sample> samples = new ArrayList<>();
        Map<String, int[]> documents = documents(model);
        TaskGenerator generator = new TaskGenerator(text -> model.encode(text).length);
        for (int length : lengths) {
            int tokens = Math.min(length, most);
            if (tokens < LEAST_TOKENS) {
                throw new ToolException("--tokens " + length + " is too short to judge by, or the model's context of "
                        + model.shape().contextLength() + " is; it takes at least " + LEAST_TOKENS);
            }
            if (files.isEmpty()) {
                for (TaskFamily family : SAMPLES) {
                    int[] prompt = prompt(model, generator, family, tokens);
                    samples.add(Sample.of(family.label() + " " + length, prompt, most));
                }
            }
            documents.forEach((name, all) -> {
                Sample sample = Sample.of(name + " " + length, all, tokens);
                if (samples.stream().noneMatch(other -> other.tokens.equals(sample.tokens))) {
                    samples.add(sample);
                }
            });
        }
        return samples;
    }

    /** Some families do not fill the length that they are given. */
    private int[] prompt(LoadedModel model, TaskGenerator generator, TaskFamily family, int tokens) {
        for (int length = tokens;; length += tokens / 4) {
            int[] prompt = model.prompt(generator.task(family, length, seed, 0).prompt());
            if (prompt.length > 0.8 * tokens) {
                return prompt;
            }
        }
    }

    private Map<String, int[]> documents(LoadedModel model) throws ToolException, IOException {
        Map<String, int[]> documents = new HashMap<>();
        for (Path file : files) {
            String text = SampleText.read(file);
            int[] tokens = model.document(text);
            if (tokens.length < LEAST_TOKENS) {
                throw new ToolException(file + " has only " + tokens.length + " tokens; to judge layers by, a text "
                        + "needs at least " + LEAST_TOKENS);
            }
            documents.put(String.valueOf(file.getFileName()), tokens);
        }
        return documents;
    }

    private List<Profile.Text> measure(LoadedModel model, KeyProbe probe, List<Sample> samples) throws ToolException {
        Properties properties = new Properties();
        properties.setProperty("tailorkv.policy", "online");
        properties.setProperty("tailorkv.threshold", Double.toString(threshold));
        if (heads) {
            // Of the GPU's sessions no heads are known.
            properties.setProperty("tailorkv.backend", KernelLadder.choose("auto").name());
            headSums = new double[model.shape().layers()][model.shape().attention().heads()];
        }
        Settings settings = Settings.from(properties);
        int shortest = samples.stream().mapToInt(sample -> sample.tokens.size()).min().orElseThrow();
        if (shortest < settings.leastTokensToJudge()) {
            properties.setProperty("tailorkv.budget", Integer.toString(SMALL_BUDGET));
            settings = Settings.from(properties);
        }
        List<Profile.Text> texts = new ArrayList<>();
        Progress progress = new Progress(err(), samples.stream().mapToInt(sample -> sample.tokens.size()).sum());
        try (CacheVariant variant = model.variant(settings, probe)) {
            for (Sample sample : samples) {
                progress.show(sample.name);
                try (TokenSession session = variant.start()) {
                    float[] logits = session.prefill(sample.tokens.stream().mapToInt(token -> token).toArray());
                    session.step(Logits.greatest(logits));
                    List<Double> preferences = session.statistics().stream().map(LayerStatistics::densePreference)
                            .toList();
                    if (preferences.stream().anyMatch(value -> value.isNaN())) {
                        throw new ToolException(sample.name + " is too short to judge layers by");
                    }
                    texts.add(new Profile.Text(sample.name, sample.tokens.size(), preferences));
                    addHeads(probe.headPreferences());
                    if (!noSpeed && sample.equals(samples.getLast())) {
                        stepMillis(session);
                        checkedMillis = stepMillis(session);
                        checkedTokens = session.position();
                        checkedKinds = session.statistics().stream()
                                .map(layer -> LayerKind.valueOf(layer.kind().toUpperCase(Locale.ROOT))).toList();
                    }
                }
                progress.advance(sample.tokens.size());
            }
        } finally {
            progress.end();
        }
        return texts;
    }

    /** The median of some steps. */
    private static double stepMillis(TokenSession session) {
        double[] millis = new double[STEPS];
        for (int i = 0; i < STEPS; i++) {
            long start = System.nanoTime();
            session.step(i + 1);
            millis[i] = (System.nanoTime() - start) / 1e6;
        }
        Arrays.sort(millis);
        return millis[STEPS / 2];
    }

    private Forecast forecast(LoadedModel model, Profile profile) {
        Forecast forecast = new Forecast(model.shape(), profile, contexts);
        if (noSpeed) {
            return forecast;
        }
        try (CacheVariant variant = model.variant(Settings.preset("exact"));
                TokenSession session = variant.start()) {
            int[] few = new int[16];
            Arrays.setAll(few, i -> i + 1);
            session.prefill(few);
            stepMillis(session);
            return forecast.withSpeed(stepMillis(session), session.position())
                    .checked(checkedKinds, checkedTokens, checkedMillis);
        }
    }

    private void addHeads(List<List<Double>> preferences) {
        for (int layer = 0; layer < headSums.length; layer++) {
            for (int head = 0; head < headSums[layer].length; head++) {
                headSums[layer][head] += preferences.get(layer).get(head);
            }
        }
    }

    private List<Double> headMeans(int layer, int texts) {
        return heads ? Arrays.stream(headSums[layer]).mapToObj(sum -> sum / texts).toList() : List.of();
    }

    private Profile profile(LoadedModel model, List<Profile.Text> texts) throws IOException {
        ModelShape shape = model.shape();
        List<Profile.Layer> layers = new ArrayList<>();
        for (int i = 0; i < shape.layers(); i++) {
            int layer = i;
            var spread = texts.stream().mapToDouble(text -> text.densePreference().get(layer)).summaryStatistics();
            layers.add(
                    new Profile.Layer(
                            spread.getAverage(), spread.getMin(), spread.getMax(),
                            spread.getAverage() > threshold ? LayerKind.QUANTIZED : LayerKind.RETRIEVAL,
                            headMeans(i, texts.size())));
        }
        Profile.Model description = new Profile.Model(
                shape.name(), modelName(), shape.layers(), shape.attention().heads(), shape.attention().kvHeads(),
                shape.attention().headSize(), Profile.fingerprint(directory()).orElse(""));
        return new Profile(description, threshold, layers, texts, LocalDate.now(ZoneOffset.UTC).toString());
    }

    private void print(Profile profile) {
        Profile.Model model = profile.model();
        out().printf(Locale.ROOT, "%s: %s, %d layers, %d query and %d KV heads of %d%n", model.name(), model.type(),
                model.layers(), model.heads(), model.kvHeads(), model.headSize());
        out().printf(Locale.ROOT,
                "Dense preference of each layer over %d texts of %d to %d tokens, threshold %.2f:%n%n",
                profile.texts().size(), profile.texts().stream().mapToInt(Profile.Text::tokens).min().orElse(0),
                profile.texts().stream().mapToInt(Profile.Text::tokens).max().orElse(0), profile.threshold());
        TextTable table = new TextTable("layer", "mean", "min", "max", "kind", "");
        Map<Integer, LayerKind> kinds = new HashMap<>();
        for (int i = 0; i < profile.layers().size(); i++) {
            Profile.Layer layer = profile.layers().get(i);
            kinds.put(i, layer.kind());
            boolean contested = layer.least() <= profile.threshold() && layer.most() > profile.threshold();
            String bar = "#".repeat((int) Math.round(layer.mean() * 40));
            table.row(
                    Integer.toString(i), preference(layer.mean()), preference(layer.least()), preference(layer.most()),
                    layer.kind().label() + (contested ? "*" : " "), bar + " ".repeat(40 - bar.length()));
        }
        table.print(out());
        out().println();
        out().println(
                "* some texts are on the other side of the threshold: tailorkv.policy=online decides each by itself");
        if (heads) {
            printHeads(profile);
        }
        out().println("Policy: " + Policy.list(kinds));
    }

    /** Query heads side by side, those that share a KV head between the same bars. */
    private void printHeads(Profile profile) {
        Profile.Model model = profile.model();
        int group = model.heads() / model.kvHeads();
        out().printf(Locale.ROOT, "%nDense preference of each query head, %s, mean over the texts in percent:%n%n",
                group == 1 ? "each with a KV head of its own" : "KV heads (of " + group + ") between bars");
        int width = Math.max(3, Integer.toString(model.heads()).length());
        out().println("layer  " + heads(model, group, i -> Integer.toString(i), width));
        for (int i = 0; i < profile.layers().size(); i++) {
            List<Double> values = profile.layers().get(i).queryHeads();
            out().println(
                    String.format(Locale.ROOT, "%5d  ", i)
                            + heads(model, group, head -> Long.toString(Math.round(100 * values.get(head))), width));
        }
        out().println();
    }

    private static String heads(Profile.Model model, int group, IntFunction<String> cell, int width) {
        StringBuilder line = new StringBuilder();
        for (int head = 0; head < model.heads(); head++) {
            line.append(head > 0 && group > 1 && head % group == 0 ? " |" : "");
            String text = cell.apply(head);
            line.repeat(" ", Math.max(1, width + 1 - text.length())).append(text);
        }
        return line.toString();
    }

    private static String preference(double value) {
        return String.format(Locale.ROOT, "%.3f", value);
    }
}
