package io.github.tailorkv.bench;

import com.fasterxml.jackson.annotation.JsonInclude;
import java.util.Locale;
import org.jspecify.annotations.Nullable;

/**
 * What one contender did at one context length in one round; one JSON line each.
 *
 * @param configuration name of the contender
 * @param round counted from 1
 * @param context tokens in the cache before the first timed decode step; 0 is the floor, where attention is next to nothing
 * @param synthetic whether random keys and values stood in for the prefill
 * @param prefillMarginal tokens/s over the last tokens before this context length
 * @param prefillTotal tokens/s from the first token to this context length
 * @param firstDecodeMs time of the first decode step, in which a cache may settle what it keeps
 * @param decodeMs median time of a decode step, without sampling
 * @param decodeMsLow tenth percentile
 * @param decodeMsHigh ninetieth percentile
 * @param residentBytes memory of the process after decoding
 * @param residentFileBytes the part of it that is mapped from files
 * @param peakResidentBytes highest since the previous context length
 * @param peakHeapBytes highest use of the Java heap since then, garbage included
 * @param secondsToFill time the prefill took since the previous context length
 */
@JsonInclude(JsonInclude.Include.NON_NULL)
record Measurement(
        String configuration,
        int round,
        int context,
        boolean synthetic,
        @Nullable Double prefillMarginal,
        @Nullable Double prefillTotal,
        double firstDecodeMs,
        double decodeMs,
        double decodeMsLow,
        double decodeMsHigh,
        long residentBytes,
        long residentFileBytes,
        long peakResidentBytes,
        long peakHeapBytes,
        double secondsToFill) {

    static final int FLOOR = 0;

    /** One line for those who wait. */
    String brief() {
        String prefill = prefillMarginal == null ? ""
                : String.format(Locale.ROOT, "prefill %.1f tokens/s, ", prefillMarginal);
        return String.format(Locale.ROOT, "%7d tokens: %sdecode %.2f ms", context, prefill, decodeMs);
    }
}
