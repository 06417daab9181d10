package io.github.tailorkv.rivals;

import io.github.tailorkv.config.Settings;
import io.github.tailorkv.kernels.AttentionShape;

/**
 * Eviction by the attention of the prompt's end (Li et al., SnapKV: LLM Knows What You are Looking for Before Generation,
 * 2024): a prompt is read with full attention. When decoding starts each KV head keeps the {@code tailorkv.budget} tokens
 * to which the newest {@code tailorkv.queries} queries attended most, and those in the window of as many tokens; all
 * others are gone. What is generated later is kept, further turns of the prompt as well.
 */
public final class SnapKvCacheProvider extends RivalCacheProvider {

    @Override
    public String name() {
        return "snapkv";
    }

    @Override
    RivalLayer layer(AttentionShape shape, Settings settings) {
        return new EvictingLayer(shape, settings.budget(), settings.queries());
    }

    @Override
    String policy(Settings settings) {
        return settings.budget() + " tokens of the prompt and a window of " + settings.queries();
    }
}
