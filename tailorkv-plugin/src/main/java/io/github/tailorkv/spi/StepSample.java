package io.github.tailorkv.spi;

import java.util.Arrays;
import java.util.EnumMap;
import java.util.Map;
import java.util.Objects;

/**
 * What the layers of one session did in one decode step that is measured. The caller makes one for a session and uses it
 * again for each step; the cache fills it in, on the thread that calls {@code attend}. What a cache cannot tell it leaves
 * alone: times and bytes are 0 then, the recall NaN.
 */
public final class StepSample {

    /** Where the time of a layer's attention goes. The phases of a layer add up to the time that its caller waits. */
    public enum Phase {
        /** Storing the new token, and sealing a block that has become full. */
        APPEND,
        /** Approximate scores of all tokens, in layers that select. */
        SCORE,
        /** Selecting the dominant tokens and reading them back. */
        GATHER,
        /** Attention itself: exact scores, softmax, weighted sum. */
        ATTEND
    }

    private static final int NOWHERE = Integer.MAX_VALUE;

    private final Map<Phase, long[]> nanos = new EnumMap<>(Phase.class);
    private final long[] bytes;
    private final double[] recall;
    private int recallFrom = NOWHERE;
    private int recallLayer = -1;
    private long recallNanos;

    /** @param layers layers of the model in this process */
    public StepSample(int layers) {
        for (Phase phase : Phase.values()) {
            nanos.put(phase, new long[layers]);
        }
        bytes = new long[layers];
        recall = new double[layers];
        begin(-1);
    }

    /**
     * Forgets the step before.
     *
     * @param recallFrom first layer whose recall is wanted: the cache measures it in the first layer from there on that
     *     selects tokens, and in no other; -1 if it is not wanted at all
     */
    public void begin(int recallFrom) {
        nanos.values().forEach(phase -> Arrays.fill(phase, 0));
        Arrays.fill(bytes, 0);
        Arrays.fill(recall, Double.NaN);
        this.recallFrom = recallFrom < 0 ? NOWHERE : recallFrom;
        recallLayer = -1;
        recallNanos = 0;
    }

    /** Layers of the model in this process. */
    public int layers() {
        return bytes.length;
    }

    /** Adds to the time of a phase. */
    public void addNanos(int layer, Phase phase, long more) {
        of(phase)[layer] += more;
    }

    /** Time of a phase, in nanoseconds. */
    public long nanos(int layer, Phase phase) {
        return of(phase)[layer];
    }

    private long[] of(Phase phase) {
        return Objects.requireNonNull(nanos.get(phase));
    }

    /** Adds to what a layer has read of its keys, values, scales and index, from wherever they are. */
    public void addBytesRead(int layer, long more) {
        bytes[layer] += more;
    }

    /** Bytes that a layer has read. */
    public long bytesRead(int layer) {
        return bytes[layer];
    }

    /** Whether this layer, if it selects tokens, is to be measured by {@link #setRecall}. */
    public boolean wantsRecall(int layer) {
        return layer >= recallFrom;
    }

    /**
     * Sets the share of the true top-k that was selected, once a step.
     *
     * @param share in [0, 1]; NaN if nothing had to be selected
     * @param cost nanoseconds that finding out took
     */
    public void setRecall(int layer, double share, long cost) {
        recall[layer] = share;
        recallFrom = NOWHERE;
        recallLayer = layer;
        recallNanos = cost;
    }

    /** Share of the true top-k that was selected; NaN where it was not measured. */
    public double recall(int layer) {
        return recall[layer];
    }

    /** The layer whose recall was measured in this step; -1 if there is none. */
    public int recallLayer() {
        return recallLayer;
    }

    /** Nanoseconds that measuring the recall took; no phase contains them. */
    public long recallNanos() {
        return recallNanos;
    }
}
