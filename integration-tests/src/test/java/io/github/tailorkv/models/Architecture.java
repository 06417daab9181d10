package io.github.tailorkv.models;

import java.util.Arrays;
import java.util.List;
import java.util.Locale;

/** What Jlama 0.8.4 can load, by the name that {@code model_type} has in config.json. */
public enum Architecture {
    LLAMA,
    /** Head size independent of the hidden size. */
    MISTRAL,
    /**
     * Mixture of experts. Jlama's MoEBlock mixes up the rows of a batch (the first expert's output of each row goes to the
     * first row), so its results depend on where a prompt is cut into batches.
     */
    MIXTRAL,
    /** Biases on queries, keys and values. */
    QWEN2,
    /** Multi-query attention, scaled and tied embeddings. */
    GEMMA,
    /** Soft-capped scores, norms on both sides of each block, head size independent of the hidden size. */
    GEMMA2,
    /** Its own multipliers for scores, residuals, embeddings and logits. */
    GRANITE,
    /** One KV head per query head, biases everywhere, learned positions instead of RoPE. */
    GPT2,
    /** An encoder: no causal mask, no generation. */
    BERT;

    /** All but the encoder. */
    public static List<Architecture> decoders() {
        return Arrays.stream(values()).filter(a -> a != BERT).toList();
    }

    String modelType() {
        return name().toLowerCase(Locale.ROOT);
    }

    boolean headSizeIsFree() {
        return this == MISTRAL || this == GEMMA2;
    }

    /** Whether each query head has its own KV head. */
    boolean isMultiHead() {
        return this == GPT2 || this == BERT;
    }

    boolean alwaysTied() {
        return this == GEMMA || this == GEMMA2 || isMultiHead();
    }

    /** What a word's leading space is written as in the vocabulary. */
    char spaceMarker() {
        return this == GPT2 || this == GRANITE ? '\u0120' : '\u2581';
    }

    /** What a line feed is written as in the vocabulary. */
    char newLineMarker() {
        return this == GPT2 || this == GRANITE ? '\u010A' : '\n';
    }
}
