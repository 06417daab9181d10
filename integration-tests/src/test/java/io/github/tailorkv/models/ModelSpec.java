package io.github.tailorkv.models;

import java.util.List;

/**
 * The shape of a random model. Two equal specs make two equal folders, byte for byte.
 *
 * @param architecture which of Jlama's models loads it
 * @param layers transformer layers
 * @param hidden length of the hidden state
 * @param heads query heads
 * @param kvHeads KV heads, a divisor of heads
 * @param headSize channels of a head, a multiple of 16
 * @param feedForward inner length of the feed-forward block
 * @param experts experts per layer, two of which serve a token; only Mixtral has them
 * @param vocabulary number of tokens
 * @param context longest session in tokens
 * @param type how weights are stored
 * @param tied whether the output layer shares the weights of the input embedding
 * @param sharpness standard deviation of the attention scores, layer by layer (the last one serves all further layers).
 *     About 1 is dense: thousands of tokens count. At 2.75 a handful dominates
 * @param seed of the weights
 */
public record ModelSpec(
        Architecture architecture,
        int layers,
        int hidden,
        int heads,
        int kvHeads,
        int headSize,
        int feedForward,
        int experts,
        int vocabulary,
        int context,
        WeightType type,
        boolean tied,
        List<Float> sharpness,
        long seed) {

    static final int ACTIVE_EXPERTS = 2;

    public ModelSpec {
        sharpness = List.copyOf(sharpness);
        require(layers > 0 && context > 0 && feedForward > 0 && !sharpness.isEmpty(), "empty shape");
        require(headSize > 0 && headSize % 16 == 0, "Jlama drops columns of a head size that is no multiple of 16");
        require(kvHeads > 0 && heads % kvHeads == 0, "kvHeads must divide heads");
        require(
                architecture.headSizeIsFree() ? hidden % 16 == 0 : hidden == heads * headSize,
                "hidden must be heads * headSize");
        require(!architecture.isMultiHead() || kvHeads == heads, "this architecture has as many KV heads as heads");
        require(architecture != Architecture.GPT2 || feedForward == 4 * hidden, "GPT-2 has feedForward = 4 * hidden");
        require(architecture != Architecture.MIXTRAL || experts >= ACTIVE_EXPERTS, "too few experts");
        require(tied || !architecture.alwaysTied(), "this architecture ties its embeddings");
        require(vocabulary >= Vocabulary.SMALLEST, "vocabulary must be at least " + Vocabulary.SMALLEST);
    }

    /** A small model: 2 layers, 4 heads of 16, 8,192 tokens of context, about 100 kB. */
    public static ModelSpec of(Architecture architecture) {
        return builder(architecture).build();
    }

    public static Builder builder(Architecture architecture) {
        return new Builder(architecture);
    }

    /**
     * The shape of Llama-3.2-1B with a vocabulary of a quarter of its size: 1.0 billion weights in BF16. The context has
     * room for some tokens behind a prompt of 128k.
     */
    public static Builder llama1B() {
        return builder(Architecture.LLAMA)
                .layers(16)
                .heads(32, 8)
                .headSize(64)
                .feedForward(8192)
                .vocabulary(32_000)
                .context(129 * 1024)
                .type(WeightType.BF16)
                .tied(true);
    }

    float sharpnessOf(int layer) {
        return sharpness.get(Math.min(layer, sharpness.size() - 1));
    }

    private static void require(boolean condition, String message) {
        if (!condition) {
            throw new IllegalArgumentException(message);
        }
    }

    /** Collects the components of a spec; what is not set takes a small default that suits the architecture. */
    public static final class Builder {
        private final Architecture architecture;
        private int layers = 2;
        private int hidden;
        private int heads = 4;
        private int kvHeads;
        private int headSize = 16;
        private int feedForward;
        private int vocabulary = 384;
        private int context = 8192;
        private int experts;
        private WeightType type = WeightType.F32;
        private boolean tied;
        private List<Float> sharpness = List.of(1f, 2.75f);
        private long seed = 42;

        private Builder(Architecture architecture) {
            this.architecture = architecture;
            this.tied = architecture.alwaysTied();
            this.kvHeads = architecture.isMultiHead() ? 4 : architecture == Architecture.GEMMA ? 1 : 2;
            this.experts = architecture == Architecture.MIXTRAL ? 4 : 0;
        }

        public Builder layers(int value) {
            layers = value;
            return this;
        }

        /** Only Mistral and Gemma2 may differ from heads * headSize. */
        public Builder hidden(int value) {
            hidden = value;
            return this;
        }

        public Builder heads(int queryHeads, int keyValueHeads) {
            heads = queryHeads;
            kvHeads = keyValueHeads;
            return this;
        }

        public Builder headSize(int value) {
            headSize = value;
            return this;
        }

        public Builder feedForward(int value) {
            feedForward = value;
            return this;
        }

        public Builder experts(int value) {
            experts = value;
            return this;
        }

        public Builder vocabulary(int value) {
            vocabulary = value;
            return this;
        }

        public Builder context(int value) {
            context = value;
            return this;
        }

        public Builder type(WeightType value) {
            type = value;
            return this;
        }

        public Builder tied(boolean value) {
            tied = value;
            return this;
        }

        public Builder sharpness(Float... perLayer) {
            sharpness = List.of(perLayer);
            return this;
        }

        public Builder seed(long value) {
            seed = value;
            return this;
        }

        public ModelSpec build() {
            int length = hidden == 0 ? heads * headSize : hidden;
            int inner = feedForward != 0 ? feedForward : architecture == Architecture.GPT2 ? 4 * length : 2 * length;
            return new ModelSpec(
                    architecture,
                    layers,
                    length,
                    heads,
                    kvHeads,
                    headSize,
                    inner,
                    experts,
                    vocabulary,
                    context,
                    type,
                    tied,
                    sharpness,
                    seed);
        }
    }
}
