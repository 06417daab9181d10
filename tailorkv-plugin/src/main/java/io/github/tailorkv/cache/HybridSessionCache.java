package io.github.tailorkv.cache;

import io.github.tailorkv.config.LayerKind;
import io.github.tailorkv.spi.LayerStatistics;
import io.github.tailorkv.spi.SessionCache;
import io.github.tailorkv.spi.StepSample;
import io.github.tailorkv.spi.StepSample.Phase;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.jspecify.annotations.Nullable;

/** One session: a {@link LayerCache} for each layer and the exact tiles that they share. */
final class HybridSessionCache implements SessionCache, HeadPreferences {

    private final HybridModelCache model;
    private final TilePool tiles;
    private final LayerCache[] layers;
    private @Nullable StepSample sample;
    private boolean closed;

    HybridSessionCache(HybridModelCache model) {
        this.model = model;
        LayerContext context = model.context();
        tiles = new TilePool(LayerCache.tileBytes(context.shape()));
        layers = new LayerCache[model.layers()];
        try {
            for (int layer = 0; layer < layers.length; layer++) {
                layers[layer] = new LayerCache(context, layer, tiles);
            }
        } catch (RuntimeException | Error e) {
            close();
            throw e;
        }
    }

    @Override
    public int length() {
        int length = Integer.MAX_VALUE;
        for (LayerCache layer : layers) {
            length = Math.min(length, layer.length());
        }
        return length;
    }

    @Override
    public void attend(
            int layer, int startPosition, int n, MemorySegment q, MemorySegment k, MemorySegment v, MemorySegment out) {
        if (closed) {
            throw new IllegalStateException("the session is closed");
        }
        LayerCache cache = layers[layer];
        if (startPosition > cache.length()) {
            throw new IllegalStateException("layer " + layer + " holds " + cache.length()
                    + " tokens and cannot go on at position " + startPosition);
        }
        if (n < 1 || startPosition + n > model.contextLength()) {
            throw new IllegalArgumentException(n + " tokens at position " + startPosition
                    + " do not fit the context of " + model.contextLength() + " tokens");
        }
        cache.truncate(startPosition);
        Workers workers = model.workers();
        Workspace work = model.borrow();
        try {
            if (n == 1) {
                cache.settle(workers);
            }
            work.probe.begin(n == 1 ? sample : null, layer);
            cache.reserve(n);
            if (n > 1) {
                work.prefill.run(cache, n, q, k, v, out, workers);
            } else {
                for (int head = 0; head < model.context().shape().kvHeads(); head++) {
                    cache.write(head, 1, k, v);
                }
                work.probe.lap(Phase.APPEND);
                if (cache.kind() == LayerKind.RETRIEVAL && cache.sealedBlocks() > 0) {
                    work.retrieval.run(cache, q, out, workers);
                } else {
                    work.decode.run(cache, q, out, workers);
                    work.probe.lap(Phase.ATTEND);
                }
                work.probe.attendedLayer(cache, q, workers);
            }
            cache.advance(n, q);
            cache.sealOld(workers);
            work.probe.lap(Phase.APPEND);
        } finally {
            model.giveBack(work);
        }
    }

    @Override
    public void append(int layer, int startPosition, int n, MemorySegment q, MemorySegment k, MemorySegment v) {
        LayerCache cache = layers[layer];
        if (closed || startPosition != cache.length()) {
            throw new IllegalStateException("layer " + layer + " of " + (closed ? "a closed" : "this")
                    + " session cannot go on at position " + startPosition);
        }
        cache.reserve(n);
        model.workers().run((head, slot) -> cache.write(head, n, k, v), model.context().shape().kvHeads());
        cache.advance(n, q);
        cache.sealOld(model.workers());
    }

    @Override
    public void measure(@Nullable StepSample step) {
        sample = step;
    }

    @Override
    public void truncate(int length) {
        if (closed) {
            throw new IllegalStateException("the session is closed");
        }
        for (LayerCache layer : layers) {
            layer.truncate(length);
        }
    }

    @Override
    public List<LayerStatistics> statistics() {
        long spare = tiles.spareBytes(LayerCache.tileBytes(model.context().shape()));
        List<LayerStatistics> all = new ArrayList<>();
        for (int layer = 0; layer < layers.length; layer++) {
            all.add(layers[layer].statistics(layer == 0 ? spare : 0));
        }
        return all;
    }

    @Override
    public List<List<Double>> headPreferences() {
        return Arrays.stream(layers).map(LayerCache::headPreferences).toList();
    }

    @Override
    public void close() {
        if (closed) {
            return;
        }
        closed = true;
        for (LayerCache layer : layers) {
            if (layer != null) {
                layer.close();
            }
        }
        tiles.close();
    }
}
