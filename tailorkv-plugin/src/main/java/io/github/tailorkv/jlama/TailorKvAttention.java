package io.github.tailorkv.jlama;

import com.github.tjake.jlama.math.VectorMath;
import com.github.tjake.jlama.model.AbstractModel;
import com.github.tjake.jlama.model.CausalSelfAttention;
import com.github.tjake.jlama.model.DistributedContext;
import com.github.tjake.jlama.safetensors.DType;
import com.github.tjake.jlama.safetensors.Config;
import com.github.tjake.jlama.tensor.AbstractTensor;
import com.github.tjake.jlama.tensor.KvBufferCache;
import com.github.tjake.jlama.tensor.operations.TensorOperations;
import com.github.tjake.jlama.tensor.operations.TensorOperationsProvider;
import io.github.tailorkv.kernels.AttentionShape;
import java.lang.foreign.MemorySegment;
import java.lang.invoke.MethodHandle;
import java.util.List;
import java.util.Optional;
import java.util.function.Consumer;

/**
 * The attention of one layer: Jlama's own projections around our cache.
 *
 * <p>Queries, keys and values are computed by Jlama's matrix kernels over the segment of this process, as the stock
 * attention does. Then the rotary embedding is applied in place, and the session appends keys and values and attends for
 * all rows at once. With F32 activations and a whole model no value is copied on the way: the session reads and writes the
 * tensors' memory, which for a chunk of a prompt is the cache's own if it lends any. BF16 activations and shards go through
 * {@link Scratch}.
 */
@SuppressWarnings("rawtypes")
final class TailorKvAttention extends CausalSelfAttention {
    private final AbstractModel model;
    private final Config config;
    private final DistributedContext context;
    private final ModelBridge bridge;
    private final int layer;
    private final AbstractTensor queryWeights;
    private final AbstractTensor keyWeights;
    private final AbstractTensor valueWeights;
    private final AbstractTensor outputWeights;
    private final Optional<AbstractTensor> queryBias;
    private final Optional<AbstractTensor> keyBias;
    private final Optional<AbstractTensor> valueBias;
    private final Optional<AbstractTensor> outputBias;
    private final MethodHandle maybeQuantize;

    /**
     * @param stock the attention to replace
     * @param layer index of the layer in this process; Jlama's own index counts from the first layer of the model in some
     *     models and from the first of the process in others
     */
    TailorKvAttention(AbstractModel model, CausalSelfAttention stock, int layer, ModelBridge bridge,
            JlamaSymbols symbols) {
        this(
                model, layer, bridge, symbols.maybeQuantize(), symbols.bias(stock, "queryAttnBias"),
                symbols.bias(stock, "keyAttnBias"), symbols.bias(stock, "valueAttnBias"),
                symbols.weights(stock, "queryAttnWeights"), symbols.weights(stock, "keyAttnWeights"),
                symbols.weights(stock, "valueAttnWeights"), symbols.bias(stock, "outputProjectionBias"),
                symbols.weights(stock, "outputProjectionWeights"));
    }

    private TailorKvAttention(
            AbstractModel model, int layer, ModelBridge bridge, MethodHandle maybeQuantize,
            Optional<AbstractTensor> queryBias,
            Optional<AbstractTensor> keyBias, Optional<AbstractTensor> valueBias, AbstractTensor queryWeights,
            AbstractTensor keyWeights, AbstractTensor valueWeights, Optional<AbstractTensor> outputBias,
            AbstractTensor outputWeights) {
        super(
                model, layer, queryBias, keyBias, valueBias, queryWeights, keyWeights, valueWeights, outputBias,
                outputWeights);
        this.model = model;
        this.config = model.getConfig();
        this.context = config.dctx();
        this.layer = layer;
        this.bridge = bridge;
        this.maybeQuantize = maybeQuantize;
        this.queryBias = queryBias;
        this.keyBias = keyBias;
        this.valueBias = valueBias;
        this.queryWeights = queryWeights;
        this.keyWeights = keyWeights;
        this.valueWeights = valueWeights;
        this.outputBias = outputBias;
        this.outputWeights = outputWeights;
    }

    @Override
    public AbstractTensor forward(
            AbstractTensor input, int startPosition, KvBufferCache.KvBuffer kvMem,
            Optional<Consumer<List<AbstractTensor>>> tensorReducer) {
        if (input.dims() != 2 || input.shape().last() != config.embeddingLength) {
            throw new IllegalArgumentException(
                    "The attention takes rows of " + config.embeddingLength + ", not " + input.shape());
        }
        Session session = bridge.cache().session(kvMem);
        int rows = input.shape().first();
        int width = config.numberOfHeads * config.headSize;
        Scratch scratch = session.scratch().take();
        try (
                AbstractTensor query = tensor(scratch, Scratch.Use.QUERY, rows, width);
                AbstractTensor key = tensor(scratch, Scratch.Use.KEY, rows, config.kvLength);
                AbstractTensor value = tensor(scratch, Scratch.Use.VALUE, rows, config.kvLength);
                AbstractTensor attended = tensor(scratch, Scratch.Use.OUTPUT, rows, width)) {
            project(input, query, key, value);
            attend(session, startPosition, rows, query, key, value, attended, scratch);
            return output(attended, tensorReducer);
        } finally {
            session.scratch().giveBack(scratch);
        }
    }

