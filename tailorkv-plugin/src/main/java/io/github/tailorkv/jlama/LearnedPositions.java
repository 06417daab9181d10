package io.github.tailorkv.jlama;

import com.github.tjake.jlama.model.functions.EmbedInput;
import com.github.tjake.jlama.tensor.AbstractTensor;

/**
 * The embedding of a model that learned its positions (GPT-2) instead of rotating by them. Jlama's own reads past its
 * table when a prompt is longer than the context, before any layer is asked; here the session refuses the prompt as it
 * does for every other model.
 */
@SuppressWarnings("rawtypes")
final class LearnedPositions implements EmbedInput {
    private final EmbedInput stock;
    private final TailorKvBufferCache cache;
    private final int contextLength;

    LearnedPositions(EmbedInput stock, TailorKvBufferCache cache, int contextLength) {
        this.stock = stock;
        this.cache = cache;
        this.contextLength = contextLength;
    }

    @Override
    public AbstractTensor inputTokenToEmbedding(int inputToken, int position) {
        check(position, 1);
        return stock.inputTokenToEmbedding(inputToken, position);
    }

    @Override
    public AbstractTensor batchInputsToEmbeddings(int[] inputTokens, int startPos) {
        check(startPos, inputTokens.length);
        return stock.batchInputsToEmbeddings(inputTokens, startPos);
    }

    private void check(int start, int tokens) {
        if (start + tokens > contextLength) {
            throw cache.refuse(start, tokens);
        }
    }
}
