package com.example.app;

import com.github.tjake.jlama.model.AbstractModel;
import com.github.tjake.jlama.model.ModelSupport;
import com.github.tjake.jlama.safetensors.DType;
import java.io.File;

/** Loads a model, waits for a key, loads it again: {@code PatientApplication MODEL_FOLDER}. */
public final class PatientApplication {
    private PatientApplication() {}

    public static void main(String[] args) throws Exception {
        load(args[0]);
        System.out.println("ready");
        if (System.in.read() < 0) {
            throw new IllegalStateException("nobody there");
        }
        load(args[0]);
    }

    private static void load(String folder) throws Exception {
        try (AbstractModel model = ModelSupport.loadModel(new File(folder), DType.F32, DType.I8)) {
            AttentionClass.print(model);
        }
    }
}
