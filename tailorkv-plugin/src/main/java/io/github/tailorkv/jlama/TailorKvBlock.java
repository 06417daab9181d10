package io.github.tailorkv.jlama;

import com.github.tjake.jlama.model.AbstractModel;
import com.github.tjake.jlama.model.TransformerBlock;
import com.github.tjake.jlama.tensor.AbstractTensor;
import com.github.tjake.jlama.tensor.KvBufferCache;
import java.util.List;
import java.util.Optional;
import java.util.function.Consumer;

/**
 * A transformer layer around our attention. It computes what Jlama's does; it exists because an error anywhere in a layer,
 * not only in the attention, leaves the session with tokens that some layers hold and others do not.
 */
@SuppressWarnings("rawtypes")
final class TailorKvBlock extends TransformerBlock {
    private final TailorKvBufferCache cache;
    private final boolean first;
    private final boolean last;

    /**
     * @param stock the layer to replace
     * @param layer its index in this process
     * @param layers how many there are in this process
     */
    TailorKvBlock(
            AbstractModel model, TransformerBlock stock, int layer, int layers, TailorKvAttention attention,
            TailorKvBufferCache cache, JlamaSymbols symbols) {
        super(
                model, symbols.layerIndex(stock), symbols.norm(stock, "preAttentionNorm"), attention,
                symbols.norm(stock, "postAttentionNorm"), symbols.norm(stock, "preFFNorm"),
                FeedForwardPool.of(symbols.feedForward(stock), model, symbols), symbols.norm(stock, "postFFNorm"),
                symbols.norm(stock, "preResponseNorm"));
        this.cache = cache;
        this.first = layer == 0;
        this.last = layer == layers - 1;
    }

    @Override
    public AbstractTensor forward(
            AbstractTensor embedding, int position, KvBufferCache.KvBuffer kvBuffer,
            Optional<Consumer<List<AbstractTensor>>> tensorReducer) {
        Session session = cache.session(kvBuffer);
        session.enter(first, position, embedding.shape().first());
        boolean done = false;
        try {
            AbstractTensor output = super.forward(embedding, position, kvBuffer, tensorReducer);
            done = true;
            return output;
        } finally {
            if (done) {
                session.leave(last);
            } else {
                session.abandonPass();
            }
        }
    }
}
