package io.github.tailorkv.tools;

import io.github.tailorkv.jlama.LoadedModel;
import java.io.IOException;
import java.io.PrintWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Objects;
import java.util.concurrent.Callable;
import java.util.logging.Level;
import java.util.logging.Logger;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;

/** A command that runs a model, for which it needs Jlama: in this JVM if it can, or in one of its own. */
abstract class ModelCommand implements Callable<Integer> {
    /** Held, or the level would be lost with the logger. */
    private static final Logger LOG = Logger.getLogger("io.github.tailorkv");

    @Spec
    private @Nullable CommandSpec spec;

    @Parameters(paramLabel = "MODEL_DIR", description = "Folder of the model, as Hugging Face lays it out.")
    private @Nullable Path model;

    @Option(names = "--jlama", paramLabel = "PATH",
            description = "Where Jlama 0.8.4 is, unless it is on the class path: a jar, a folder of jars, or several "
                    + "separated as in a class path. Default: the environment variable JLAMA_CLASSPATH.")
    private @Nullable String jlama;

    @Override
    public final Integer call() throws Exception {
        if (!JlamaProcess.isHere()) {
            return JlamaProcess.run(jlama, spec().root().commandLine().getParseResult().originalArgs());
        }
        LOG.setLevel(Level.WARNING);
        run();
        return CommandLine.ExitCode.OK;
    }

    abstract void run() throws ToolException, IOException;

    final CommandSpec spec() {
        return Objects.requireNonNull(spec);
    }

    final PrintWriter out() {
        return spec().commandLine().getOut();
    }

    final PrintWriter err() {
        return spec().commandLine().getErr();
    }

    final Path directory() {
        return Objects.requireNonNull(model);
    }

    final LoadedModel load() throws IOException {
        return LoadedModel.load(directory());
    }

    /** The last part of the folder's name, for people. */
    final String modelName() throws IOException {
        Path name = directory().toRealPath().getFileName();
        return name == null ? "model" : name.toString();
    }

    /** Complains now about a file that cannot be written when everything is done. */
    static void checkWritable(Path file) throws ToolException {
        Path folder = Objects.requireNonNull(file.toAbsolutePath().getParent(), "folder");
        if (Files.isDirectory(file)) {
            throw new ToolException(file + " is a folder; name a file");
        }
        if (!Files.isDirectory(folder) || !Files.isWritable(folder)
                || (Files.exists(file) && !Files.isWritable(file))) {
            throw new ToolException("cannot write " + file + "; name a file in a folder that can be written");
        }
    }
}
