package io.github.tailorkv.examples;

import dev.langchain4j.data.message.ChatMessage;
import dev.langchain4j.data.message.UserMessage;
import dev.langchain4j.model.chat.ChatModel;
import dev.langchain4j.model.chat.response.ChatResponse;
import dev.langchain4j.model.jlama.JlamaChatModel;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/**
 * Asks about a document through LangChain4j: {@code LangChainQuestions MODEL_CACHE OWNER/NAME DOCUMENT QUESTION...}. It
 * knows LangChain4j's interface only, as most applications of it do. LangChain4j sends the whole conversation with every
 * question and begins a session of Jlama for each, so every answer begins with reading the document.
 */
public final class LangChainQuestions {
    private LangChainQuestions() {}

    /**
     * Answers the questions one after another.
     *
     * @param arguments the command line
     * @throws IOException if the document cannot be read
     */
    public static void main(String[] arguments) throws IOException {
        if (arguments.length < 4) {
            System.err.println("usage: LangChainQuestions MODEL_CACHE OWNER/NAME DOCUMENT QUESTION...");
            System.exit(2);
        }
        String document = Files.readString(Path.of(arguments[2])).strip().replaceAll("\\s+", " ");
        ChatModel model = JlamaChatModel.builder()
                .modelCachePath(Path.of(arguments[0]))
                .modelName(arguments[1])
                .temperature(0f)
                .build();
        List<ChatMessage> conversation = new ArrayList<>();
        for (String question : List.of(arguments).subList(3, arguments.length)) {
            conversation.add(UserMessage.from(conversation.isEmpty()
                    ? "Read this text and remember its details. " + document + "\n" + question
                    : question));
            ChatResponse response = model.chat(conversation);
            conversation.add(response.aiMessage());
            System.out.println(question + " " + response.aiMessage().text().strip());
        }
    }
}
