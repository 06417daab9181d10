package io.github.tailorkv.it;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.tailorkv.it.ChildJvm.Ended;
import java.io.File;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What others have published on top of Jlama and load their models in their own way. */
class PublishedApplicationsIT {
    private static final String MODEL_NAME = "tailorkv/reference";

    @TempDir
    private Path folder;

    private Path modelCache;

    /** A folder of models as Jlama downloads them: nothing in it has to be fetched again. */
    @BeforeEach
    void makeModelCache() throws Exception {
        modelCache = folder.resolve("models");
        Path model = Files.createDirectories(modelCache.resolve(MODEL_NAME.replace('/', '_')));
        try (Stream<Path> files = Files.list(ChildJvm.MODEL)) {
            for (Path file : files.toList()) {
                Files.copy(file, model.resolve(file.getFileName()));
            }
        }
        Files.createFile(model.resolve(".finished"));
    }

    @Test
    void langChain4jIsServed() throws Exception {
        Ended ended = Way.CLASS_LOADER_JAR_FIRST.prepare(folder, Jars.application(folder))
                .classPath(ChildJvm.library("langchain4j-jlama"), ChildJvm.library("langchain4j-core"))
                .enabled()
                .run("com.example.app.LangChainApplication", modelCache, MODEL_NAME, ReferenceModel.QUESTION)
                .successful();
        assertTrue(ended.after("attention: ").startsWith("io.github.tailorkv.jlama."), ended::toString);
        assertTrue(ended.after("answer: ").contains(ReferenceModel.ANSWER), ended::toString);
    }

    @Test
    void commandLineOfJlamaIsServed() throws Exception {
        ChildJvm jvm = new ChildJvm(folder).agent().enabled().classPath(Jars.application(folder));
        Stream.of(System.getProperty("jlama.cli.path", "").split(File.pathSeparator)).map(Path::of)
                .forEach(jvm::classPath);
        // Its logging is logback, and two loggers are one too many.
        jvm.classPath(ChildJvm.jlama().stream().filter(jar -> !jar.toString().contains("slf4j-simple")).toList());
        Ended ended = jvm.run("com.example.app.CompletionApplication", "--model-cache", modelCache, "--temperature", 0,
                "--tokens", 40, "--prompt", "The road bends gently past", MODEL_NAME).successful();
        assertEquals(1, ended.errWith("TailorKV serves").size(), ended::toString);
        List<String> tokens = ended.out().stream().filter(line -> line.contains("[took ")).toList();
        assertFalse(tokens.isEmpty(), ended::toString);
    }
}
