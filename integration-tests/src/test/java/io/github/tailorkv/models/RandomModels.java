package io.github.tailorkv.models;

import com.fasterxml.jackson.databind.ObjectMapper;
import io.github.tailorkv.models.SafeTensorsWriter.Tensor;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.stream.Collectors;

/**
 * Writes model folders with random weights, in the layout of Hugging Face that Jlama reads: config.json,
 * model.safetensors, tokenizer.json, tokenizer_config.json and a README.md, which Jlama's quantizer asks for.
 *
 * <p>Weights are scaled so that hidden states keep a size of about one through all layers. Queries and keys are scaled so
 * that attention scores have the standard deviation that the spec asks for: with n such scores about n * exp(-d * d)
 * tokens share the attention.
 *
 * <p>The model never ends an answer by itself: its end token lies outside the vocabulary, so {@code generate} yields as
 * many tokens as it was asked for.
 */
public final class RandomModels {
    private static final double NORM_JITTER = 0.1;
    private static final double BIAS = 0.3;

    /** Makes up for the averaging of random values, so that attention shows in the hidden state. */
    private static final double ATTENTION_GAIN = 1.5;

    private static final double LOGIT_GAIN = 3;

    private static final float GRANITE_EMBEDDING_MULTIPLIER = 12;
    private static final float SOFT_CAP = 6;

    private static final String CHAT_TEMPLATE = "{% for message in messages %}"
            + "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
            + "{% endfor %}"
            + "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}";

    private static final ObjectMapper JSON = new ObjectMapper();

    private RandomModels() {}

    /** Writes a model into a folder, which is made if need be; files already there are replaced. */
    public static Path write(ModelSpec spec, Path folder) throws IOException {
        Files.createDirectories(folder);
        Vocabulary vocabulary = new Vocabulary(spec);
        JSON.writeValue(folder.resolve("config.json").toFile(), config(spec));
        JSON.writeValue(folder.resolve("tokenizer.json").toFile(), tokenizer(spec, vocabulary));
        JSON.writeValue(
                folder.resolve("tokenizer_config.json").toFile(),
                Map.of(
                        "bos_token",
                        Vocabulary.BEGIN,
                        "eos_token",
                        Vocabulary.END,
                        "legacy",
                        false,
                        "chat_template",
                        CHAT_TEMPLATE));
        Files.writeString(folder.resolve("README.md"), "Random weights: " + spec + "\n");
        SafeTensorsWriter.write(folder.resolve("model.safetensors"), spec.type(), spec.seed(), tensors(spec));
        return folder;
    }

    /** Random tokens that are words, as a prompt without its begin token. */
    public static int[] tokens(ModelSpec spec, int count, long seed) {
        int firstWord = new Vocabulary(spec).firstWord();
        return new SplittableRandom(seed).ints(count, firstWord, spec.vocabulary()).toArray();
    }

    /** A text of random words, each of which the model's tokenizer makes one token of. */
    public static String text(ModelSpec spec, int words, long seed) {
        List<String> all = new Vocabulary(spec).words();
        return new SplittableRandom(seed)
                .ints(words, 0, all.size())
                .mapToObj(i -> " " + all.get(i))
                .collect(Collectors.joining());
    }

