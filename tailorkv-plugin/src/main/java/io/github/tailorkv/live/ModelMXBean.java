package io.github.tailorkv.live;

import java.util.List;

/**
 * A model that TailorKV serves, for JMX: {@code io.github.tailorkv:type=Model,name=...}, the name being that of the
 * model's folder, with a number behind it where it is taken. It is there until the model is closed or garbage.
 *
 * <p>What sessions hold is as of the end of their last turn or, once somebody has asked, of the last forward pass.
 */
public interface ModelMXBean {

    /** Domain of the names of these beans. */
    String DOMAIN = "io.github.tailorkv";

    /** A system property that is true in a JVM in which a model was served: it can be read without starting JMX there. */
    String MARK = "io.github.tailorkv.served";

    /** The model's folder, its last part; the architecture where the folder is not known. */
    String getModel();

    /** Architecture, as Jlama names it. */
    String getArchitecture();

    /** The {@link io.github.tailorkv.spi.KvCacheProvider}. */
    String getProvider();

    /** Where the attention runs. */
    String getBackend();

    /** The policy in force. */
    String getPolicy();

    /** Longest session, in tokens. */
    int getContextLength();

    /** Bytes that Jlama's own cache would hold for one token. */
    long getStockBytesPerToken();

    /** Open sessions, idle ones too. */
    List<SessionReading> getSessions();

    /** The layers of this process. */
    List<LayerReading> getLayers();

    /** Decode steps measured since the model was loaded. */
    long getSampledSteps();

    /** Time of those steps, from the first layer to the last, Jlama's own part included. */
    long getSampledNanos();

    /** Every so many decode steps one is measured; 0 if none is. */
    int getSampleEvery();

    /** Sets how often a step is measured, from 0, which is never, to 1000000. */
    void setSampleEvery(int every);

    /**
     * Measures steps for some seconds at least as often as given, whatever is set otherwise. A watcher that calls this
     * again before the time is over need not clean up after itself; 0 seconds end it at once.
     */
    void sampleFor(int every, int seconds);
}
