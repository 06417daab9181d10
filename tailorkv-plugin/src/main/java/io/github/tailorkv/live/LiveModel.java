package io.github.tailorkv.live;

import java.lang.ref.WeakReference;
import java.util.List;

/** The MXBean of a model, as long as that lives. */
final class LiveModel implements ModelMXBean {

    private final WeakReference<ModelWatch> model;
    private final ModelWatch.Served served;

    LiveModel(ModelWatch model) {
        this.model = new WeakReference<>(model);
        served = model.served();
    }

    private ModelWatch model() {
        ModelWatch alive = model.get();
        if (alive == null) {
            throw new IllegalStateException("the model is gone");
        }
        return alive;
    }

    @Override
    public String getModel() {
        return served.model();
    }

    @Override
    public String getArchitecture() {
        return served.architecture();
    }

    @Override
    public String getProvider() {
        return served.provider();
    }

    @Override
    public String getBackend() {
        return served.backend();
    }

    @Override
    public String getPolicy() {
        return served.policy();
    }

    @Override
    public int getContextLength() {
        return served.contextLength();
    }

    @Override
    public long getStockBytesPerToken() {
        return served.stockBytesPerToken();
    }

    @Override
    public List<SessionReading> getSessions() {
        return model().sessionReadings();
    }

    @Override
    public List<LayerReading> getLayers() {
        return model().layerReadings();
    }

    @Override
    public long getSampledSteps() {
        return model().totals().steps();
    }

    @Override
    public long getSampledNanos() {
        return model().totals().stepNanos();
    }

    @Override
    public int getSampleEvery() {
        return model().sampling().every();
    }

    @Override
    public void setSampleEvery(int every) {
        model().sampling().setEvery(every);
    }

    @Override
    public void sampleFor(int every, int seconds) {
        model().sampling().lend(every, seconds);
    }
}