    private static Map<String, Object> config(ModelSpec spec) {
        Map<String, Object> config = new LinkedHashMap<>();
        config.put("model_type", spec.architecture().modelType());
        config.put("vocab_size", spec.vocabulary());
        config.put("bos_token_id", Vocabulary.BEGIN_ID);
        config.put("eos_token_id", -1);
        if (spec.architecture() == Architecture.GPT2) {
            config.put("n_ctx", spec.context());
            config.put("n_embd", spec.hidden());
            config.put("n_head", spec.heads());
            config.put("n_layer", spec.layers());
            config.put("layer_norm_epsilon", 1e-5);
            return config;
        }
        config.put("max_position_embeddings", spec.context());
        config.put("hidden_size", spec.hidden());
        config.put("intermediate_size", spec.feedForward());
        config.put("num_attention_heads", spec.heads());
        config.put("num_hidden_layers", spec.layers());
        if (spec.architecture() == Architecture.BERT) {
            config.put("layer_norm_eps", 1e-12);
            config.put("hidden_act", "gelu");
            return config;
        }
        config.put("num_key_value_heads", spec.kvHeads());
        config.put("rms_norm_eps", 1e-5);
        config.put("rope_theta", 10_000.0);
        config.put("hidden_act", "silu");
        config.put("tie_word_embeddings", spec.tied());
        if (spec.architecture().headSizeIsFree()) {
            config.put("head_dim", spec.headSize());
        }
        switch (spec.architecture()) {
            case MIXTRAL -> {
                config.put("num_local_experts", spec.experts());
                config.put("num_experts_per_tok", ModelSpec.ACTIVE_EXPERTS);
            }
            case GEMMA -> config.put("hidden_act", "gelu_pytorch_tanh");
            case GEMMA2 -> {
                config.put("hidden_act", "gelu_pytorch_tanh");
                config.put("attn_logit_softcapping", SOFT_CAP);
                config.put("final_logit_softcapping", 30.0);
            }
            case GRANITE -> {
                config.put("attention_multiplier", graniteAttentionMultiplier(spec));
                config.put("residual_multiplier", 0.8);
                config.put("embedding_multiplier", GRANITE_EMBEDDING_MULTIPLIER);
                config.put("logits_scaling", 4.0);
            }
            default -> {
            }
        }
        return config;
    }

    /** Half of what other models use, so that a test notices when it is ignored. */
    private static double graniteAttentionMultiplier(ModelSpec spec) {
        return 0.5 / Math.sqrt(spec.headSize());
    }

    private static Map<String, Object> tokenizer(ModelSpec spec, Vocabulary vocabulary) {
        Map<String, Object> model = new LinkedHashMap<>();
        Map<String, Object> tokenizer = new LinkedHashMap<>();
        tokenizer.put("version", "1.0");
        tokenizer.put("model", model);
        if (spec.architecture() == Architecture.BERT) {
            model.put("type", "WordPiece");
            model.put("unk_token", "[UNK]");
            model.put("vocab", vocabulary.ids());
            return tokenizer;
        }
        model.put("type", "BPE");
        model.put("unk_token", Vocabulary.UNKNOWN);
        model.put("byte_fallback", false);
        model.put("vocab", vocabulary.ids());
        model.put("merges", vocabulary.merges());
        tokenizer.put(
                "added_tokens",
                Vocabulary.SPECIAL.stream()
                        .map(token -> Map.of("id", vocabulary.ids().get(token), "content", token, "special", true))
                        .toList());
        tokenizer.put(
                "normalizer",
                Map.of(
                        "type",
                        "Sequence",
                        "normalizers",
                        List.of(Map.of(
                                "type",
                                "Replace",
                                "pattern",
                                Map.of("String", " "),
                                "content",
                                String.valueOf(spec.architecture().spaceMarker())))));
        // Word by word: Jlama's encoder takes time quadratic in the length of a piece.
        tokenizer.put(
                "pre_tokenizer",
                Map.of(
                        "type",
                        "Sequence",
                        "pretokenizers",
                        List.of(Map.of(
                                "type",
                                "Split",
                                "pattern",
                                Map.of("Regex", " ?\\S+|\\s"),
                                "behavior",
                                "Isolated",
                                "invert",
                                false))));
        return tokenizer;
    }

    private static List<Tensor> tensors(ModelSpec spec) {
        return switch (spec.architecture()) {
            case GPT2 -> gpt2(spec);
            case BERT -> bert(spec);
            default -> llamaFamily(spec);
        };
    }

