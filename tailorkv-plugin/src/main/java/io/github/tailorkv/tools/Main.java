package io.github.tailorkv.tools;

import io.github.tailorkv.config.SettingsException;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.Callable;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.IVersionProvider;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ScopeType;
import picocli.CommandLine.Spec;

/** {@code java -jar tailorkv.jar}: the root of the command-line tools. */
@Command(name = "tailorkv",
        description = "Shows what TailorKV does to your model, writes its profile, and looks into running applications.",
        mixinStandardHelpOptions = true, versionProvider = Main.ManifestVersion.class, scope = ScopeType.INHERIT,
        synopsisSubcommandLabel = "COMMAND",
        subcommands = {ProfileCommand.class, EvaluateCommand.class, InspectCommand.class},
        footer = {"", "Exit codes: 0 done, 1 failed (one line on standard error says why), 2 wrong usage."})
public final class Main implements Callable<Integer> {
    @Spec
    private @Nullable CommandSpec spec;

    /** Whether errors are shown with the place they come from. */
    @Option(names = "--stacktrace", scope = ScopeType.INHERIT, hidden = true)
    private boolean stacktrace;

    private Main() {}

    /**
     * Runs the command line and ends the JVM with its exit code.
     *
     * @param arguments the command line
     */
    public static void main(String[] arguments) {
        System.exit(run(System.out, System.err, arguments));
    }

    static int run(PrintStream out, PrintStream err, String... arguments) {
        Main main = new Main();
        CommandLine line = new CommandLine(main);
        line.setOut(new java.io.PrintWriter(out, true, StandardCharsets.UTF_8));
        line.setErr(new java.io.PrintWriter(err, true, StandardCharsets.UTF_8));
        line.setExecutionExceptionHandler((e, command, result) -> main.complain(e, command));
        return line.execute(arguments);
    }

    private int complain(Exception e, CommandLine command) {
        boolean foreseen = e instanceof ToolException || e instanceof IOException || e instanceof SettingsException;
        String message = foreseen && e.getMessage() != null && !(e instanceof java.nio.file.FileSystemException)
                ? e.getMessage()
                : e.toString();
        command.getErr().println("tailorkv " + command.getCommandName() + ": " + message.replace('\n', ' '));
        if (stacktrace) {
            e.printStackTrace(command.getErr());
        } else if (!foreseen) {
            command.getErr().println("(--stacktrace shows where it comes from)");
        }
        return CommandLine.ExitCode.SOFTWARE;
    }

    @Override
    public Integer call() {
        if (spec != null) {
            spec.commandLine().usage(spec.commandLine().getOut());
        }
        return CommandLine.ExitCode.USAGE;
    }

    static final class ManifestVersion implements IVersionProvider {
        @Override
        public String[] getVersion() {
            String version = Main.class.getPackage().getImplementationVersion();
            return new String[] {"TailorKV " + (version == null ? "(not run from its jar)" : version)};
        }
    }
}
