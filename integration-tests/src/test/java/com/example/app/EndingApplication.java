package com.example.app;

import com.github.tjake.jlama.model.AbstractModel;
import com.github.tjake.jlama.model.ModelSupport;
import com.github.tjake.jlama.safetensors.DType;
import java.io.File;
import java.util.UUID;

/** Generates in three sessions and ends, well or badly: {@code EndingApplication MODEL_FOLDER return|throw|kill}. */
public final class EndingApplication {
    private EndingApplication() {}

    public static void main(String[] args) throws Exception {
        AbstractModel model = ModelSupport.loadModel(new File(args[0]), DType.F32, DType.I8);
        var prompt = model.promptSupport().orElseThrow().builder().addUserMessage("Where does Igor Price live?")
                .build();
        for (int i = 0; i < 3; i++) {
            model.generate(UUID.randomUUID(), prompt, 0f, 60, (token, time) -> {});
        }
        System.out.println("generated");
        model.generate(UUID.randomUUID(), prompt, 0f, 60, (token, time) -> {
            if (args[1].equals("throw")) {
                throw new AssertionError("the application's own");
            }
            if (args[1].equals("kill")) {
                kill();
            }
        });
    }

    private static void kill() {
        try {
            new ProcessBuilder("kill", "-9", Long.toString(ProcessHandle.current().pid())).start().waitFor();
        } catch (java.io.IOException | InterruptedException e) {
            throw new IllegalStateException(e);
        }
    }
}
