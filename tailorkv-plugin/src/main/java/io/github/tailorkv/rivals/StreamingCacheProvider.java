package io.github.tailorkv.rivals;

import io.github.tailorkv.config.Settings;
import io.github.tailorkv.kernels.AttentionShape;

/**
 * Sinks and recent window (Xiao et al., Efficient Streaming Language Models with Attention Sinks, 2024): a decode step
 * attends to the first {@code tailorkv.sinks} and the newest {@code tailorkv.recent} tokens, and everything between is
 * gone. As with the other policies here a prompt is read with full attention; it is forgotten when decoding starts. Keys
 * keep the positions that they were given.
 */
public final class StreamingCacheProvider extends RivalCacheProvider {

    @Override
    public String name() {
        return "streaming";
    }

    @Override
    RivalLayer layer(AttentionShape shape, Settings settings) {
        return new StreamingWindow(shape, settings.sinks(), settings.recent());
    }

    @Override
    String policy(Settings settings) {
        return settings.sinks() + " sinks and " + settings.recent() + " recent tokens";
    }
}
