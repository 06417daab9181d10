package io.github.tailorkv.live;

import io.github.tailorkv.spi.LayerStatistics;
import io.github.tailorkv.spi.StepSample;
import io.github.tailorkv.spi.StepSample.Phase;
import java.util.List;
import jdk.jfr.Category;
import jdk.jfr.DataAmount;
import jdk.jfr.Description;
import jdk.jfr.Event;
import jdk.jfr.Label;
import jdk.jfr.Name;
import jdk.jfr.Percentage;
import jdk.jfr.StackTrace;
import jdk.jfr.Timespan;
import org.jspecify.annotations.Nullable;

/** One layer in a decode step that was measured. */
@Name("tailorkv.Layer")
@Label("Layer")
@Category("TailorKV")
@Description("What one layer held and did in a decode step that was measured; times are 0 where a layer has no such phase")
@StackTrace(false)
final class LayerEvent extends Event {

    @Label("Model")
    @Nullable
    String model;

    @Label("Session")
    @Nullable
    String session;

    @Label("Layer")
    int layer;

    @Label("Kind")
    @Nullable
    String kind;

    @Label("Dense Preference")
    @Description("P, the share of attention outside the dominant tokens; NaN where it was not computed")
    double densePreference;

    @Label("Tokens")
    int tokens;

    @Label("Resident")
    @DataAmount
    long residentBytes;

    @Label("Offloaded")
    @DataAmount
    long offloadedBytes;

    @Label("Bytes Read")
    @DataAmount
    long bytesRead;

    @Label("Append")
    @Description("Storing the new token")
    @Timespan(Timespan.NANOSECONDS)
    long append;

    @Label("Score")
    @Description("Approximate scores of all tokens")
    @Timespan(Timespan.NANOSECONDS)
    long score;

    @Label("Gather")
    @Description("Selecting the dominant tokens and reading them back")
    @Timespan(Timespan.NANOSECONDS)
    long gather;

    @Label("Attend")
    @Description("Attention itself")
    @Timespan(Timespan.NANOSECONDS)
    long attend;

    @Label("Recall")
    @Description("Share of the true top-k that was selected; NaN in steps in which it was not measured")
    @Percentage
    double recall;

    static void emit(String model, String session, List<LayerStatistics> layers, StepSample step) {
        for (LayerStatistics held : layers) {
            LayerEvent event = new LayerEvent();
            if (!event.shouldCommit()) {
                return;
            }
            int index = held.layer();
            event.model = model;
            event.session = session;
            event.layer = index;
            event.kind = held.kind();
            event.densePreference = held.densePreference();
            event.tokens = held.tokens();
            event.residentBytes = held.residentBytes();
            event.offloadedBytes = held.offloadedBytes();
            event.bytesRead = step.bytesRead(index);
            event.append = step.nanos(index, Phase.APPEND);
            event.score = step.nanos(index, Phase.SCORE);
            event.gather = step.nanos(index, Phase.GATHER);
            event.attend = step.nanos(index, Phase.ATTEND);
            event.recall = step.recall(index);
            event.commit();
        }
    }
}
