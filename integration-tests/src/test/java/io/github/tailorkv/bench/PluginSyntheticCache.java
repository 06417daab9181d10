package io.github.tailorkv.bench;

import io.github.tailorkv.kernels.AttentionShape;
import io.github.tailorkv.models.JlamaSession;
import io.github.tailorkv.spi.ModelShape;
import io.github.tailorkv.spi.SessionCache;

/** Appends to the plugin's session, layer by layer and chunk by chunk as a prefill does, but without the attention. */
final class PluginSyntheticCache implements SyntheticCache {
    private final RandomRows denseRows;
    private final RandomRows sparseRows;
    private final RandomRows values;

    PluginSyntheticCache(long seed) {
        denseRows = new RandomRows(seed, 1);
        sparseRows = new RandomRows(seed + 1, Math.sqrt(2.75));
        values = new RandomRows(seed + 2, 1);
    }

    @Override
    public void fill(JlamaSession session, int from, int to) {
        if (from == 0) {
            throw new IllegalArgumentException("the session must have begun, or it has no cache yet");
        }
        ModelShape model = SessionWatch.shape();
        SessionCache cache = SessionWatch.newest();
        if (model == null || cache == null) {
            throw new IllegalStateException("the plugin has not installed itself");
        }
        AttentionShape attention = model.attention();
        int queries = attention.heads() * attention.headSize();
        int keys = attention.kvHeads() * attention.headSize();
        for (int start = from; start < to; start += CHUNK) {
            int count = Math.min(CHUNK, to - start);
            for (int layer = 0; layer < model.layers(); layer++) {
                RandomRows rows = layer == 0 ? denseRows : sparseRows;
                cache.append(
                        layer,
                        start,
                        count,
                        rows.next(count * queries),
                        rows.next(count * keys),
                        values.next(count * keys));
            }
        }
    }
}
