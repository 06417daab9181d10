package io.github.tailorkv.examples;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Optional;

/**
 * What the KV cache of a session holds, from the report that a plugin may write to the file that the system property
 * {@code tailorkv.report} names.
 *
 * @param residentBytes in RAM
 * @param offloadedBytes in the offload tier, which may be RAM too
 * @param stockBytes what Jlama's own cache would hold
 */
record KvMemory(long residentBytes, long offloadedBytes, long stockBytes) {

    long heldBytes() {
        return residentBytes + offloadedBytes;
    }

    /** What the report says, if there is one and it is about a session of so many tokens: it tells of the longest only. */
    static Optional<KvMemory> reported(int tokens) {
        String file = System.getProperty("tailorkv.report");
        if (file == null || !Files.isRegularFile(Path.of(file))) {
            return Optional.empty();
        }
        try {
            JsonNode totals = new ObjectMapper().readTree(Path.of(file).toFile()).path("totals");
            return totals.path("tokens").asInt() != tokens
                    ? Optional.empty()
                    : Optional.of(
                            new KvMemory(
                                    totals.path("residentBytes").asLong(), totals.path("offloadedBytes").asLong(),
                                    totals.path("stockBytes").asLong()));
        } catch (IOException e) {
            return Optional.empty();
        }
    }
}
