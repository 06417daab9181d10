package io.github.tailorkv.it;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.tailorkv.it.ChildJvm.Ended;
import java.nio.file.Path;
import java.util.List;
import java.util.jar.Manifest;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The way in that is a line of code, alone and where another way in was there first. */
class InstallIT {
    private static final String APPLICATION = "com.example.installing.InstallingApplication";

    @TempDir
    private Path folder;

    @Test
    void servesOnTheClassPath() throws Exception {
        assertServedOnce(new ChildJvm(folder).classPath(application(), ChildJvm.TAILORKV)
                .classPath(ChildJvm.jlama())
                .run(APPLICATION, ChildJvm.MODEL, ReferenceModel.QUESTION));
    }

    @Test
    void servesInSpringBootJar() throws Exception {
        assertServedOnce(new ChildJvm(folder).run("-jar", springBootJar(), ChildJvm.MODEL, ReferenceModel.QUESTION));
    }

    @Test
    void isHarmlessAfterClassLoader() throws Exception {
        assertServedOnce(Way.CLASS_LOADER_JAR_LAST.prepare(folder, application()).enabled()
                .run(APPLICATION, ChildJvm.MODEL, ReferenceModel.QUESTION));
    }

    @Test
    void isHarmlessInSpringBootJarBesideAgent() throws Exception {
        assertServedOnce(new ChildJvm(folder).agent().enabled()
                .run("-jar", springBootJar(), ChildJvm.MODEL, ReferenceModel.QUESTION));
    }

    private static void assertServedOnce(Ended ended) {
        ended.successful();
        assertEquals(1, ended.errWith("TailorKV serves").size(), ended::toString);
        assertTrue(ended.after("answer: ").contains(ReferenceModel.ANSWER), ended::toString);
    }

    private Path application() throws Exception {
        return Jars.write(folder.resolve("app.jar"), new Manifest(), Jars.classes("com.example.installing", ""));
    }

    private Path springBootJar() throws Exception {
        List<Path> libraries = Stream.concat(ChildJvm.jlama().stream(), Stream.of(application(), ChildJvm.TAILORKV))
                .toList();
        return Jars.springBootApplication(folder, APPLICATION, libraries);
    }
}
