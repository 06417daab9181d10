package io.github.tailorkv.cache;

import io.github.tailorkv.config.LayerKind;
import io.github.tailorkv.config.Settings;
import io.github.tailorkv.kernels.AttentionKernels;
import io.github.tailorkv.kernels.AttentionShape;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/**
 * What all layers of a model have in common, and the one place where the kind of a layer chooses its storage.
 *
 * @param fixedKinds kinds that do not depend on the prompt, by layer
 * @param bfloat16 whether exact storage is BF16
 */
record LayerContext(
        AttentionShape shape,
        Settings settings,
        AttentionKernels kernels,
        Map<Integer, LayerKind> fixedKinds,
        boolean bfloat16) {

    /** The kind that is known before a prompt is; null where the prompt decides. */
    @Nullable
    LayerKind fixedKind(int layer) {
        return fixedKinds.get(layer);
    }

    private BlockStore.Source offload() {
        return settings.offload() == Settings.Offload.RAM
                ? BlockStore.RAM
                : OffloadFile.create(settings.offloadDir());
    }

    /** Storage for a layer while a prompt is read: every token attended, precise enough for either kind. */
    SealedBlocks openBlocks() {
        return settings.rows() == Settings.Rows.BF16
                ? indexedRows(IndexedChannels.all(shape))
                : new ProgressiveBlocks(kernels, shape, offload());
    }

    private IndexedRows indexedRows(IndexedChannels channels) {
        return new IndexedRows(
                kernels, shape, channels, settings.indexBits(), settings.rows().bits(), settings.tail(), offload());
    }

    /** Whether the index of a retrieval layer holds some channels only, which the prompt decides. */
    boolean choosesChannels() {
        return settings.indexedChannels(shape.headSize()) < shape.headSize();
    }

    /**
     * Turns open storage into that of a kind; it must not be used any more.
     *
     * @param queries the newest ones, null where there are none
     */
    SealedBlocks convert(SealedBlocks open, LayerKind kind, @Nullable RecentQueries queries, Workers workers) {
        return switch (kind) {
            case EXACT -> throw new IllegalArgumentException("sealed blocks cannot become exact");
            case QUANTIZED -> quantize(open, workers);
            case RETRIEVAL -> retrieve((IndexedBlocks) open, queries, workers);
        };
    }

    private SealedBlocks quantize(SealedBlocks open, Workers workers) {
        return move(open, new PackedBlocks(kernels, shape, settings.bits()), workers);
    }

    private SealedBlocks retrieve(IndexedBlocks open, @Nullable RecentQueries queries, Workers workers) {
        if (!settings.tail() && (choosesChannels() || open instanceof ProgressiveBlocks)) {
            return move(open, indexedRows(IndexedChannels.choose(this, open, queries)), workers);
        }
        if (open instanceof ProgressiveBlocks progressive && settings.rows() == Settings.Rows.INT4) {
            progressive.dropLow();
        }
        return open;
    }

    /** Stores all blocks of one store in another and closes the first, or the second where that fails. */
    private SealedBlocks move(SealedBlocks from, SealedBlocks to, Workers workers) {
        DecodeScratch[] scratch = new DecodeScratch[workers.slots()];
        try {
            for (int slot = 0; slot < scratch.length; slot++) {
                scratch[slot] = new DecodeScratch(kernels, shape);
            }
            to.add(from.size());
            workers.run(
                    (head, slot) -> {
                        DecodeScratch work = scratch[slot];
                        for (int block = 0; block < from.size(); block++) {
                            from.load(block, head, work.memory, work.keys, work.values);
                            to.seal(block, head, work.memory, work.keys, work.values);
                        }
                    },
                    shape.kvHeads());
        } catch (RuntimeException | Error e) {
            to.close();
            throw e;
        } finally {
            for (DecodeScratch work : scratch) {
                if (work != null) {
                    work.close();
                }
            }
        }
        from.close();
        return to;
    }
}
