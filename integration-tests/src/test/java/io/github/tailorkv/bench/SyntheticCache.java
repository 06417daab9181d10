package io.github.tailorkv.bench;

import io.github.tailorkv.models.JlamaSession;

/**
 * Puts random keys and values into a session's cache, as many as a long prompt would have left there, without running the
 * model over that prompt. Their scale is that of the random models' own keys and values.
 */
interface SyntheticCache {
    /** Chunk length, the same as Jlama's. */
    int CHUNK = 256;

    /** Fills positions {@code from} (inclusive) to {@code to} (exclusive) of all layers. */
    void fill(JlamaSession session, int from, int to);
}
