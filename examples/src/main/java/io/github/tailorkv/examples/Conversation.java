package io.github.tailorkv.examples;

import com.github.tjake.jlama.model.AbstractModel;
import com.github.tjake.jlama.model.functions.Generator.FinishReason;
import com.github.tjake.jlama.model.functions.Generator.Response;
import com.github.tjake.jlama.safetensors.Config;
import com.github.tjake.jlama.safetensors.prompt.PromptContext;
import com.github.tjake.jlama.safetensors.prompt.PromptSupport;
import java.util.ArrayList;
import java.util.List;
import java.util.UUID;
import java.util.function.Consumer;

/**
 * A chat of several turns in one session of Jlama, so that each turn sends only what is new and the session's KV cache
 * holds the rest. What is new is the difference between the chat template's text of the whole chat and what the session
 * has seen of it.
 *
 * <p>Jlama 0.8.4 by itself answers only the first turn rightly: it counts the generated tokens of a session and not those
 * of its prompts, so the second turn overwrites the first. We notice it by the position that Jlama logs, and say so.
 */
final class Conversation {
    private final AbstractModel model;
    private final PromptSupport template;
    private final float temperature;
    private final int longestAnswer;
    private final boolean showProgress;
    private final PromptLog log = PromptLog.attach();

    private UUID session = UUID.randomUUID();
    /** Questions and answers in turn. */
    private final List<String> said = new ArrayList<>();
    private String seen = "";
    private int cached;

    Conversation(AbstractModel model, float temperature, int longestAnswer, boolean showProgress) {
        this.model = model;
        this.template = model.promptSupport()
                .orElseThrow(() -> new IllegalArgumentException("this model has no chat template"));
        this.temperature = temperature;
        this.longestAnswer = longestAnswer;
        this.showProgress = showProgress;
    }

    void startAnew() {
        session = UUID.randomUUID();
        said.clear();
        seen = "";
        cached = 0;
    }

    /**
     * Asks the model.
     *
     * @param answer gets the answer piece by piece
     * @throws IllegalArgumentException if the context has no room for the message; the session is then as it was
     */
    Turn ask(String message, Consumer<String> answer) {
        List<String> toSay = new ArrayList<>(said);
        toSay.add(message);
        String whole = prompt(toSay);
        PromptContext prompt = PromptContext.of(
                whole.startsWith(seen) ? whole.substring(seen.length()) : prompt(List.of(message)));
        try (ProgressBar bar = new ProgressBar(showProgress)) {
            int promptTokens = model.encodePrompt(prompt).length;
            int context = model.getConfig().contextLength;
            if (cached + promptTokens >= context) {
                throw new IllegalArgumentException(
                        "the message of " + promptTokens + " tokens does not fit: the model's "
                                + "context is " + context + " tokens, and this session has used " + cached
                                + "; ask something shorter or start a new session with /new");
            }
            Pieces pieces = new Pieces(bar, answer);
            bar.expect(promptTokens);
            log.listen(bar::reach);
            // The limit is a position in the session, not a length.
            int limit = Math.min(context, cached + promptTokens + longestAnswer);
            Response response = model.generate(session, prompt, temperature, limit,
                    (piece, time) -> pieces.take(piece));
            int start = log.startOfPrompt().orElse(cached);
            Turn turn = new Turn(cached, start, promptTokens, response, stockBytesPerToken());
            cached = turn.contextTokens();
            said.add(message);
            said.add(response.responseText);
            seen = whole + (response.finishReason == FinishReason.MAX_TOKENS
                    ? withoutEnd(response.responseText, pieces.last)
                    : response.responseText);
            return turn;
        } finally {
            log.listen(tokens -> {});
        }
    }

    private String prompt(List<String> questionsAndAnswers) {
        PromptSupport.Builder builder = template.builder();
        for (int i = 0; i < questionsAndAnswers.size(); i++) {
            String text = questionsAndAnswers.get(i);
            builder = i % 2 == 0 ? builder.addUserMessage(text) : builder.addAssistantMessage(text);
        }
        return builder.build().getPrompt();
    }

    /** Keys and values of all layers, in the F32 that we load the model with. */
    private long stockBytesPerToken() {
        Config config = model.getConfig();
        return 2L * config.numberOfLayers * config.kvLength * Float.BYTES;
    }

    /** The last token of an answer that was cut off was never fed back to the model. */
    private static String withoutEnd(String text, String end) {
        return text.endsWith(end) ? text.substring(0, text.length() - end.length()) : text;
    }

    /** Passes an answer on as it comes, less the blanks it begins with; the first piece ends the progress bar. */
    private static final class Pieces {
        private final ProgressBar bar;
        private final Consumer<String> answer;
        private boolean begun;
        private String last = "";

        Pieces(ProgressBar bar, Consumer<String> answer) {
            this.bar = bar;
            this.answer = answer;
        }

        void take(String piece) {
            bar.close();
            last = piece;
            String rest = begun ? piece : piece.stripLeading();
            if (!rest.isEmpty()) {
                begun = true;
                answer.accept(rest);
            }
        }
    }
}
