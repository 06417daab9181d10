package io.github.tailorkv.tools;

import io.github.tailorkv.config.Settings;
import java.io.Console;
import java.io.PrintWriter;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.List;
import java.util.Objects;
import java.util.Optional;
import java.util.concurrent.Callable;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;

/** Looks into a running application. */
@Command(name = "inspect",
        description = {
            "Shows what TailorKV holds and does in a running application: it attaches to the JVM with that process id and "
                    + "refreshes a table until it is interrupted or the application ends. Without PID it lists the JVMs "
                    + "of this user that have TailorKV.",
            ""},
        footer = {
            "",
            "Columns, for each layer and all sessions together: the kind of the layer (open while it is not decided, mixed "
                    + "where sessions differ); its dense preference P; tokens held, bytes in RAM and in the offload tier; "
                    + "and of decode steps that were measured since the last "
                    + "refresh the mean bytes read, the mean time in storing the new token (append), in approximate scores "
                    + "(score), in selecting tokens and reading them back (gather) and in attention itself (attend). "
                    + "Recall is the share of the true top-k that was selected, a mean since the model was loaded; it "
                    + "is measured in one layer at a time, as often as half a percent of decode time pays for. "
                    + "What does not apply, or is not known (times on a GPU), is '-'.",
            "",
            "Measuring is switched on for as long as inspect runs and ends some seconds after it at most. The application "
                    + "needs no option for that; its JVM starts a management agent for local connections, which stays.",
            "",
            "The same figures are in the MXBeans io.github.tailorkv:type=Model,name=..., in the Flight Recorder events of the "
                    + "category TailorKV, and in the file of the property tailorkv.report. With -Dtailorkv.sample=N an "
                    + "application measures every Nth step by itself.",
            "",
            "Examples:",
            "  java -jar tailorkv.jar inspect",
            "  java -jar tailorkv.jar inspect 4711",
            "  java -jar tailorkv.jar inspect 4711 --json --interval 10 >> log.jsonl",
            ""})
final class InspectCommand implements Callable<Integer> {
    private static final int DEFAULT_EVERY = 16;
    private static final int LONGEST_INTERVAL = 3600;

    @Spec
    private @Nullable CommandSpec spec;

    @Parameters(arity = "0..1", paramLabel = "PID",
            description = "Process id of the application. Without it, the JVMs that have TailorKV are listed.")
    private @Nullable Long pid;

    @Option(names = "--once",
            description = "Shows one table, after measuring for one interval, and ends.")
    private boolean once;

    @Option(names = "--json", description = "Writes one line of JSON for each table instead.")
    private boolean json;

    @Option(names = "--interval", paramLabel = "SECONDS", defaultValue = "2",
            description = "Time between two tables (default: ${DEFAULT-VALUE}).")
    private double interval;

    @Option(names = "--every", paramLabel = "N", defaultValue = "" + DEFAULT_EVERY,
            description = "Measures one decode step in N (default: ${DEFAULT-VALUE}); 0 measures none, so that only what the "
                    + "application measures by itself is shown.")
    private int every;

    @Override
    public Integer call() throws ToolException, InterruptedException {
        CommandLine line = Objects.requireNonNull(spec).commandLine();
        if (!(interval >= 0.1 && interval <= LONGEST_INTERVAL)) {
            throw new ParameterException(line, "--interval takes seconds from 0.1 to " + LONGEST_INTERVAL);
        }
        if (every < 0 || every > Settings.RAREST_SAMPLE) {
            throw new ParameterException(line, "--every takes a whole number from 0 to " + Settings.RAREST_SAMPLE);
        }
        if (pid == null) {
            list(line.getOut());
        } else {
            inspect(pid, line.getOut());
        }
        return CommandLine.ExitCode.OK;
    }

    private static void list(PrintWriter out) throws ToolException {
        List<AttachedJvm.Candidate> candidates = AttachedJvm.candidates();
        if (candidates.isEmpty()) {
            out.println("No JVM of this user has TailorKV switched on.");
            return;
        }
        for (AttachedJvm.Candidate candidate : candidates) {
            out.println(candidate.pid() + "  " + (candidate.served() ? "serves a model" : "switched on  ") + "  "
                    + candidate.command());
        }
    }

    private void inspect(long process, PrintWriter out) throws ToolException, InterruptedException {
        boolean screen = !once && !json
                && Optional.ofNullable(System.console()).filter(Console::isTerminal).isPresent();
        try (AttachedJvm jvm = AttachedJvm.attach(process)) {
            InspectView view = new InspectView(process);
            view.update(jvm.models());
            if (!once) {
                show(view, jvm.models(), screen, out);
            }
            try {
                do {
                    renew(jvm);
                    Thread.sleep(Math.round(1000 * interval));
                    List<ModelSnapshot> models = jvm.models();
                    view.update(models);
                    show(view, models, screen, out);
                } while (!once);
            } finally {
                if (every != 0) {
                    jvm.sampleFor(every, 0);
                }
            }
        }
    }

    /** Of use for three refreshes: if this command is killed, the application stops measuring by itself. */
    private void renew(AttachedJvm jvm) throws ToolException {
        if (every != 0) {
            jvm.sampleFor(every, (int) Math.max(10, Math.ceil(3 * interval)));
        }
    }

    private void show(InspectView view, List<ModelSnapshot> models, boolean screen, PrintWriter out) {
        if (json) {
            out.println(view.json(models, Instant.now().truncatedTo(ChronoUnit.MILLIS).toString()));
        } else if (screen) {
            // Home, every line cleared to its end and not wrapped, everything below cleared.
            out.print("\u001b[H\u001b[?7l" + view.text(models).replace("\n", "\u001b[K\n") + "\u001b[J\u001b[?7h");
            out.flush();
        } else {
            out.println(view.text(models));
        }
    }
}
