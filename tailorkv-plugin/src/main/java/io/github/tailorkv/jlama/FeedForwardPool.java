package io.github.tailorkv.jlama;

import com.github.tjake.jlama.model.AbstractModel;
import com.github.tjake.jlama.model.functions.FeedForward;
import com.github.tjake.jlama.tensor.AbstractTensor;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.ConcurrentLinkedDeque;
import java.util.function.Consumer;

/**
 * The feed-forward block of one layer, for any number of threads. Jlama's own blocks keep their intermediate results in
 * fields, so two sessions at once would write into each other's; here each call takes a block of its own, over the same
 * weights. A lock would not do: in a distributed model the call waits for other processes, which may be working on
 * another session.
 */
@SuppressWarnings("rawtypes")
final class FeedForwardPool implements FeedForward {
    private final FeedForward stock;
    private final AbstractModel model;
    private final JlamaSymbols symbols;
    private final ConcurrentLinkedDeque<FeedForward> free = new ConcurrentLinkedDeque<>();

    private FeedForwardPool(FeedForward stock, AbstractModel model, JlamaSymbols symbols) {
        this.stock = stock;
        this.model = model;
        this.symbols = symbols;
        free.add(stock);
    }

    /** A pool for a block of a known type; any other block as it is. */
    static FeedForward of(FeedForward stock, AbstractModel model, JlamaSymbols symbols) {
        return symbols.copyOf(stock, model).isPresent() ? new FeedForwardPool(stock, model, symbols) : stock;
    }

    @Override
    public AbstractTensor forward(AbstractTensor input, Optional<Consumer<List<AbstractTensor>>> tensorReducer) {
        FeedForward block = free.pollFirst();
        if (block == null) {
            block = symbols.copyOf(stock, model).orElseThrow();
        }
        try {
            return block.forward(input, tensorReducer);
        } finally {
            free.addFirst(block);
        }
    }
}
