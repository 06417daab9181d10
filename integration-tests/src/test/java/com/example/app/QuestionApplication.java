package com.example.app;

import com.github.tjake.jlama.model.AbstractModel;
import com.github.tjake.jlama.model.ModelSupport;
import com.github.tjake.jlama.safetensors.DType;
import java.io.File;
import java.util.UUID;

/** Asks a model one question: {@code QuestionApplication MODEL_FOLDER QUESTION}. */
public final class QuestionApplication {
    private QuestionApplication() {}

    public static void main(String[] args) throws Exception {
        try (AbstractModel model = ModelSupport.loadModel(new File(args[0]), DType.F32, DType.I8)) {
            AttentionClass.print(model);
            var prompt = model.promptSupport().orElseThrow().builder().addUserMessage(args[1]).build();
            var answer = model.generate(UUID.randomUUID(), prompt, 0f, 1024, (token, time) -> {});
            System.out.println("answer: " + answer.responseText.strip());
        }
    }
}
