package io.github.tailorkv.jlama;

import com.github.tjake.jlama.math.ActivationFunction;
import com.github.tjake.jlama.math.VectorMath;
import com.github.tjake.jlama.model.AbstractModel;
import com.github.tjake.jlama.model.CausalSelfAttention;
import com.github.tjake.jlama.model.DistributedContext;
import com.github.tjake.jlama.model.MLPBlock;
import com.github.tjake.jlama.model.ModelSupport;
import com.github.tjake.jlama.model.MoEBlock;
import com.github.tjake.jlama.model.TransformerBlock;
import com.github.tjake.jlama.model.functions.EmbedInput;
import com.github.tjake.jlama.model.functions.FeedForward;
import com.github.tjake.jlama.safetensors.Config;
import com.github.tjake.jlama.safetensors.DType;
import com.github.tjake.jlama.tensor.AbstractTensor;
import com.github.tjake.jlama.tensor.KvBufferCache;
import com.github.tjake.jlama.tensor.OpenKvBuffer;
import com.github.tjake.jlama.tensor.TensorShape;
import com.github.tjake.jlama.tensor.operations.TensorOperations;
import com.github.tjake.jlama.tensor.operations.TensorOperationsProvider;
import com.github.tjake.jlama.util.BiIntConsumer;
import com.github.tjake.jlama.util.PhysicalCoreExecutor;
import java.lang.foreign.MemorySegment;
import java.lang.invoke.MethodHandle;
import java.lang.invoke.MethodHandles;
import java.lang.reflect.Field;
import java.lang.reflect.Method;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.UUID;
import java.util.function.IntConsumer;
import org.jspecify.annotations.Nullable;

/**
 * The symbols of Jlama that this package relies on, all looked up before anything is changed. Those that are not public
 * are reached from here; of the public ones, to which the code links directly, only the existence is checked.
 */
@SuppressWarnings("rawtypes")
final class JlamaSymbols {
    /** The release that the symbols were taken from. */
    static final String BUILT_FOR = "0.8.4";

    /** The Jlama at hand is not the one that this package was written for; the message lists what it lacks. */
    static final class MismatchException extends Exception {
        MismatchException(String missing) {
            super(missing);
        }
    }

    private final Map<String, Field> fields = new HashMap<>();
    private final List<String> missing = new ArrayList<>();
    private @Nullable MethodHandle maybeQuantize;

    private JlamaSymbols() {}

    private static volatile @Nullable JlamaSymbols resolved;

    static JlamaSymbols resolve() throws MismatchException {
        JlamaSymbols known = resolved;
        if (known == null) {
            known = find();
            resolved = known;
        }
        return known;
    }

    private static JlamaSymbols find() throws MismatchException {
        JlamaSymbols symbols = new JlamaSymbols();
        try {
            symbols.findPrivate();
            symbols.findLinked();
        } catch (LinkageError e) {
            symbols.missing.add(String.valueOf(e.getMessage()));
        }
        if (!symbols.missing.isEmpty()) {
            throw new MismatchException(String.join(", ", symbols.missing));
        }
        return symbols;
    }

