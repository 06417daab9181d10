package io.github.tailorkv.bench;

import com.github.tjake.jlama.model.AbstractModel;
import com.github.tjake.jlama.safetensors.Config;
import com.github.tjake.jlama.tensor.AbstractTensor;
import com.github.tjake.jlama.tensor.KvBufferCache.KvBuffer;
import io.github.tailorkv.models.JlamaSession;
import java.lang.foreign.MemorySegment;

/** Writes into the pages of stock Jlama. */
final class StockSyntheticCache implements SyntheticCache {
    private final Config config;
    private final RandomRows rows;

    StockSyntheticCache(AbstractModel model, long seed) {
        config = model.getConfig();
        rows = new RandomRows(seed, 1);
    }

    @Override
    public void fill(JlamaSession session, int from, int to) {
        KvBuffer buffer = session.buffer();
        for (int layer = 0; layer < config.numberOfLayers; layer++) {
            for (int position = from; position < to; position++) {
                write(buffer.getKeyTensorForPosition(layer, position));
                write(buffer.getValTensorForPosition(layer, position));
            }
        }
    }

    private void write(AbstractTensor<?, ?> row) {
        MemorySegment target = row.getMemorySegment()
                .asSlice(row.getMemorySegmentOffset(0), (long) config.kvLength * Float.BYTES);
        target.copyFrom(rows.next(config.kvLength));
    }
}
