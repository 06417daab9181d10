package io.github.tailorkv.cuda;

import io.github.tailorkv.spi.LayerStatistics;
import io.github.tailorkv.spi.SessionCache;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;

/** One session: a {@link GpuLayer} for each layer. */
final class GpuSession implements SessionCache {

    private final GpuModel model;
    private final GpuLayer[] layers;
    private boolean closed;

    GpuSession(GpuModel model) {
        this.model = model;
        layers = new GpuLayer[model.shape().layers()];
        try {
            for (int layer = 0; layer < layers.length; layer++) {
                layers[layer] = new GpuLayer(model, layer);
            }
        } catch (RuntimeException e) {
            closeLayers();
            throw e;
        }
    }

    @Override
    public int length() {
        int length = Integer.MAX_VALUE;
        for (GpuLayer layer : layers) {
            length = Math.min(length, layer.length());
        }
        return length;
    }

    @Override
    public void attend(
            int layer, int startPosition, int n, MemorySegment q, MemorySegment k, MemorySegment v, MemorySegment out) {
        checkOpen();
        GpuLayer cache = layers[layer];
        if (startPosition > cache.length()) {
            throw new IllegalStateException("layer " + layer + " holds " + cache.length()
                    + " tokens and cannot go on at position " + startPosition);
        }
        if (n < 1 || startPosition + n > model.shape().contextLength()) {
            throw new IllegalArgumentException(n + " tokens at position " + startPosition
                    + " do not fit the context of " + model.shape().contextLength() + " tokens");
        }
        model.exclusively(() -> {
            GpuWorkspace work = model.workspace();
            cache.truncate(startPosition, work);
            if (n == 1) {
                cache.settle(work);
                cache.reserve(1);
                work.decode(cache, layer + 1 < layers.length ? layers[layer + 1] : null, q, k, v, out);
                cache.advance(1);
                cache.sealOld(work);
                return 1;
            }
            int count;
            for (int done = 0; done < n; done += count) {
                count = work.staging().admit(n - done);
                work.prefill(cache, count, q, k, v, out, done, () -> cache.sealOld(work));
            }
            return n;
        });
    }

    private void checkOpen() {
        if (closed) {
            throw new IllegalStateException("the session is closed");
        }
    }

    @Override
    public void truncate(int length) {
        checkOpen();
        model.exclusively(() -> {
            for (GpuLayer layer : layers) {
                layer.truncate(length, model.workspace());
            }
            return length;
        });
    }

    @Override
    public List<LayerStatistics> statistics() {
        List<LayerStatistics> all = new ArrayList<>();
        for (GpuLayer layer : layers) {
            all.add(layer.statistics());
        }
        return all;
    }

    private void closeLayers() {
        for (GpuLayer layer : layers) {
            if (layer != null) {
                layer.close();
            }
        }
    }

    @Override
    public void close() {
        if (!closed) {
            closed = true;
            model.release(this::closeLayers);
        }
    }
}
