package com.example.app;

import com.github.tjake.jlama.model.AbstractModel;
import com.github.tjake.jlama.model.ModelSupport;
import com.github.tjake.jlama.safetensors.DType;
import java.io.File;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.UUID;

/**
 * Reads a text and answers, whenever it gets a byte, and ends with its input: {@code RepeatingApplication MODEL_FOLDER
 * TEXT_FILE}. A second byte makes a second turn of the same session. A
 * turn ends when the session holds 1500 tokens more, if not before.
 */
public final class RepeatingApplication {
    private RepeatingApplication() {}

    public static void main(String[] args) throws Exception {
        String question = Files.readString(Path.of(args[1])) + "\nWhere does Igor Price live?";
        UUID session = UUID.randomUUID();
        System.out.println("session: " + session);
        try (AbstractModel model = ModelSupport.loadModel(new File(args[0]), DType.F32, DType.I8)) {
            System.out.println("loaded");
            for (int turn = 1; System.in.read() >= 0; turn++) {
                var prompt = model.promptSupport().orElseThrow().builder().addUserMessage(question).build();
                model.generate(session, prompt, 0f, 1500 * turn, (token, time) -> {});
                System.out.println("turn " + turn);
            }
        }
        System.out.println("closed");
    }
}
