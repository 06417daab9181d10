package io.github.tailorkv.it;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.tailorkv.it.ChildJvm.Ended;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The chat of the examples, which knows nothing of TailorKV, without it and with it. */
class ChatIT {
    private static final Path EXAMPLES = Path.of(System.getProperty("examples", ""));
    private static final Path DOCUMENT = EXAMPLES.resolve("document.txt");
    private static final Pattern SUMMARY = Pattern.compile(
            "\\[context ([\\d,]+) tokens \\| prompt [\\d,]+ tokens/s \\| [\\d.]+ ms/token \\| KV memory ([\\d.,]+) MB (.*)]");
    private static final Pattern STOCK = Pattern.compile("\\(Jlama's own cache: ([\\d.,]+) MB\\)");

    private static final List<String> DIALOGUE = List.of(
            "Read this text and remember its details. Igor Price lives in Ottawa. A light wind moves the tall reeds. "
                    + "Maria Olsen likes to eat trout. Nothing much happens here. Where does Igor Price live?",
            "What does Maria Olsen like to eat?",
            "/quit");

    @TempDir
    private Path folder;

    @Test
    void answersAboutTheDocumentInStockJlama() throws Exception {
        Ended ended = stock().run("io.github.tailorkv.examples.Chat", "--model", ChildJvm.MODEL, "--document", DOCUMENT,
                "--progress", "--ask", "Where does Sara Walsh live?").successful();
        assertEquals(List.of("Sara Walsh lives in Dublin."), ended.out());
        Matcher summary = summary(ended, 0);
        assertEquals("in Jlama's own cache", summary.group(3));
        assertContextOfDocument(summary);
        assertBar(ended);
    }

    @Test
    void answersAboutTheDocumentWithTailorKv() throws Exception {
        Ended ended = tailorkv()
                .run("io.github.tailorkv.examples.Chat", "--model", ChildJvm.MODEL, "--document", DOCUMENT,
                        "--progress", "--ask", "Where does Sara Walsh live?")
                .successful();
        assertEquals(1, ended.errWith("TailorKV serves").size(), ended::toString);
        assertEquals(List.of("Sara Walsh lives in Dublin."), ended.out());
        Matcher summary = summary(ended, 0);
        assertContextOfDocument(summary);
        Matcher stock = STOCK.matcher(summary.group(3));
        assertTrue(stock.matches(), summary::group);
        assertTrue(3 * number(summary.group(2)) < number(stock.group(1)), summary::group);
        assertBar(ended);
    }

    @Test
    void secondTurnRemembersTheFirst() throws Exception {
        Ended ended = talk(tailorkv(), DIALOGUE).successful();
        assertEquals(List.of("Igor Price lives in Ottawa.", "Maria Olsen likes to eat trout."), ended.out());
        assertTrue(number(summary(ended, 1).group(1)) > number(summary(ended, 0).group(1)), ended::toString);
        assertEquals(List.of(), ended.errWith("instead of"));
    }

    /** Jlama's own fault, which the chat tells: the second turn of a session overwrites the first. */
    @Test
    void secondTurnOfStockJlamaIsToldToBeWrong() throws Exception {
        Ended ended = talk(stock(), DIALOGUE).successful();
        assertEquals("Igor Price lives in Ottawa.", ended.out().get(0));
        assertEquals(1, ended.errWith("it overwrote earlier turns").size(), ended::toString);
    }

    @Test
    void newSessionForgets() throws Exception {
        Ended ended = talk(tailorkv(), List.of(DIALOGUE.get(0), "/new", DIALOGUE.get(0))).successful();
        assertEquals(List.of("Igor Price lives in Ottawa.", "Igor Price lives in Ottawa."), ended.out());
        assertEquals(summary(ended, 0).group(1), summary(ended, 1).group(1), "tokens of the context");
    }

    @Test
    void messageThatDoesNotFitLeavesTheSessionWhole() throws Exception {
        Ended ended = talk(tailorkv(), List.of(DIALOGUE.get(0), "one two three ".repeat(12_000), DIALOGUE.get(1)))
                .successful();
        assertEquals(List.of("Igor Price lives in Ottawa.", "Maria Olsen likes to eat trout."), ended.out());
        assertEquals(1, ended.errWith("does not fit: the model's context is 32768 tokens").size(), ended::toString);
    }

