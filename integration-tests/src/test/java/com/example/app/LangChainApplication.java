package com.example.app;

import com.github.tjake.jlama.model.AbstractModel;
import dev.langchain4j.model.jlama.JlamaChatModel;
import java.lang.reflect.Field;
import java.nio.file.Path;

/** Asks through LangChain4j: {@code LangChainApplication MODEL_CACHE OWNER/NAME QUESTION}. */
public final class LangChainApplication {
    private LangChainApplication() {}

    public static void main(String[] args) throws Exception {
        JlamaChatModel chat = JlamaChatModel.builder()
                .modelCachePath(Path.of(args[0]))
                .modelName(args[1])
                .temperature(0f)
                .maxTokens(1024)
                .build();
        for (Field field : JlamaChatModel.class.getDeclaredFields()) {
            field.setAccessible(true);
            if (field.get(chat) instanceof AbstractModel model) {
                AttentionClass.print(model);
            }
        }
        System.out.println("answer: " + chat.chat(args[2]).strip());
    }
}
