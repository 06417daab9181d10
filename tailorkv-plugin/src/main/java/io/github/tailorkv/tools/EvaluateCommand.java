package io.github.tailorkv.tools;

import io.github.tailorkv.jlama.LoadedModel;
import io.github.tailorkv.tools.evaluate.Contender;
import io.github.tailorkv.tools.evaluate.Decisions;
import io.github.tailorkv.tools.evaluate.Evaluation;
import io.github.tailorkv.tools.evaluate.Exercise;
import io.github.tailorkv.tools.evaluate.ExerciseBook;
import io.github.tailorkv.tools.evaluate.ResultFile;
import io.github.tailorkv.tools.evaluate.Summary;
import io.github.tailorkv.tools.html.Page;
import io.github.tailorkv.tools.tasks.TaskFamily;
import io.github.tailorkv.tools.tasks.TaskGenerator;
import java.io.IOException;
import java.nio.file.FileSystemException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeMap;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/** Compares policies with the exact cache on tasks whose answers are known. */
@Command(name = "evaluate",
        description = {
            "Asks a model questions about long texts, under several policies side by side, and shows what each costs in "
                    + "accuracy and saves in memory.",
            "",
            "KL is the mean divergence of the next-token distribution from that of the exact cache, along the tokens of "
                    + "the exact answer, in nats. Memory is relative to Jlama's own F32 cache. Results go to "
                    + "results.jsonl; the same command line goes on where it was interrupted.",
            ""})
final class EvaluateCommand extends ModelCommand {
    @Option(names = "--policy", paramLabel = "NAME[=SETTINGS]", arity = "1..*",
            description = "Policies to compare with exact. SETTINGS is a preset and settings over it, such as "
                    + "balanced,budget=64,offload=disk (names as in the system properties, without tailorkv.); "
                    + "names as in ours@128 and ours@256 are points of one curve. "
                    + "Default: quantize4, retrieve, paper1, paper2, balanced, compact and the rivals kivi2 (uniform "
                    + "quantization), streaming (sinks and recent window), snapkv (eviction).")
    private List<String> policies = List.of();

    @Option(names = "--families", paramLabel = "F", arity = "1..*", split = ",",
            description = "Families of tasks: ruler (the default) for all of niah_noise, niah_essay, niah_uuid, "
                    + "multikey_needles, multikey_uuid, multivalue, multiquery, vartrack, common_words, "
                    + "frequent_words, facts, as the reference model knows them; generic for passkey, locker, lockers, "
                    + "told_variables, listed_words, which explain themselves to any instruct model; none for none.")
    private List<String> families = List.of(TaskFamily.RULER);

    @Option(names = "--tokens", paramLabel = "N", arity = "1..*", split = ",", defaultValue = "2048,4096",
            description = "Lengths of the prompts (${DEFAULT-VALUE}).")
    private int[] lengths = {};

    @Option(names = "--count", paramLabel = "N", defaultValue = "4",
            description = "Tasks of each family and length (${DEFAULT-VALUE}).")
    private int count;

    @Option(names = "--depths", paramLabel = "N",
            description = "Also hide a needle at N depths of each length, from the beginning of the text to its end; with "
                    + "generic families a pass key.")
    private int depths;

    @Option(names = "--text", paramLabel = "FILE", arity = "1..*",
            description = "Also measure perplexity and KL on texts: the last 128 tokens of each length, given the rest.")
    private List<Path> texts = List.of();

    @Option(names = "--seed", paramLabel = "S", defaultValue = "1", description = "Of the tasks (${DEFAULT-VALUE}).")
    private long seed;

    @Option(names = "--answer-tokens", paramLabel = "N", defaultValue = "96",
            description = "Most tokens of an answer (${DEFAULT-VALUE}).")
    private int answerTokens;

    @Option(names = {"-o", "--output"}, paramLabel = "DIR", required = true,
            description = "Folder for the results; made if it is not there.")
    private Path output = Path.of("");

    @Option(names = "--report", paramLabel = "FILE", description = "Summary as JSON. Default: summary.json in DIR.")
    private @Nullable Path report;

    @Option(names = "--html", paramLabel = "FILE", description = "Report with charts. Default: report.html in DIR.")
    private @Nullable Path html;

    @Mixin
    private Pictures pictures = new Pictures();

    @Override
    void run() throws ToolException, IOException {
        List<Contender> contenders = contenders();
        List<TaskFamily> chosen = families();
        if (count < 1 || answerTokens < 2 || depths < 0 || depths == 1) {
            throw new ToolException("--count takes 1 or more, --answer-tokens and --depths take 2 or more");
        }
        try {
            Files.createDirectories(output);
        } catch (FileSystemException e) {
            throw new ToolException("cannot make the folder " + output + "; name another with --output");
        }
        Path file = output.resolve("results.jsonl");
        Path summaryFile = report != null ? report : output.resolve("summary.json");
        Path pageFile = html != null ? html : output.resolve("report.html");
        checkWritable(file);
        checkWritable(pageFile);
        checkWritable(summaryFile);
        pictures.check();
        ResultFile results = ResultFile.open(file);
        try (LoadedModel model = load()) {
            List<Exercise> exercises = exercises(model, chosen);
            Evaluation evaluation = new Evaluation(model, directory(), contenders, results, seed, answerTokens);
            Progress progress = new Progress(err(), exercises.stream().mapToDouble(evaluation::work).sum());
            try {
                evaluation.run(exercises, (what, work) -> {
                    progress.advance(work);
                    progress.show(what);
                });
            } finally {
                progress.end();
            }
        }
        Summary summary = new Summary(results.all(), family -> !ExerciseBook.isDepth(family));
        Summary byDepth = new Summary(results.all(), ExerciseBook::isDepth);
        print(summary);
        printDepths(byDepth);
        Files.writeString(summaryFile, summary.toJson(modelName()).toPrettyString());
        Page page = new EvaluationReport(modelName(), summary, byDepth, decisions(results)).page();
        Files.writeString(pageFile, page.html());
        pictures.write(page, out());
        out().println(
                "Results are in " + file + ", the summary is in " + summaryFile + ", the report in " + pageFile + ".");
    }

