package io.github.tailorkv.tools.evaluate;

import io.github.tailorkv.json.JsonException;
import io.github.tailorkv.json.JsonObject;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Results as JSON, one a line, appended as they come; a line that an interruption cut short is dropped. */
public final class ResultFile {
    private final Path file;
    private final Map<Result.Key, Result> results = new LinkedHashMap<>();

    private ResultFile(Path file) {
        this.file = file;
    }

    /**
     * Opens a file with what it holds, or a new one.
     *
     * @throws IOException if it cannot be read or written, or holds something else
     */
    public static ResultFile open(Path file) throws IOException {
        ResultFile opened = new ResultFile(file);
        if (!Files.exists(file)) {
            Files.writeString(file, "");
            return opened;
        }
        String text = Files.readString(file);
        int end = text.lastIndexOf('\n') + 1;
        List<String> lines = text.substring(0, end).lines().toList();
        for (int i = 0; i < lines.size(); i++) {
            try {
                Result result = Result.of(JsonObject.parse(lines.get(i)));
                opened.results.put(result.key(), result);
            } catch (JsonException e) {
                throw new IOException(
                        file + " is damaged or no file of results (line " + (i + 1) + ": " + e.getMessage()
                                + "); delete it or name another folder with --output",
                        e);
            }
        }
        if (end < text.length()) {
            Files.writeString(file, text.substring(0, end));
        }
        return opened;
    }

    /** Whether a result is there. */
    public boolean has(Result.Key key) {
        return results.containsKey(key);
    }

    /** All results. */
    public Collection<Result> all() {
        return results.values();
    }

    /** Adds a result at once. */
    public void add(Result result) throws IOException {
        Files.write(
                file, (result.toJson() + "\n").getBytes(StandardCharsets.UTF_8), StandardOpenOption.APPEND,
                StandardOpenOption.CREATE);
        results.put(result.key(), result);
    }
}
