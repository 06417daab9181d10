package io.github.tailorkv.examples;

import com.github.tjake.jlama.model.AbstractModel;
import com.github.tjake.jlama.model.ModelSupport;
import com.github.tjake.jlama.safetensors.DType;
import java.io.BufferedReader;
import java.io.Console;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.Charset;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.Callable;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;

/**
 * A chat with a model that Jlama runs, about a document if there is one. Answers go to standard output, everything else to
 * standard error. It is an application as any other: it knows Jlama's public interface and, but for the name of a report
 * file that it looks into when there is one, nothing of TailorKV.
 */
@Command(name = "chat", description = "Chats with a model, about a document if there is one.", sortOptions = false)
public final class Chat implements Callable<Integer> {
    private static final String HELP = "/new starts a new session, /quit or the end of input leaves.";

    @Option(names = "--model", required = true, paramLabel = "DIR", description = "folder of the model")
    private Path folder = Path.of("");

    @Option(names = "--document", paramLabel = "FILE",
            description = "text that goes to the model together with the first question")
    private @Nullable Path document;

    @Option(names = "--ask", paramLabel = "QUESTION", description = "answer this and end")
    private @Nullable String question;

    @Option(names = "--tokens", paramLabel = "N", defaultValue = "256",
            description = "longest answer in tokens (${DEFAULT-VALUE})")
    private int tokens;

    @Option(names = "--temperature", paramLabel = "T", defaultValue = "0",
            description = "0 takes the likeliest token, more is more varied (${DEFAULT-VALUE})")
    private float temperature;

    @Option(names = "--progress", negatable = true,
            description = "show how far a prompt is (default: if this is a terminal)")
    private @Nullable Boolean progress;

    @SuppressWarnings("UnusedVariable") // picocli looks at the option itself
    @Option(names = {"-h", "--help"}, usageHelp = true, description = "show this")
    private boolean help;

    private final @Nullable Console terminal = terminal();

    private Chat() {}

    /**
     * Runs the program and ends the JVM with its exit code.
     *
     * @param arguments the command line
     */
    public static void main(String[] arguments) {
        System.exit(
                new CommandLine(new Chat())
                        .setOverwrittenOptionsAllowed(true)
                        .setExecutionExceptionHandler((e, line, parsed) -> {
                            System.err.println("chat: " + explained(e));
                            return CommandLine.ExitCode.SOFTWARE;
                        })
                        .execute(arguments));
    }

    @Override
    public Integer call() throws IOException {
        CommandLine line = new CommandLine(this);
        if (tokens < 1) {
            throw new ParameterException(line, "--tokens takes a whole number above 0, not " + tokens);
        }
        if (!(temperature >= 0)) {
            throw new ParameterException(line, "--temperature takes a number of 0 or more, not " + temperature);
        }
        if (!Files.isRegularFile(folder.resolve("config.json"))) {
            throw new IOException("--model " + folder + ": there is no config.json in it; a model is the folder with "
                    + "config.json, tokenizer.json and *.safetensors as Hugging Face has it");
        }
        String text = document == null ? "" : read(document);
        try (AbstractModel model = ModelSupport.loadModel(folder.toFile(), DType.F32, DType.I8)) {
            Conversation conversation = new Conversation(model, temperature, tokens, showsProgress());
            if (question != null) {
                answer(conversation, text, question);
            } else {
                converse(conversation, text);
            }
        }
        return CommandLine.ExitCode.OK;
    }

    private void converse(Conversation conversation, String text) throws IOException {
        if (terminal != null) {
            System.err.println(text.isEmpty() ? "A chat." : "A chat about " + document + ".");
            System.err.println(HELP);
        }
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, inputCharset()));
        boolean documentRead = false;
        for (String asked = next(lines); asked != null; asked = next(lines)) {
            switch (asked.strip()) {
                case "" -> {
                }
                case "/quit", "/exit" -> {
                    return;
                }
                case "/new" -> {
                    conversation.startAnew();
                    documentRead = false;
                    System.err.println("A new session" + (text.isEmpty() ? "." : ", about the same document."));
                }
                case "/help" -> System.err.println(HELP);
                default -> {
                    try {
                        answer(conversation, documentRead ? "" : text, asked.strip());
                        documentRead = true;
                    } catch (RuntimeException e) {
                        System.err.println("chat: " + explained(e));
                    }
                }
            }
        }
        if (terminal != null) {
            System.err.println();
        }
    }

    private @Nullable String next(BufferedReader lines) throws IOException {
        return terminal == null ? lines.readLine() : terminal.readLine("%n> ");
    }

    private static void answer(Conversation conversation, String text, String asked) {
        Turn turn = conversation.ask(text.isEmpty() ? asked : about(text, asked), piece -> {
            System.out.print(piece);
            System.out.flush();
        });
        System.out.println();
        turn.complaint().ifPresent(System.err::println);
        System.err.println(turn.summary(KvMemory.reported(turn.contextTokens())));
    }

    /** The form that the reference model was trained on. */
    private static String about(String text, String asked) {
        return "Read this text and remember its details. " + text + "\n" + asked;
    }

    /** The text of a document. A line break counts as a space, for it only wraps the line; an empty line stays one. */
    private static String read(Path file) throws IOException {
        if (!Files.isRegularFile(file)) {
            throw new IOException("--document " + file + ": there is no such file");
        }
        String text = Files.readString(file).replace("\r\n", "\n").strip();
        return text.replaceAll("(?<!\n)[ \t]*\n[ \t]*(?!\n)", " ");
    }

    private boolean showsProgress() {
        return progress != null ? progress : terminal != null;
    }

    // From JDK 25 on it is null again where there is no terminal, but that can be configured.
    @SuppressWarnings("SystemConsoleNull")
    private static @Nullable Console terminal() {
        Console console = System.console();
        return console != null && console.isTerminal() ? console : null;
    }

    private static Charset inputCharset() {
        return Charset.forName(System.getProperty("stdin.encoding", Charset.defaultCharset().name()));
    }

    /** The message of the innermost cause: Jlama wraps what its constructors throw. */
    private static String explained(Throwable thrown) {
        Throwable cause = thrown;
        while (cause.getCause() != null) {
            cause = cause.getCause();
        }
        return cause.getMessage() != null ? cause.getMessage() : cause.toString();
    }
}
