package io.github.tailorkv.tools;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.tailorkv.json.JsonException;
import io.github.tailorkv.json.JsonObject;
import io.github.tailorkv.live.LayerReading;
import io.github.tailorkv.live.SessionReading;
import java.util.List;
import org.junit.jupiter.api.Test;

/** The table and the JSON of {@code inspect}, from readings written by hand. */
class InspectViewTest {

    private static ModelSnapshot model(long steps, long nanos) {
        return new ModelSnapshot(
                "reference", "LLAMA", "hybrid", "panama", "online", 16384, 1000, 16, steps, steps * 5_000_000,
                List.of(
                        new SessionReading("a", true, 1200, 150_000, 60_000),
                        new SessionReading("b", false, 300, 50_000, 40_000)),
                List.of(
                        new LayerReading(
                                0, "quantized", 0.625, 1500, 150_000, 0, steps, nanos, 0, 0, 2 * nanos,
                                2048 * steps, Double.NaN, 0),
                        new LayerReading(
                                1, "1 exact, 1 retrieval", Double.NaN, 1500, 50_000, 100_000, steps, nanos, nanos,
                                nanos,
                                nanos, 1024 * steps, steps == 0 ? Double.NaN : 0.875, steps)));
    }

    private static List<String> text(InspectView view, ModelSnapshot model) {
        view.update(List.of(model));
        return view.text(List.of(model)).lines().map(line -> line.strip().replaceAll(" +", " ")).toList();
    }

    @Test
    void tableShowsWhatLayersHoldAndMeansOfTheNewestSteps() {
        InspectView view = new InspectView(4711);
        assertEquals(
                List.of(
                        "process 4711, model reference: LLAMA, provider hybrid, backend panama, policy online",
                        "2 sessions, 1 in a turn; 1,500 tokens in 293 KiB, 0.20 of Jlama's own cache",
                        "one step in 16 is measured, none yet",
                        "",
                        "layer P tokens resident offloaded read/step append us score us gather us attend us recall",
                        "0 quantized 0.63 1,500 146 KiB 0 B - - - - - -",
                        "1 mixed - 1,500 48.8 KiB 97.7 KiB - - - - - -",
                        "all 1,500 195 KiB 97.7 KiB - - - - - -"),
                text(view, model(0, 0)));
        List<String> second = text(view, model(10, 10_000_000));
        assertEquals(
                "one step in 16 is measured, here 10: 5.00 ms a step, 7.00 ms of it (140 %) in cache and attention",
                second.get(2));
        assertEquals("0 quantized 0.63 1,500 146 KiB 0 B 2.00 KiB 1,000 - - 2,000 -", second.get(5));
        assertEquals("1 mixed - 1,500 48.8 KiB 97.7 KiB 1.00 KiB 1,000 1,000 1,000 1,000 0.875", second.get(6));
        List<String> third = text(view, model(20, 10_020_000));
        assertEquals("1 mixed - 1,500 48.8 KiB 97.7 KiB 1.00 KiB 2.0 2.0 2.0 2.0 0.875", third.get(6),
                "the newest ten steps took a hundredth");
        assertEquals(third, text(view, model(20, 10_020_000)), "what was shown stays");
        assertEquals(second, text(view, model(10, 10_000_000)), "a model that was loaded anew begins anew");
    }

    @Test
    void jsonHoldsTheSame() throws JsonException {
        InspectView view = new InspectView(4711);
        view.update(List.of(model(0, 0)));
        JsonObject before = view.json(List.of(model(0, 0)), "now").objects("models").get(0);
        assertFalse(before.has("stepMillis"));
        assertFalse(before.objects("layers").get(0).has("sampled"));
        view.update(List.of(model(10, 10_000_000)));
        JsonObject json = JsonObject.parse(view.json(List.of(model(10, 10_000_000)), "now").toString());
        assertEquals("now", json.text("time"));
        assertEquals(4711, json.whole("pid"));
        JsonObject model = json.objects("models").get(0);
        assertEquals("reference", model.text("name"));
        assertEquals(10, model.whole("sampledSteps"));
        assertEquals(5, model.number("stepMillis"));
        assertEquals("b", model.objects("sessions").get(1).text("session"));
        assertEquals(300, model.objects("sessions").get(1).whole("tokens"));
        JsonObject layer = model.objects("layers").get(1);
        assertEquals("1 exact, 1 retrieval", layer.text("kind"));
        assertFalse(layer.has("densePreference"));
        assertEquals(100_000, layer.whole("offloadedBytes"));
        JsonObject sampled = layer.object("sampled");
        assertEquals(10, sampled.whole("steps"));
        assertEquals(1000, sampled.number("gatherMicros"));
        assertEquals(1024, sampled.number("bytesRead"));
        assertEquals(0.875, sampled.number("recall"));
        assertFalse(model.objects("layers").get(0).object("sampled").has("recall"));
    }

    @Test
    void noModelIsALine() {
        InspectView view = new InspectView(1);
        view.update(List.of());
        assertEquals("process 1: no model at the moment\n", view.text(List.of()));
        assertTrue(view.json(List.of(), "now").toString().endsWith("\"models\":[]}"));
    }

    @Test
    void bytesHaveThreeDigits() {
        assertEquals("0 B", InspectView.bytes(0));
        assertEquals("999 B", InspectView.bytes(999));
        assertEquals("0.98 KiB", InspectView.bytes(1000));
        assertEquals("9.99 KiB", InspectView.bytes(10_230));
        assertEquals("10.0 KiB", InspectView.bytes(10_240));
        assertEquals("1.00 GiB", InspectView.bytes(1L << 30));
        assertEquals("2048 TiB", InspectView.bytes(1L << 51));
    }
}