    private void findPrivate() {
        fields(AbstractModel.class, TransformerBlock[].class, "transformerBlocks");
        fields(AbstractModel.class, KvBufferCache.class, "kvBufferCache");
        fields(AbstractModel.class, EmbedInput.class, "embedInput");
        fields(
                CausalSelfAttention.class, AbstractTensor.class, "queryAttnWeights", "keyAttnWeights",
                "valueAttnWeights",
                "outputProjectionWeights");
        fields(
                CausalSelfAttention.class, Optional.class, "queryAttnBias", "keyAttnBias", "valueAttnBias",
                "outputProjectionBias");
        fields(TransformerBlock.class, int.class, "layerIndex");
        fields(TransformerBlock.class, CausalSelfAttention.class, "attention");
        fields(TransformerBlock.class, FeedForward.class, "ffBlock");
        fields(
                TransformerBlock.class, Optional.class, "preAttentionNorm", "postAttentionNorm", "preFFNorm",
                "postFFNorm",
                "preResponseNorm");
        fields(MLPBlock.class, ActivationFunction.Type.class, "activationFunction");
        fields(MLPBlock.class, Optional.class, "fullyConnectedBias", "projectionBias");
        fields(MLPBlock.class, AbstractTensor.class, "fullyConnectedWeights", "projectionWeights",
                "upProjectionWeights");
        fields(MoEBlock.class, ActivationFunction.Type.class, "activationFunction");
        fields(MoEBlock.class, int.class, "numberOfExperts", "numberOfExpertsPerToken");
        fields(MoEBlock.class, AbstractTensor.class, "moeGateWeight");
        fields(MoEBlock.class, AbstractTensor[].class, "fullyConnectedWeights", "projectionWeights",
                "upProjectionWeights");
        try {
            Method method = AbstractModel.class.getDeclaredMethod("maybeQuantize", AbstractTensor.class);
            maybeQuantize = MethodHandles.privateLookupIn(AbstractModel.class, MethodHandles.lookup())
                    .unreflect(method);
        } catch (ReflectiveOperationException e) {
            missing.add("AbstractModel.maybeQuantize(AbstractTensor)");
        }
    }

    private void findLinked() {
        method(AbstractModel.class, "getModelType", ModelSupport.ModelType.class);
        method(AbstractModel.class, "getConfig", Config.class);
        method(AbstractModel.class, "getWorkingDType", DType.class);
        method(AbstractModel.class, "makeDenseTensor", AbstractTensor.class, int[].class);
        method(Config.class, "dctx", DistributedContext.class);
        fields(
                Config.class, int.class, "contextLength", "embeddingLength", "numberOfHeads", "numberOfKeyValueHeads",
                "headSize", "kvLength", "numberOfLayers");
        fields(Config.class, boolean.class, "isGQA");
        fields(Config.class, Float.class, "attnLogitSoftCapping", "attentionMultiplier");
        fields(Config.class, Optional.class, "ropeFreqs");
        fields(
                DistributedContext.class, int.class, "attentionSegmentStart", "attentionSegmentLength",
                "kvSegmentStart",
                "kvSegmentLength", "numberOfLayers");
        method(VectorMath.class, "pchunk", void.class, int.class, int.class, BiIntConsumer.class);
        method(VectorMath.class, "pfor", void.class, int.class, int.class, IntConsumer.class);
        method(TensorOperationsProvider.class, "get", TensorOperations.class);
        method(
                TensorOperations.class, "dotProductChunk", void.class, AbstractTensor.class, AbstractTensor.class,
                AbstractTensor.class, int.class, int.class, int.class, int.class);
        method(
                TensorOperations.class, "dotProductBatchChunk", void.class, AbstractTensor[].class,
                AbstractTensor.class,
                AbstractTensor[].class, int.class, int.class, int.class, int.class);
        method(
                TensorOperations.class, "accumulate", void.class, AbstractTensor.class, AbstractTensor.class, int.class,
                int.class);
        method(PhysicalCoreExecutor.class, "getCoreCount", int.class);
        method(AbstractTensor.class, "dims", int.class);
        method(AbstractTensor.class, "shape", TensorShape.class);
        method(AbstractTensor.class, "getMemorySegment", MemorySegment.class);
        method(AbstractTensor.class, "close", void.class);
        method(AbstractTensor.class, "dType", DType.class);
        method(TensorShape.class, "first", int.class);
        method(TensorShape.class, "last", int.class);
        method(
                CausalSelfAttention.class, "forward", AbstractTensor.class, AbstractTensor.class, int.class,
                KvBufferCache.KvBuffer.class, Optional.class);
        constructor(
                CausalSelfAttention.class, AbstractModel.class, int.class, Optional.class, Optional.class,
                Optional.class,
                AbstractTensor.class, AbstractTensor.class, AbstractTensor.class, Optional.class, AbstractTensor.class);
        method(
                TransformerBlock.class, "forward", AbstractTensor.class, AbstractTensor.class, int.class,
                KvBufferCache.KvBuffer.class, Optional.class);
        constructor(
                TransformerBlock.class, AbstractModel.class, int.class, Optional.class, CausalSelfAttention.class,
                Optional.class, Optional.class, FeedForward.class, Optional.class, Optional.class);
        method(EmbedInput.class, "inputTokenToEmbedding", AbstractTensor.class, int.class, int.class);
        method(EmbedInput.class, "batchInputsToEmbeddings", AbstractTensor.class, int[].class, int.class);
        method(FeedForward.class, "forward", AbstractTensor.class, AbstractTensor.class, Optional.class);
        constructor(
                MLPBlock.class, AbstractModel.class, ActivationFunction.Type.class, Optional.class,
                AbstractTensor.class,
                Optional.class, AbstractTensor.class, AbstractTensor.class);
        constructor(
                MoEBlock.class, AbstractModel.class, int.class, int.class, ActivationFunction.Type.class,
                AbstractTensor.class,
                AbstractTensor[].class, AbstractTensor[].class, AbstractTensor[].class);
        constructor(KvBufferCache.class, AbstractModel.class);
        method(KvBufferCache.class, "getKvBuffer", KvBufferCache.KvBuffer.class, UUID.class);
        method(KvBufferCache.class, "getEphemeralKvBuffer", KvBufferCache.KvBuffer.class);
        method(KvBufferCache.class, "close", void.class);
        constructor(KvBufferCache.KvBuffer.class, KvBufferCache.class, UUID.class, int.class, boolean.class);
        method(KvBufferCache.KvBuffer.class, "getCurrentContextPosition", int.class);
        method(KvBufferCache.KvBuffer.class, "setCurrentContextPosition", void.class, int.class);
        method(KvBufferCache.KvBuffer.class, "incrementContextPosition", void.class);
        method(KvBufferCache.KvBuffer.class, "close", void.class);
        if (!Objects.equals(OpenKvBuffer.class.getClassLoader(), KvBufferCache.class.getClassLoader())) {
            missing.add("access to KvBufferCache from the loader of " + OpenKvBuffer.class.getName());
        }
    }

