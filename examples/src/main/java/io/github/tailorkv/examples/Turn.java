package io.github.tailorkv.examples;

import com.github.tjake.jlama.model.functions.Generator.Response;
import java.util.Locale;
import java.util.Optional;

/**
 * What a turn was like.
 *
 * @param expectedStart tokens that the session should have held when the turn began
 * @param start tokens that it held
 * @param promptTokens tokens of the prompt, the one that begins a text included
 * @param stockBytesPerToken what Jlama's own KV cache holds for one token
 */
record Turn(int expectedStart, int start, int promptTokens, Response response, long stockBytesPerToken) {
    /** Tokens that the session holds now. */
    int contextTokens() {
        return start + promptTokens + response.generatedTokens;
    }

    /** What was wrong with the turn. */
    Optional<String> complaint() {
        return start == expectedStart
                ? Optional.empty()
                : Optional.of("(This turn continued the session at token " + start + " instead of " + expectedStart
                        + ": it overwrote earlier turns. Jlama 0.8.4 does so by itself.)");
    }

    /** One line on speed and memory. */
    String summary(Optional<KvMemory> memory) {
        long stockBytes = memory.map(KvMemory::stockBytes).orElse(stockBytesPerToken * contextTokens());
        String held = memory.map(m -> megabytes(m.heldBytes()) + " (Jlama's own cache: " + megabytes(stockBytes) + ")")
                .orElse(megabytes(stockBytes) + " in Jlama's own cache");
        return String.format(
                Locale.ROOT, "[context %,d tokens | prompt %,.0f tokens/s | %.1f ms/token | KV memory %s]",
                contextTokens(), promptTokens * 1000.0 / Math.max(1, response.promptTimeMs),
                (double) response.generateTimeMs / Math.max(1, response.generatedTokens), held);
    }

    private static String megabytes(long bytes) {
        return String.format(Locale.ROOT, "%,.1f MB", bytes / 1e6);
    }
}
