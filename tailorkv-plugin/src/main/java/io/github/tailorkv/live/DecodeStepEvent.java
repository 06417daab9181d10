package io.github.tailorkv.live;

import io.github.tailorkv.spi.LayerStatistics;
import io.github.tailorkv.spi.StepSample;
import java.util.List;
import jdk.jfr.Category;
import jdk.jfr.DataAmount;
import jdk.jfr.Description;
import jdk.jfr.Event;
import jdk.jfr.Label;
import jdk.jfr.Name;
import jdk.jfr.StackTrace;
import jdk.jfr.Timespan;
import org.jspecify.annotations.Nullable;

/** One decode step that was measured. */
@Name("tailorkv.DecodeStep")
@Label("Decode Step")
@Category("TailorKV")
@Description("A decode step that was measured, from the first layer to the last, Jlama's own part included")
@StackTrace(false)
final class DecodeStepEvent extends Event {

    @Label("Model")
    @Nullable
    String model;

    @Label("Session")
    @Nullable
    String session;

    @Label("Tokens")
    @Description("Tokens that the session holds behind the step")
    int tokens;

    @Label("Resident")
    @DataAmount
    long residentBytes;

    @Label("Offloaded")
    @DataAmount
    long offloadedBytes;

    @Label("Bytes Read")
    @Description("Bytes of keys, values, scales and index that attention read, all layers together")
    @DataAmount
    long bytesRead;

    @Label("Measuring")
    @Description("Part of the duration that measuring the recall took, which is in no step otherwise")
    @Timespan(Timespan.NANOSECONDS)
    long measuring;

    /** One that has begun; null if nobody records it. */
    static @Nullable DecodeStepEvent start() {
        DecodeStepEvent event = new DecodeStepEvent();
        if (!event.isEnabled()) {
            return null;
        }
        event.begin();
        return event;
    }

    void finish(String ofModel, String ofSession, List<LayerStatistics> layers, StepSample step) {
        end();
        if (!shouldCommit()) {
            return;
        }
        model = ofModel;
        session = ofSession;
        for (LayerStatistics layer : layers) {
            tokens = layer.tokens();
            residentBytes += layer.residentBytes();
            offloadedBytes += layer.offloadedBytes();
            bytesRead += step.bytesRead(layer.layer());
        }
        measuring = step.recallNanos();
        commit();
    }
}