    private static List<Tensor> llamaFamily(ModelSpec spec) {
        Architecture architecture = spec.architecture();
        boolean gemma = architecture == Architecture.GEMMA || architecture == Architecture.GEMMA2;
        int hidden = spec.hidden();
        int inner = spec.feedForward();
        int queries = spec.heads() * spec.headSize();
        int keys = spec.kvHeads() * spec.headSize();
        // Gemma adds one to the weights of its norms.
        double norm = gemma ? 0 : 1;
        List<Tensor> tensors = new ArrayList<>();
        tensors.add(Tensor.rows("model.embed_tokens.weight", embedding(spec), spec.vocabulary(), hidden));
        for (int layer = 0; layer < spec.layers(); layer++) {
            String base = "model.layers." + layer + ".";
            String attention = base + "self_attn.";
            double sharpness = spec.sharpnessOf(layer);
            if (architecture == Architecture.GRANITE) {
                sharpness /= graniteAttentionMultiplier(spec) * Math.sqrt(spec.headSize());
            }
            double gain = Math.sqrt(sharpness);
            tensors.add(Tensor.vector(base + "input_layernorm.weight", norm, NORM_JITTER, hidden));
            tensors.add(Tensor.matrix(attention + "q_proj.weight", gain, queries, hidden));
            tensors.add(Tensor.matrix(attention + "k_proj.weight", gain, keys, hidden));
            tensors.add(Tensor.matrix(attention + "v_proj.weight", 1, keys, hidden));
            tensors.add(Tensor.matrix(attention + "o_proj.weight", ATTENTION_GAIN, hidden, queries));
            if (architecture == Architecture.QWEN2) {
                tensors.add(Tensor.vector(attention + "q_proj.bias", 0, BIAS, queries));
                tensors.add(Tensor.vector(attention + "k_proj.bias", 0, BIAS, keys));
                tensors.add(Tensor.vector(attention + "v_proj.bias", 0, BIAS, keys));
            }
            tensors.add(Tensor.vector(base + "post_attention_layernorm.weight", norm, NORM_JITTER, hidden));
            if (architecture == Architecture.GEMMA2) {
                tensors.add(Tensor.vector(base + "pre_feedforward_layernorm.weight", norm, NORM_JITTER, hidden));
                tensors.add(Tensor.vector(base + "post_feedforward_layernorm.weight", norm, NORM_JITTER, hidden));
            }
            if (architecture == Architecture.MIXTRAL) {
                String experts = base + "block_sparse_moe.";
                tensors.add(Tensor.matrix(experts + "gate.weight", 1, spec.experts(), hidden));
                for (int expert = 0; expert < spec.experts(); expert++) {
                    String prefix = experts + "experts." + expert + ".";
                    tensors.add(Tensor.matrix(prefix + "w1.weight", 1, inner, hidden));
                    tensors.add(Tensor.matrix(prefix + "w2.weight", 1, hidden, inner));
                    tensors.add(Tensor.matrix(prefix + "w3.weight", 1, inner, hidden));
                }
            } else {
                tensors.add(Tensor.matrix(base + "mlp.gate_proj.weight", 1, inner, hidden));
                tensors.add(Tensor.matrix(base + "mlp.down_proj.weight", 1, hidden, inner));
                tensors.add(Tensor.matrix(base + "mlp.up_proj.weight", 1, inner, hidden));
            }
        }
        tensors.add(Tensor.vector("model.norm.weight", norm, NORM_JITTER, hidden));
        if (!spec.tied()) {
            tensors.add(Tensor.matrix("lm_head.weight", LOGIT_GAIN, spec.vocabulary(), hidden));
        }
        return tensors;
    }

    /** Tied embeddings are small: else the input token would dominate the output, and every token repeat itself. */
    private static double embedding(ModelSpec spec) {
        return switch (spec.architecture()) {
            case GEMMA, GEMMA2 -> 0.3 / Math.sqrt(spec.hidden());
            case GRANITE -> 1 / GRANITE_EMBEDDING_MULTIPLIER;
            default -> spec.tied() ? 0.3 : 1;
        };
    }