    @Test
    void missingModelIsOneLine() throws Exception {
        Ended ended = stock().run("io.github.tailorkv.examples.Chat", "--model", folder.resolve("none"), "--ask",
                "Who?");
        assertEquals(1, ended.status());
        assertEquals(1, ended.errWith("chat: --model ").size(), ended::toString);
        assertEquals(List.of(), ended.errWith("\tat "));
    }

    /** From a folder and with a checkout whose paths have blanks in them. */
    @Test
    void scriptRunsFromAnywhere() throws Exception {
        Path here = Files.createDirectories(folder.resolve("some where"));
        Path checkout = Files.createSymbolicLink(here.resolve("check out"), EXAMPLES.toAbsolutePath().getParent());
        Files.writeString(here.resolve("my text.txt"),
                "Igor Price lives in Ottawa.\nMaria Olsen likes to eat trout.\n");
        Path out = folder.resolve("out");
        Path err = folder.resolve("err");
        ProcessBuilder builder = new ProcessBuilder("bash", checkout.resolve("examples/chat.sh").toString(),
                "-Dtailorkv.preset=compact", "--document", "my text.txt", "--ask", "What does Maria Olsen like to eat?")
                .directory(here.toFile())
                .redirectOutput(out.toFile())
                .redirectError(err.toFile());
        builder.environment().put("JAVA_HOME", System.getProperty("java.home"));
        builder.environment().put("TAILORKV_BUILD", "no");
        Process script = builder.start();
        boolean ended = script.waitFor(5, TimeUnit.MINUTES);
        script.destroyForcibly();
        String errors = Files.readString(err);
        assertTrue(ended && script.exitValue() == 0, errors);
        assertEquals("Maria Olsen likes to eat trout.\n", Files.readString(out), errors);
        assertTrue(errors.contains("TailorKV serves") && errors.contains("(Jlama's own cache: "), errors);
    }

    private ChildJvm stock() throws Exception {
        try (Stream<Path> libraries = Files.list(EXAMPLES.resolve("target/lib"))) {
            return new ChildJvm(folder)
                    .limit(Duration.ofMinutes(8))
                    .classPath(EXAMPLES.resolve("target/tailorkv-examples.jar"))
                    .classPath(libraries.toList());
        }
    }

    private ChildJvm tailorkv() throws Exception {
        return stock().option("-Xlog:cds=error")
                .classPath(ChildJvm.TAILORKV)
                .systemClassLoader()
                .enabled()
                .property("tailorkv.report", folder.resolve("report.json"));
    }

    private static Ended talk(ChildJvm jvm, List<String> lines) throws Exception {
        try (ChildJvm.Running chat = jvm.start("io.github.tailorkv.examples.Chat", "--model", ChildJvm.MODEL)) {
            try (OutputStream input = chat.process().getOutputStream()) {
                input.write((String.join("\n", lines) + "\n").getBytes(StandardCharsets.UTF_8));
            }
            return chat.await();
        }
    }

    /** The line after the answer of a turn. */
    private static Matcher summary(Ended ended, int turn) {
        List<String> lines = ended.errWith("[context ");
        assertTrue(lines.size() > turn, ended::toString);
        Matcher summary = SUMMARY.matcher(lines.get(turn));
        assertTrue(summary.find(), ended::toString);
        return summary;
    }

    private static void assertContextOfDocument(Matcher summary) {
        double tokens = number(summary.group(1));
        assertTrue(tokens > 7900 && tokens < 8200, summary::group);
    }

    /** A bar between start and end was drawn, with a time left. */
    private static void assertBar(Ended ended) {
        Pattern bar = Pattern.compile("[█#]+[░-]+ [\\d,]+ of [78],\\d{3} tokens, [\\d,]+ tokens/s, .* left");
        assertTrue(ended.err().stream().anyMatch(line -> bar.matcher(line).find()), ended::toString);
    }

    private static double number(String text) {
        return Double.parseDouble(text.replace(",", ""));
    }
}