    /** Of families and texts; needles by depth are all of one kind. */
    private static Optional<Decisions> decisions(ResultFile results) {
        return Decisions.of(
                results.all().stream().filter(result -> !ExerciseBook.isDepth(result.key().family())).toList());
    }

    private List<Contender> contenders() throws ToolException {
        if (policies.isEmpty()) {
            return Contender.DEFAULTS;
        }
        List<Contender> contenders = new ArrayList<>();
        for (String policy : policies) {
            if (policy.equals(Contender.EXACT.name())) {
                continue;
            }
            Contender contender = Contender.parse(policy);
            if (contenders.stream().anyMatch(other -> other.name().equals(contender.name()))) {
                throw new ToolException("--policy " + contender.name() + " is there twice");
            }
            contenders.add(contender);
        }
        return contenders;
    }

    private List<TaskFamily> families() throws ToolException {
        Set<TaskFamily> chosen = new LinkedHashSet<>();
        for (String label : families) {
            List<TaskFamily> labelled = TaskFamily.labelled(label);
            if (labelled.isEmpty() && !label.equals("none")) {
                throw new ToolException("--families " + label + " is none of " + TaskFamily.labels() + ", none");
            }
            chosen.addAll(labelled);
        }
        return List.copyOf(chosen);
    }

    private List<Exercise> exercises(LoadedModel model, List<TaskFamily> chosen) throws ToolException, IOException {
        ExerciseBook book = new ExerciseBook(model, seed);
        int most = model.shape().contextLength() - answerTokens;
        for (int length : lengths) {
            if (length < TaskGenerator.LEAST_TOKENS || length > most) {
                throw new ToolException("--tokens " + length + " is not allowed; with this model it takes "
                        + TaskGenerator.LEAST_TOKENS + " to " + most);
            }
        }
        List<Exercise> exercises = new ArrayList<>();
        boolean generic = chosen.stream().anyMatch(TaskFamily::isGeneric);
        for (int index = 0; index < count; index++) {
            for (int length : lengths) {
                for (TaskFamily family : chosen) {
                    exercises.add(book.task(family, length, index));
                }
                for (int i = 0; i < depths; i++) {
                    exercises.add(book.needle(i / (depths - 1.0), length, index, generic));
                }
            }
        }
        for (Path text : texts) {
            for (int length : lengths) {
                exercises.add(
                        book.text(String.valueOf(text.getFileName()), SampleText.read(text), length)
                                .orElseThrow(() -> new ToolException(text + " has fewer than " + length + " tokens")));
            }
        }
        if (exercises.isEmpty()) {
            throw new ToolException("there is nothing to do: no families, no --depths, no --text");
        }
        List<Exercise> fitting = exercises.stream().filter(exercise -> exercise.prompt().size() <= most).toList();
        if (fitting.size() < exercises.size()) {
            throw new ToolException("a prompt of " + exercises.stream().mapToInt(e -> e.prompt().size()).max().orElse(0)
                    + " tokens does not fit the model's context of " + model.shape().contextLength()
                    + " with its answer; use smaller --tokens");
        }
        return exercises;
    }

    private void print(Summary summary) {
        for (int length : summary.lengths()) {
            List<Summary.Line> lines = summary.lines().stream().filter(line -> line.tokens() == length).toList();
            out().println();
            out().println(length + " tokens, " + lines.stream().mapToInt(Summary.Line::prompts).max().orElse(0)
                    + " prompts");
            TextTable table = new TextTable(EvaluationTable.header(lines));
            EvaluationTable.rows(lines).forEach(table::row);
            table.print(out());
        }
        out().println();
    }

    private void printDepths(Summary summary) {
        if (summary.lines().isEmpty()) {
            return;
        }
        Map<String, Map<String, Double>> byPolicy = new TreeMap<>();
        List<String> columns = new ArrayList<>();
        for (Summary.Line line : summary.lines()) {
            line.families().forEach(
                    (family, accuracy) -> byPolicy.computeIfAbsent(line.policy(), policy -> new TreeMap<>())
                            .put(line.tokens() + " " + family, accuracy));
        }
        byPolicy.values().forEach(cells -> cells.keySet().stream().filter(cell -> !columns.contains(cell))
                .forEach(columns::add));
        out().println("Needles found by depth, mean over lengths:");
        List<String> families = columns.stream().map(cell -> cell.substring(cell.indexOf(' ') + 1)).distinct()
                .sorted().toList();
        List<String> header = new ArrayList<>(List.of("policy"));
        families.forEach(family -> header.add(family.substring(family.indexOf('-') + 1) + " %"));
        TextTable table = new TextTable(header);
        byPolicy.forEach((policy, cells) -> {
            List<String> row = new ArrayList<>(List.of(policy));
            for (String family : families) {
                row.add(
                        EvaluationTable.format(
                                "%.0f", cells.entrySet().stream().filter(cell -> cell.getKey().endsWith(" " + family))
                                        .mapToDouble(Map.Entry::getValue).average().orElse(Double.NaN)));
            }
            table.row(row);
        });
        table.print(out());
        out().println();
    }
}
