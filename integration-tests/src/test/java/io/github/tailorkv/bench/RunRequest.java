package io.github.tailorkv.bench;

import java.util.List;

/**
 * What one child JVM is to measure.
 *
 * @param configuration name of the contender
 * @param stock whether the contender is stock Jlama
 * @param round counted from 1
 * @param model folder of the model
 * @param contexts ascending context lengths at which to measure, in tokens
 * @param decodeSteps timed decode steps at each of them
 * @param marginal tokens before each context length whose prefill speed counts as the speed there
 * @param threads of Jlama's matrix products; 0 for as many as Jlama takes, half of the processors
 * @param warmUp tokens of a session that nobody measures
 * @param settleSeconds how long to decode at each context length before steps are timed
 * @param synthetic whether to fill the cache with random keys and values instead of running the model
 * @param limitSeconds after which no further context length is begun
 * @param seed of tokens, keys and values
 */
record RunRequest(
        String configuration,
        boolean stock,
        int round,
        String model,
        List<Integer> contexts,
        int decodeSteps,
        int marginal,
        int threads,
        int warmUp,
        int settleSeconds,
        boolean synthetic,
        int limitSeconds,
        long seed) {}
