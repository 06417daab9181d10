package io.github.tailorkv.models;

import com.github.tjake.jlama.safetensors.DType;
import com.github.tjake.jlama.safetensors.SafeTensorSupport;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Comparator;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import java.util.stream.Stream;

/**
 * Random models that are written once and kept, each in a folder named after its spec. A folder appears under its name
 * only when it is complete.
 */
public final class ModelFolders {
    /** Jlama cannot look tokens up in a quantized embedding, and norms are vectors. */
    private static final String[] NOT_QUANTIZED = {"embed", "norm"};

    private final Path root;

    public ModelFolders(Path root) {
        this.root = root;
    }

    /** The folder of a model, written if it is not there. */
    public Path plain(ModelSpec spec) throws IOException {
        return cached(name(spec), folder -> RandomModels.write(spec, folder));
    }

    /**
     * The folder of a model whose matrices Jlama's own quantizer has brought to 4 bits, written if it is not there. The
     * unquantized weights go away again.
     */
    public Path quantized(ModelSpec spec) throws IOException {
        return cached(name(spec) + "-q4", folder -> {
            Path plain = folder.resolveSibling(folder.getFileName() + ".plain");
            try {
                RandomModels.write(spec, plain);
                SafeTensorSupport.quantizeModel(plain, DType.Q4, NOT_QUANTIZED, null, Optional.of(folder));
            } finally {
                delete(plain);
            }
        });
    }

    private interface FolderWriter {
        void write(Path folder) throws IOException;
    }

    private Path cached(String name, FolderWriter writer) throws IOException {
        Path folder = root.resolve(name);
        if (!Files.isDirectory(folder)) {
            Path draft = root.resolve(name + ".draft");
            delete(draft);
            Files.createDirectories(root);
            writer.write(draft);
            Files.move(draft, folder);
        }
        return folder;
    }

    private static String name(ModelSpec spec) {
        return String.format(
                Locale.ROOT,
                "%s-%dx%d-%dx%dx%d-%d-%d-%s-%08x",
                spec.architecture().modelType(),
                spec.layers(),
                spec.hidden(),
                spec.heads(),
                spec.kvHeads(),
                spec.headSize(),
                spec.vocabulary(),
                spec.context(),
                spec.type().name().toLowerCase(Locale.ROOT),
                spec.toString().hashCode());
    }

    private static void delete(Path folder) throws IOException {
        if (!Files.exists(folder)) {
            return;
        }
        try (Stream<Path> files = Files.walk(folder)) {
            List<Path> deepestFirst = files.sorted(Comparator.reverseOrder()).toList();
            for (Path file : deepestFirst) {
                Files.delete(file);
            }
        } catch (UncheckedIOException e) {
            throw e.getCause();
        }
    }
}
