package io.github.tailorkv.it;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** What an application leaves in its temp folder, which is also where it was started. */
class PageFilesIT {
    @TempDir
    Path folder;

    private ChildJvm.Ended run(boolean enabled, String ending, int status) throws Exception {
        Path start = Files.createDirectory(folder.resolve("start"));
        ChildJvm.Ended ended = Way.AGENT.prepare(start, Jars.application(folder))
                .property("tailorkv.enabled", enabled)
                .property("tailorkv.policy", "exact")
                .run("com.example.app.EndingApplication", ChildJvm.MODEL, ending);
        assertEquals(status, ended.status(), ended::toString);
        assertEquals(List.of("generated"), ended.out(), ended::toString);
        return ended;
    }

    private List<Path> files() throws IOException {
        try (Stream<Path> files = Files.walk(folder.resolve("start"))) {
            return files
                    .filter(file -> Files.isRegularFile(file) && !file.getFileName().toString().startsWith("child."))
                    .toList();
        }
    }

    @ParameterizedTest
    @CsvSource({"return, 0", "throw, 1", "kill, 137"})
    void noPageFileStays(String ending, int status) throws Exception {
        run(true, ending, status);
        assertEquals(List.of(), files());
    }

    /** The fault that the rest of this class is about; nobody deletes the files. */
    @Test
    void stockLeavesItsPages() throws Exception {
        run(false, "return", 0);
        assertFalse(files().isEmpty());
    }
}
