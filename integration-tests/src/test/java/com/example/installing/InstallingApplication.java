package com.example.installing;

import com.github.tjake.jlama.model.AbstractModel;
import com.github.tjake.jlama.model.ModelSupport;
import com.github.tjake.jlama.safetensors.DType;
import io.github.tailorkv.TailorKv;
import java.io.File;
import java.util.UUID;

/** Asks a model one question: {@code InstallingApplication MODEL_FOLDER QUESTION}. */
public final class InstallingApplication {
    private InstallingApplication() {}

    public static void main(String[] args) throws Exception {
        File folder = new File(args[0]);
        UUID session = UUID.randomUUID();
        try (AbstractModel model = TailorKv.install(ModelSupport.loadModel(folder, DType.F32, DType.I8))) {
            var prompt = model.promptSupport().orElseThrow().builder().addUserMessage(args[1]).build();
            System.out
                    .println("answer: " + model.generate(session, prompt, 0f, 1024, (token, time) -> {}).responseText);
            TailorKv.closeSession(model, session);
        }
    }
}
