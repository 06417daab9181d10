package io.github.tailorkv.examples;

import com.github.tjake.jlama.model.AbstractModel;
import java.util.OptionalInt;
import java.util.function.IntConsumer;
import java.util.logging.Handler;
import java.util.logging.Level;
import java.util.logging.LogRecord;
import java.util.logging.Logger;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * What Jlama logs, at debug level, while it reads a prompt: the position it starts at, and every batch of tokens that is
 * done. There is no callback for it. Should another version of Jlama log something else, nobody is told anything.
 */
final class PromptLog extends Handler {
    private static final Logger LOGGER = Logger.getLogger(AbstractModel.class.getName());
    private static final Pattern START = Pattern.compile("Starting at token (\\d+) ");
    private static final Pattern BATCH = Pattern.compile("Batched forward pass for tokens \\d+ to (\\d+)");

    private IntConsumer listener = tokens -> {};
    private OptionalInt start = OptionalInt.empty();

    private PromptLog() {}

    static PromptLog attach() {
        PromptLog log = new PromptLog();
        LOGGER.setLevel(Level.FINE);
        LOGGER.addHandler(log);
        return log;
    }

    /** Tells {@code listener} from now on how many tokens of the prompt are done. */
    void listen(IntConsumer listener) {
        this.listener = listener;
        start = OptionalInt.empty();
    }

    /** The position in the session that the prompt started at, if known. */
    OptionalInt startOfPrompt() {
        return start;
    }

    @Override
    public void publish(LogRecord entry) {
        Matcher batch = BATCH.matcher(entry.getMessage());
        if (batch.lookingAt()) {
            listener.accept(Integer.parseInt(batch.group(1)));
            return;
        }
        Matcher begin = START.matcher(entry.getMessage());
        if (begin.lookingAt()) {
            start = OptionalInt.of(Integer.parseInt(begin.group(1)));
        }
    }

    @Override
    public void flush() {}

    @Override
    public void close() {}
}
