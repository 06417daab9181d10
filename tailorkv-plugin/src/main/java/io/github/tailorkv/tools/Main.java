package io.github.tailorkv.tools;

import java.util.concurrent.Callable;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.IVersionProvider;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Spec;

/** {@code java -jar tailorkv.jar}: the root of the command-line tools. */
@Command(name = "tailorkv", description = "Tools for the TailorKV cache of Jlama.", mixinStandardHelpOptions = true,
        versionProvider = Main.ManifestVersion.class)
public final class Main implements Callable<Integer> {
    @Spec
    private @Nullable CommandSpec spec;

    private Main() {}

    /**
     * Runs the command line and ends the JVM with its exit code.
     *
     * @param arguments the command line
     */
    public static void main(String[] arguments) {
        System.exit(new CommandLine(new Main()).execute(arguments));
    }

    @Override
    public Integer call() {
        if (spec != null) {
            spec.commandLine().usage(System.out);
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