    private void fields(Class<?> owner, Class<?> type, String... names) {
        for (String name : names) {
            try {
                Field field = owner.getDeclaredField(name);
                if (field.getType() == type) {
                    field.setAccessible(true);
                    fields.put(key(owner, name), field);
                    continue;
                }
            } catch (NoSuchFieldException e) {
                // told below
            }
            missing.add(type.getSimpleName() + " " + key(owner, name));
        }
    }

    private void method(Class<?> owner, String name, Class<?> result, Class<?>... parameters) {
        try {
            if (owner.getDeclaredMethod(name, parameters).getReturnType() == result) {
                return;
            }
        } catch (NoSuchMethodException e) {
            // told below
        }
        missing.add(result.getSimpleName() + " " + key(owner, name) + signature(parameters));
    }

    private void constructor(Class<?> owner, Class<?>... parameters) {
        boolean found = Arrays.stream(owner.getDeclaredConstructors())
                .anyMatch(constructor -> Arrays.equals(constructor.getParameterTypes(), parameters));
        if (!found) {
            missing.add("new " + owner.getSimpleName() + signature(parameters));
        }
    }

    private static String signature(Class<?>... parameters) {
        return "(" + String.join(", ", List.of(parameters).stream().map(Class::getSimpleName).toList()) + ")";
    }

    private static String key(Class<?> owner, String name) {
        return owner.getSimpleName() + "." + name;
    }

    private @Nullable Object read(Class<?> owner, Object of, String name) {
        try {
            return field(owner, name).get(of);
        } catch (IllegalAccessException e) {
            throw new IllegalStateException(e);
        }
    }

    private <T> T read(Class<?> owner, Object of, String name, Class<T> type) {
        Object value = read(owner, of, name);
        if (!type.isInstance(value)) {
            throw new IllegalStateException(key(owner, name) + " is " + value);
        }
        return type.cast(value);
    }

    @SuppressWarnings("unchecked")
    private <T> Optional<T> optional(Class<?> owner, Object of, String name) {
        return (Optional<T>) read(owner, of, name, Optional.class);
    }