    private static List<Tensor> gpt2(ModelSpec spec) {
        int hidden = spec.hidden();
        int inner = spec.feedForward();
        List<Tensor> tensors = new ArrayList<>();
        tensors.add(Tensor.rows("wte.weight", 0.3, spec.vocabulary(), hidden));
        tensors.add(Tensor.rows("wpe.weight", 1, spec.context(), hidden));
        for (int layer = 0; layer < spec.layers(); layer++) {
            String base = "h." + layer + ".";
            norm(tensors, base + "ln_1", hidden);
            double gain = Math.sqrt(spec.sharpnessOf(layer));
            tensors.add(Tensor.transposed(base + "attn.c_attn.weight", gain, 3 * hidden, hidden));
            tensors.add(Tensor.vector(base + "attn.c_attn.bias", 0, BIAS, 3 * hidden));
            tensors.add(Tensor.transposed(base + "attn.c_proj.weight", ATTENTION_GAIN, hidden, hidden));
            tensors.add(Tensor.vector(base + "attn.c_proj.bias", 0, BIAS, hidden));
            norm(tensors, base + "ln_2", hidden);
            tensors.add(Tensor.transposed(base + "mlp.c_fc.weight", 1, inner, hidden));
            tensors.add(Tensor.vector(base + "mlp.c_fc.bias", 0, BIAS, inner));
            tensors.add(Tensor.transposed(base + "mlp.c_proj.weight", 1, hidden, inner));
            tensors.add(Tensor.vector(base + "mlp.c_proj.bias", 0, BIAS, hidden));
        }
        norm(tensors, "ln_f", hidden);
        return tensors;
    }

    private static List<Tensor> bert(ModelSpec spec) {
        int hidden = spec.hidden();
        int inner = spec.feedForward();
        List<Tensor> tensors = new ArrayList<>();
        tensors.add(Tensor.rows("embeddings.word_embeddings.weight", 1, spec.vocabulary(), hidden));
        tensors.add(Tensor.rows("embeddings.token_type_embeddings.weight", 0.1, 2, hidden));
        tensors.add(Tensor.rows("embeddings.position_embeddings.weight", 0.3, spec.context(), hidden));
        norm(tensors, "embeddings.LayerNorm", hidden);
        for (int layer = 0; layer < spec.layers(); layer++) {
            String base = "encoder.layer." + layer + ".";
            double gain = Math.sqrt(spec.sharpnessOf(layer));
            dense(tensors, base + "attention.self.query", gain, hidden, hidden);
            dense(tensors, base + "attention.self.key", gain, hidden, hidden);
            dense(tensors, base + "attention.self.value", 1, hidden, hidden);
            dense(tensors, base + "attention.output.dense", ATTENTION_GAIN, hidden, hidden);
            norm(tensors, base + "attention.output.LayerNorm", hidden);
            dense(tensors, base + "intermediate.dense", 1, inner, hidden);
            dense(tensors, base + "output.dense", 1, hidden, inner);
            norm(tensors, base + "output.LayerNorm", hidden);
        }
        dense(tensors, "pooler.dense", 1, hidden, hidden);
        return tensors;
    }

    private static void norm(List<Tensor> tensors, String name, int length) {
        tensors.add(Tensor.vector(name + ".weight", 1, NORM_JITTER, length));
        tensors.add(Tensor.vector(name + ".bias", 0, NORM_JITTER, length));
    }

    private static void dense(List<Tensor> tensors, String name, double gain, int rows, int columns) {
        tensors.add(Tensor.matrix(name + ".weight", gain, rows, columns));
        tensors.add(Tensor.vector(name + ".bias", 0, BIAS, rows));
    }
}
