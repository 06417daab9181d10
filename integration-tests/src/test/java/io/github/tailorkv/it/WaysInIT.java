package io.github.tailorkv.it;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.tailorkv.it.ChildJvm.Ended;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/**
 * Every way into an application that was not changed: the attention is ours, the answer that of stock Jlama, and a JVM
 * that did not ask for us keeps a Jlama that nobody touched.
 */
class WaysInIT {
    private static final String APPLICATION = "com.example.app.QuestionApplication";
    private static final String STOCK_ATTENTION = "com.github.tjake.jlama.model.CausalSelfAttention";
    private static final String OUR_ATTENTION = "io.github.tailorkv.jlama.";

    private static Path applicationJar;
    private static String stockAnswer;

    @TempDir
    private static Path folder;

    @BeforeAll
    static void askStockJlama() throws Exception {
        applicationJar = Jars.application(folder);
        Ended stock = new ChildJvm(folder).classPath(applicationJar)
                .classPath(ChildJvm.jlama())
                .run(APPLICATION, ChildJvm.MODEL, ReferenceModel.QUESTION)
                .successful();
        assertEquals(STOCK_ATTENTION, stock.after("attention: "));
        stockAnswer = stock.after("answer: ");
        assertTrue(stockAnswer.contains(ReferenceModel.ANSWER), stockAnswer);
    }

    @ParameterizedTest
    @EnumSource
    void servesUnchangedApplication(Way way) throws Exception {
        assertServed(way.prepare(folder, applicationJar).enabled().property("tailorkv.policy", "exact")
                .run(APPLICATION, ChildJvm.MODEL, ReferenceModel.QUESTION));
    }

    @Test
    void servesSpringBootApplicationBesideAgent() throws Exception {
        Path boot = Jars.springBootApplication(folder, APPLICATION, ChildJvm.jlama());
        Ended ended = new ChildJvm(folder).agent().enabled().property("tailorkv.policy", "exact")
                .run("-jar", boot, ChildJvm.MODEL, ReferenceModel.QUESTION);
        assertServed(ended);
        assertEquals("org.springframework.boot.loader.launch.LaunchedClassLoader", ended.after("loader of Jlama: "));
    }

    private void assertServed(Ended ended) {
        ended.successful();
        assertTrue(ended.after("attention: ").startsWith(OUR_ATTENTION), ended::toString);
        assertTrue(ended.after("cache: ").startsWith(OUR_ATTENTION), ended::toString);
        assertEquals(stockAnswer, ended.after("answer: "), ended::toString);
        assertEquals(1, ended.errWith("TailorKV serves").size(), ended::toString);
        assertEquals(List.of(), ended.errWith("tailorkv: "), ended::toString);
    }

    @ParameterizedTest
    @EnumSource(names = {"AGENT", "AGENT_AND_CLASS_LOADER"})
    void leavesJlamaAloneUnlessEnabled(Way way) throws Exception {
        Ended ended = way.prepare(folder, applicationJar)
                .option("-javaagent:" + Jars.witnessAgent(folder))
                .property("tailorkv.policy", "no such policy, but nobody asks")
                .run(APPLICATION, ChildJvm.MODEL, ReferenceModel.QUESTION)
                .successful();
        assertEquals(STOCK_ATTENTION, ended.after("attention: "));
        assertEquals(stockAnswer, ended.after("answer: "));
        assertTrue(ended.after("ModelSupport: ").startsWith("original from file:"), ended::toString);
        assertEquals(List.of(), ended.errWith("ailor"), ended::toString);
    }

    /** Otherwise the test above could not fail; and the two ways weave one call, not two. */
    @Test
    void weavesOnceNextToOtherAgents() throws Exception {
        Ended ended = Way.AGENT_AND_CLASS_LOADER.prepare(folder, applicationJar)
                .option("-javaagent:" + Jars.witnessAgent(folder))
                .enabled()
                .run(APPLICATION, ChildJvm.MODEL, ReferenceModel.QUESTION)
                .successful();
        assertTrue(ended.after("ModelSupport: ").startsWith("changed from file:"), ended::toString);
        assertEquals(1, ended.errWith("TailorKV serves").size(), ended::toString);
    }

    @ParameterizedTest
    @EnumSource
    void endsWithOneLineOnAWrongSetting(Way way) throws Exception {
        Ended ended = way.prepare(folder, applicationJar).enabled().property("tailorkv.polcy", "exact")
                .run(APPLICATION, ChildJvm.MODEL, ReferenceModel.QUESTION);
        assertEquals(1, ended.status(), ended::toString);
        List<String> lines = Stream.concat(ended.out().stream(), ended.err().stream())
                .filter(line -> !line.startsWith("WARNING: Using incubator modules")
                        && !line.contains("[warning][cds]"))
                .toList();
        assertEquals(1, lines.size(), ended::toString);
        assertTrue(ended.err().getLast().startsWith("tailorkv: unknown property tailorkv.polcy; "), ended::toString);
    }
}
