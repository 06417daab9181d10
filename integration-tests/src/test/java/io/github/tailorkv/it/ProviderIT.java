package io.github.tailorkv.it;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.tailorkv.it.ChildJvm.Ended;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.jar.Manifest;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** A cache that somebody else registered, in a jar of its own, is chosen by a property. */
class ProviderIT {
    private static final String APPLICATION = "com.example.app.QuestionApplication";

    @TempDir
    private Path folder;

    @Test
    void isFoundBesideAgent() throws Exception {
        assertChosen(talkative(Way.AGENT.prepare(folder, Jars.application(folder), providerJar()))
                .run(APPLICATION, ChildJvm.MODEL, ReferenceModel.QUESTION));
    }

    @Test
    void isFoundByClassLoader() throws Exception {
        assertChosen(talkative(Way.CLASS_LOADER_JAR_LAST.prepare(folder, Jars.application(folder), providerJar()))
                .run(APPLICATION, ChildJvm.MODEL, ReferenceModel.QUESTION));
    }

    @Test
    void isFoundInSpringBootJar() throws Exception {
        List<Path> libraries = Stream.concat(ChildJvm.jlama().stream(), Stream.of(providerJar())).toList();
        Path boot = Jars.springBootApplication(folder, APPLICATION, libraries);
        assertChosen(talkative(new ChildJvm(folder).agent())
                .run("-jar", boot, ChildJvm.MODEL, ReferenceModel.QUESTION));
    }

    @Test
    void isMissedInOneLine() throws Exception {
        Ended ended = talkative(Way.AGENT.prepare(folder, Jars.application(folder)))
                .run(APPLICATION, ChildJvm.MODEL, ReferenceModel.QUESTION);
        assertNotEquals(0, ended.status(), ended::toString);
        assertEquals(1, ended.errWith("tailorkv.provider=talkative").size(), ended::toString);
    }

    private static ChildJvm talkative(ChildJvm jvm) {
        return jvm.enabled().property("tailorkv.provider", "talkative");
    }

    private static void assertChosen(Ended ended) {
        ended.successful();
        assertTrue(ended.after("talkative provider: ").endsWith(" layers"), ended::toString);
        assertTrue(ended.after("answer: ").contains(ReferenceModel.ANSWER), ended::toString);
    }

    private Path providerJar() throws Exception {
        Map<String, byte[]> entries = Jars.classes("com.example.provider", "");
        entries.put("META-INF/services/io.github.tailorkv.spi.KvCacheProvider",
                "com.example.provider.TalkativeProvider\n".getBytes(StandardCharsets.UTF_8));
        return Jars.write(folder.resolve("talkative.jar"), new Manifest(), entries);
    }
}
