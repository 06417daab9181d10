package io.github.tailorkv.jlama;

import com.github.tjake.jlama.model.AbstractModel;
import com.github.tjake.jlama.model.functions.EmbedInput;
import com.github.tjake.jlama.tensor.AbstractTensor;

/**
 * The embedding of a model that learned its positions (GPT-2) instead of rotating by them. Jlama's own reads past its
 * table when a prompt is longer than the context. An embedding is not told which session it is for, the first layer is: it
 * refuses such a prompt, for every model, and looks at nothing that it is given.
 */
@SuppressWarnings("rawtypes")
final class LearnedPositions implements EmbedInput {
    private final EmbedInput stock;
    private final AbstractModel model;
    private final int contextLength;

    LearnedPositions(EmbedInput stock, AbstractModel model, int contextLength) {
        this.stock = stock;
        this.model = model;
        this.contextLength = contextLength;
    }

    @Override
    public AbstractTensor inputTokenToEmbedding(int inputToken, int position) {
        return position < contextLength ? stock.inputTokenToEmbedding(inputToken, position) : toBeRefused(1);
    }

    @Override
    public AbstractTensor batchInputsToEmbeddings(int[] inputTokens, int startPos) {
        return startPos + inputTokens.length <= contextLength
                ? stock.batchInputsToEmbeddings(inputTokens, startPos)
                : toBeRefused(inputTokens.length);
    }

    private AbstractTensor toBeRefused(int tokens) {
        return model.makeDenseTensor(tokens, model.getConfig().embeddingLength);
    }
}
