package io.github.tailorkv.it;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.github.tjake.jlama.model.AbstractModel;
import com.github.tjake.jlama.model.AbstractModel.InferenceType;
import com.github.tjake.jlama.model.DistributedContext;
import com.github.tjake.jlama.model.ModelSupport;
import com.github.tjake.jlama.safetensors.Config;
import com.github.tjake.jlama.safetensors.DType;
import com.github.tjake.jlama.safetensors.SafeTensorSupport;
import com.github.tjake.jlama.safetensors.WeightLoader;
import io.github.tailorkv.TailorKv;
import io.github.tailorkv.models.ModelSpec;
import io.github.tailorkv.models.RandomModels;
import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.Optional;
import java.util.function.Function;

/** Random models, loaded stock or served with the exact policy, and how alike their hidden states are. */
final class JlamaModels {
    /**
     * Of the size of the hidden state: ten times what was seen (2.3e-5 after 3,000 positions). Equal to the last bit they
     * cannot be: sums run in another order, and Jlama rotates head h of position p by the angles of position p + 2h,
     * which float arithmetic rounds differently.
     */
    static final double TOLERANCE = 2e-4;

    private final Path folder;
    private Function<WeightLoader, WeightLoader> weights = loader -> loader;
    private Optional<Function<Config, DistributedContext>> shard = Optional.empty();

    /** @param folder for models and Jlama's page files */
    JlamaModels(Path folder) {
        this.folder = folder;
    }

    /** The same models with their weights seen through a function. */
    JlamaModels weights(Function<WeightLoader, WeightLoader> seen) {
        JlamaModels models = new JlamaModels(folder);
        models.weights = seen;
        return models;
    }

    /** One of {@code count} parts of the same models, each with its share of the heads. */
    JlamaModels shard(int index, int count) {
        JlamaModels models = new JlamaModels(folder);
        models.shard = Optional.of(
                config -> DistributedContext.builder(config).setModelShard(index).setNumModelShards(count).build());
        return models;
    }

    AbstractModel stock(ModelSpec spec) throws IOException {
        Path pages = Files.createDirectories(folder.resolve("pages"));
        Path model = folder.resolve("model-" + Integer.toHexString(spec.hashCode()));
        if (!Files.exists(model)) {
            RandomModels.write(spec, model);
        }
        return ModelSupport.loadModel(
                InferenceType.FULL_GENERATION,
                model.toFile(),
                pages.toFile(),
                DType.F32,
                DType.F32,
                Optional.empty(),
                Optional.empty(),
                shard,
                (File base) -> weights.apply(SafeTensorSupport.loadWeights(base)));
    }

    /** With the exact policy. */
    AbstractModel served(ModelSpec spec) throws IOException {
        return served(spec, Map.of());
    }

    /** With the exact policy and further properties. */
    AbstractModel served(ModelSpec spec, Map<String, String> properties) throws IOException {
        AbstractModel model = stock(spec);
        System.setProperty("tailorkv.policy", "exact");
        properties.forEach(System::setProperty);
        try {
            return TailorKv.install(model);
        } finally {
            System.clearProperty("tailorkv.policy");
            properties.keySet().forEach(System::clearProperty);
        }
    }

    /** Page files of stock models that used the folder. */
    long pageFiles() throws IOException {
        try (var files = Files.list(folder.resolve("pages"))) {
            return files.count();
        }
    }

    static void assertClose(float[] expected, float[] actual, String what) {
        double difference = difference(expected, actual);
        assertTrue(difference <= TOLERANCE, () -> what + " differs by " + difference + " of its size");
    }

    /** The length of the difference of two vectors, relative to the length of the first. */
    static double difference(float[] expected, float[] actual) {
        assertEquals(expected.length, actual.length);
        double size = 0;
        double error = 0;
        for (int i = 0; i < expected.length; i++) {
            size += (double) expected[i] * expected[i];
            error += Math.pow((double) expected[i] - actual[i], 2);
        }
        return Math.sqrt(error / size);
    }
}
