package io.github.tailorkv.bench;

/**
 * What one child JVM says at its end.
 *
 * @param configuration name of the contender
 * @param round counted from 1
 * @param operations who computes Jlama's matrix products, by Jlama's name for it
 * @param threads with how many
 * @param loadSeconds time to load the model
 * @param floorPrefill tokens/s of the first chunk of a prompt, where attention is next to nothing
 * @param floorDecodeMs median time of a decode step there
 * @param tokens in the cache at the end
 * @param stockBytes what Jlama's own cache holds for these tokens
 * @param peakResidentBytes highest memory of the process
 */
record RunSummary(
        String configuration,
        int round,
        String operations,
        int threads,
        double loadSeconds,
        double floorPrefill,
        double floorDecodeMs,
        int tokens,
        long stockBytes,
        long peakResidentBytes) {}
