package io.github.tailorkv.gpu;

import io.github.tailorkv.models.ModelFolders;
import io.github.tailorkv.models.ModelSpec;
import java.io.IOException;
import java.nio.file.Path;

/** Writes a random model of Llama-3.1-8B's shape in 4 bits with fewer layers. Arguments: folder, layers. */
public final class WriteModel {

    private WriteModel() {}

    public static void main(String[] args) throws IOException {
        ModelSpec spec = ModelSpec.llama1B()
                .layers(Integer.parseInt(args[1]))
                .heads(32, 8)
                .headSize(128)
                .feedForward(14_336)
                .context(300_000)
                .build();
        System.out.println(new ModelFolders(Path.of(args[0])).quantized(spec));
    }
}
