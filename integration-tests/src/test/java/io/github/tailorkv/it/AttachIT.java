package io.github.tailorkv.it;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.sun.tools.attach.VirtualMachine;
import io.github.tailorkv.it.ChildJvm.Ended;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Agents in an application that is running. */
class AttachIT {
    @TempDir
    private Path folder;

    @Test
    void modelsLoadedLaterAreServed() throws Exception {
        ChildJvm jvm = new ChildJvm(folder).enabled()
                .classPath(Jars.application(folder))
                .classPath(ChildJvm.jlama());
        List<String> attention = attachBetweenTwoLoads(jvm, ChildJvm.TAILORKV).out().stream()
                .filter(line -> line.startsWith("attention: "))
                .toList();
        assertEquals(2, attention.size());
        assertEquals("attention: com.github.tjake.jlama.model.CausalSelfAttention", attention.get(0));
        assertTrue(attention.get(1).startsWith("attention: io.github.tailorkv.jlama."), attention::toString);
    }

    @Test
    void agentsOfOthersFindTheirClassesThroughOurLoader() throws Exception {
        ChildJvm jvm = Way.CLASS_LOADER_JAR_LAST.prepare(folder, Jars.application(folder));
        Ended ended = attachBetweenTwoLoads(jvm, Jars.witnessAgent(folder));
        assertEquals("io.github.tailorkv.boot.TailorKvClassLoader", ended.after("witness attached to "));
    }

    private static Ended attachBetweenTwoLoads(ChildJvm jvm, Path agent) throws Exception {
        jvm.option("-XX:+EnableDynamicAgentLoading");
        try (ChildJvm.Running running = jvm.start("com.example.app.PatientApplication", ChildJvm.MODEL)) {
            running.awaitOutput("ready");
            VirtualMachine application = VirtualMachine.attach(String.valueOf(running.process().pid()));
            application.loadAgent(agent.toString());
            application.detach();
            running.process().getOutputStream().write('\n');
            running.process().getOutputStream().close();
            return running.await().successful();
        }
    }
}