    /** A shard writes but a part of each row, and Jlama's own tensors begin as zeros. */
    private AbstractTensor tensor(Scratch scratch, Scratch.Use use, int rows, int width) {
        boolean whole = context.attentionSegmentLength == config.numberOfHeads * config.headSize
                && context.kvSegmentLength == config.kvLength;
        AbstractTensor lent = rows > 1 && whole && model.getWorkingDType() == DType.F32
                ? scratch.tensor(use, rows, width)
                : null;
        return lent != null ? lent : model.makeDenseTensor(rows, width);
    }

    private void project(AbstractTensor input, AbstractTensor query, AbstractTensor key, AbstractTensor value) {
        TensorOperations operations = TensorOperationsProvider.get();
        int embedding = config.embeddingLength;
        if (config.isGQA) {
            VectorMath.pchunk(
                    context.attentionSegmentStart, context.attentionSegmentLength,
                    (start, length) -> operations.dotProductChunk(query, input, queryWeights, 0, embedding, start,
                            length));
            VectorMath.pchunk(context.kvSegmentStart, context.kvSegmentLength, (start, length) -> {
                operations.dotProductChunk(key, input, keyWeights, 0, embedding, start, length);
                operations.dotProductChunk(value, input, valueWeights, 0, embedding, start, length);
            });
        } else {
            AbstractTensor[] results = {query, key, value};
            AbstractTensor[] weights = {queryWeights, keyWeights, valueWeights};
            VectorMath.pchunk(
                    context.attentionSegmentStart, context.attentionSegmentLength,
                    (start, length) -> operations.dotProductBatchChunk(results, input, weights, 0, embedding, start,
                            length));
        }
        queryBias.ifPresent(
                bias -> operations.accumulate(query, bias, context.attentionSegmentStart,
                        context.attentionSegmentLength));
        keyBias.ifPresent(bias -> operations.accumulate(key, bias, context.kvSegmentStart, context.kvSegmentLength));
        valueBias
                .ifPresent(bias -> operations.accumulate(value, bias, context.kvSegmentStart, context.kvSegmentLength));
    }

    private void attend(
            Session session, int start, int rows, AbstractTensor query, AbstractTensor key, AbstractTensor value,
            AbstractTensor attended, Scratch scratch) {
        int queryStart = context.attentionSegmentStart;
        int kvStart = context.kvSegmentStart;
        AttentionShape shape = bridge.shape();
        int queryLength = shape.heads() * shape.headSize();
        int kvLength = shape.kvHeads() * shape.headSize();
        MemorySegment q = bridge.read(query, queryStart, queryLength, scratch, Scratch.Use.QUERY);
        MemorySegment k = bridge.read(key, kvStart, kvLength, scratch, Scratch.Use.KEY);
        MemorySegment v = bridge.read(value, kvStart, kvLength, scratch, Scratch.Use.VALUE);
        MemorySegment out = bridge.target(attended, queryStart, queryLength, scratch);
        bridge.rotate(start, rows, q, k);
        session.cache().attend(layer, start, rows, q, k, v, out);
        bridge.write(out, attended, queryStart, queryLength);
    }

    private AbstractTensor output(AbstractTensor attended, Optional<Consumer<List<AbstractTensor>>> tensorReducer) {
        TensorOperations operations = TensorOperationsProvider.get();
        AbstractTensor result = model.makeDenseTensor(attended.shape().first(), config.embeddingLength);
        boolean done = false;
        try (AbstractTensor quantized = quantized(attended)) {
            VectorMath.pchunk(
                    0, config.embeddingLength,
                    (start, length) -> operations.dotProductChunk(
                            result, quantized, outputWeights, context.attentionSegmentStart,
                            context.attentionSegmentLength, start,
                            length));
            tensorReducer.ifPresent(reducer -> reducer.accept(List.of(result)));
            outputBias.ifPresent(bias -> operations.accumulate(result, bias, 0, config.embeddingLength));
            done = true;
        } finally {
            if (!done) {
                result.close();
            }
        }
        return result;
    }

    private AbstractTensor quantized(AbstractTensor tensor) {
        try {
            return (AbstractTensor) maybeQuantize.invokeExact(model, tensor);
        } catch (RuntimeException | Error e) {
            throw e;
        } catch (Throwable e) {
            throw new IllegalStateException(e);
        }
    }
}