    private Field field(Class<?> owner, String name) {
        Field field = fields.get(key(owner, name));
        if (field == null) {
            throw new IllegalStateException(key(owner, name) + " was not checked");
        }
        return field;
    }

    private void write(Class<?> owner, Object of, String name, @Nullable Object value) {
        try {
            field(owner, name).set(of, value);
        } catch (IllegalAccessException e) {
            throw new IllegalStateException(e);
        }
    }

    /** The layers of a model; null in a process that only embeds or samples. */
    TransformerBlock @Nullable [] blocks(AbstractModel model) {
        return (TransformerBlock[]) read(AbstractModel.class, model, "transformerBlocks");
    }

    void setBlocks(AbstractModel model, TransformerBlock[] blocks) {
        write(AbstractModel.class, model, "transformerBlocks", blocks);
    }

    KvBufferCache bufferCache(AbstractModel model) {
        return read(AbstractModel.class, model, "kvBufferCache", KvBufferCache.class);
    }

    void setBufferCache(AbstractModel model, KvBufferCache cache) {
        write(AbstractModel.class, model, "kvBufferCache", cache);
    }

    /** Null in a process that has no embedding. */
    @Nullable
    EmbedInput embedding(AbstractModel model) {
        return (EmbedInput) read(AbstractModel.class, model, "embedInput");
    }

    void setEmbedding(AbstractModel model, @Nullable EmbedInput embedding) {
        write(AbstractModel.class, model, "embedInput", embedding);
    }

    CausalSelfAttention attention(TransformerBlock block) {
        return read(TransformerBlock.class, block, "attention", CausalSelfAttention.class);
    }

    int layerIndex(TransformerBlock block) {
        return read(TransformerBlock.class, block, "layerIndex", Integer.class);
    }

    FeedForward feedForward(TransformerBlock block) {
        return read(TransformerBlock.class, block, "ffBlock", FeedForward.class);
    }

    <T> Optional<T> norm(TransformerBlock block, String name) {
        return optional(TransformerBlock.class, block, name);
    }

    AbstractTensor weights(CausalSelfAttention attention, String name) {
        return read(CausalSelfAttention.class, attention, name, AbstractTensor.class);
    }

    Optional<AbstractTensor> bias(CausalSelfAttention attention, String name) {
        return optional(CausalSelfAttention.class, attention, name);
    }

    /**
     * Another feed-forward block over the same weights, for Jlama's keep their intermediate results in fields; empty for a
     * type that is not known.
     */
    Optional<FeedForward> copyOf(FeedForward block, AbstractModel model) {
        if (block.getClass() == MLPBlock.class) {
            return Optional.of(new MLPBlock(
                    model, read(MLPBlock.class, block, "activationFunction", ActivationFunction.Type.class),
                    optional(MLPBlock.class, block, "fullyConnectedBias"),
                    (AbstractTensor) read(MLPBlock.class, block, "fullyConnectedWeights"),
                    optional(MLPBlock.class, block, "projectionBias"),
                    (AbstractTensor) read(MLPBlock.class, block, "projectionWeights"),
                    (AbstractTensor) read(MLPBlock.class, block, "upProjectionWeights")));
        }
        if (block.getClass() == MoEBlock.class) {
            return Optional.of(new MoEBlock(
                    model, read(MoEBlock.class, block, "numberOfExperts", Integer.class),
                    read(MoEBlock.class, block, "numberOfExpertsPerToken", Integer.class),
                    read(MoEBlock.class, block, "activationFunction", ActivationFunction.Type.class),
                    read(MoEBlock.class, block, "moeGateWeight", AbstractTensor.class),
                    read(MoEBlock.class, block, "fullyConnectedWeights", AbstractTensor[].class),
                    read(MoEBlock.class, block, "projectionWeights", AbstractTensor[].class),
                    read(MoEBlock.class, block, "upProjectionWeights", AbstractTensor[].class)));
        }
        return Optional.empty();
    }

    /** Jlama's conversion of activations to the type that the weights are multiplied with; always a new tensor. */
    MethodHandle maybeQuantize() {
        if (maybeQuantize == null) {
            throw new IllegalStateException("resolve() was not called");
        }
        return maybeQuantize;
    }
}
