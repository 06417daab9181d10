package io.github.tailorkv.spi;

import io.github.tailorkv.kernels.AttentionShape;
import java.nio.file.Path;
import java.util.Optional;

/**
 * What a provider needs to know of a loaded model, as far as this process computes it (a shard of a distributed model
 * reports its own layers and heads).
 *
 * @param name the model's type as Jlama names it, for messages
 * @param layers transformer layers in this process
 * @param attention geometry of the attention, the same in all layers
 * @param contextLength the longest session the model admits, in tokens
 * @param bfloat16 whether the host's working type is BF16 rather than F32; decides the precision of exact storage and
 *     what the host's own cache would hold
 * @param threads threads that the host computes with
 * @param directory the model's folder, where a profile may lie; empty where it is not known
 */
public record ModelShape(
        String name,
        int layers,
        AttentionShape attention,
        int contextLength,
        boolean bfloat16,
        int threads,
        Optional<Path> directory) {

    /** Bytes that the host's own cache holds for one token: keys and values of all layers in its working type. */
    public long stockBytesPerToken() {
        return 2L * layers * attention.kvHeads() * attention.headSize() * (bfloat16 ? Short.BYTES : Float.BYTES);
    }
}
