package io.github.tailorkv.live;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import jdk.jfr.EventType;
import jdk.jfr.Recording;
import jdk.jfr.ValueDescriptor;
import jdk.jfr.consumer.RecordedEvent;
import jdk.jfr.consumer.RecordingFile;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What a recording holds. */
class FlightEventsTest {
    private static final List<String> ALL = List.of(
            "tailorkv.DecodeStep", "tailorkv.Layer", "tailorkv.SessionClose", "tailorkv.SessionOpen",
            "tailorkv.Settle");

    @TempDir
    Path folder;

    private List<RecordedEvent> recorded(Runnable work, String... events) throws IOException {
        Path file = folder.resolve("recording.jfr");
        try (Recording recording = new Recording()) {
            ALL.forEach(recording::disable);
            for (String event : events) {
                recording.enable(event);
            }
            recording.start();
            work.run();
            recording.stop();
            recording.dump(file);
        }
        return RecordingFile.readAllEvents(file).stream()
                .filter(event -> event.getEventType().getName().startsWith("tailorkv."))
                .toList();
    }

    private static void session() {
        var served = new ModelWatch.Served("recorded", "LLAMA", 2, 1000, 100, "hybrid", "panama", "online");
        try (ModelWatch watch = new ModelWatch(served, 2)) {
            FakeCache cache = new FakeCache();
            SessionWatch session = watch.sessionOpened("a", cache);
            cache.pass(session, 10);
            cache.pass(session, 1);
            cache.pass(session, 1);
            FlightEvents.settled(1, "retrieval", 0.125, 12);
            session.turnEnds(cache.statistics());
            session.closed();
        }
    }

    @Test
    void holdsMeasuredStepsWithTheirLayersAndWhatBecomesOfSessions() throws IOException {
        List<RecordedEvent> events = recorded(
                FlightEventsTest::session, ALL.toArray(String[]::new));
        assertEquals(
                List.of(
                        "tailorkv.DecodeStep", "tailorkv.Layer", "tailorkv.Layer", "tailorkv.SessionClose",
                        "tailorkv.SessionOpen", "tailorkv.Settle"),
                events.stream().map(event -> event.getEventType().getName()).sorted().toList());

        RecordedEvent step = only(events, "tailorkv.DecodeStep");
        assertEquals("recorded", step.getString("model"));
        assertEquals("a", step.getString("session"));
        assertEquals(12, step.getInt("tokens"));
        assertEquals(132, step.getLong("residentBytes"));
        assertEquals(240, step.getLong("offloadedBytes"));
        assertEquals(80, step.getLong("bytesRead"));
        assertFalse(step.getDuration().isNegative());
        assertEquals(Thread.currentThread().getName(), step.getThread().getJavaName());

        RecordedEvent layer = events.stream()
                .filter(event -> event.getEventType().getName().equals("tailorkv.Layer"))
                .filter(event -> event.getInt("layer") == 1)
                .findFirst()
                .orElseThrow();
        assertEquals("retrieval", layer.getString("kind"));
        assertTrue(Double.isNaN(layer.getDouble("densePreference")));
        assertEquals(12, layer.getInt("tokens"));
        assertEquals(10, layer.getDuration("append").toNanos());
        assertEquals(20, layer.getDuration("score").toNanos());
        assertEquals(30, layer.getDuration("gather").toNanos());
        assertEquals(40, layer.getDuration("attend").toNanos());
        assertEquals(16, layer.getLong("bytesRead"));
        assertEquals(0.75, layer.getDouble("recall"));

        RecordedEvent settle = only(events, "tailorkv.Settle");
        assertEquals("retrieval", settle.getString("kind"));
        assertEquals(0.125, settle.getDouble("densePreference"));
        assertEquals(12, settle.getInt("tokens"));
        assertEquals(12, only(events, "tailorkv.SessionClose").getInt("tokens"));
        assertEquals("a", only(events, "tailorkv.SessionOpen").getString("session"));
    }

    private static RecordedEvent only(List<RecordedEvent> events, String name) {
        List<RecordedEvent> found = events.stream().filter(e -> e.getEventType().getName().equals(name)).toList();
        assertEquals(1, found.size(), name);
        return found.get(0);
    }

    @Test
    void holdsNothingThatIsDisabled() throws IOException {
        List<RecordedEvent> events = recorded(FlightEventsTest::session, "tailorkv.Layer");
        assertTrue(
                events.stream().allMatch(event -> event.getEventType().getName().equals("tailorkv.Layer")),
                events::toString);
        assertEquals(2, events.size());
    }

    /** Tools show bytes, times and shares as what they are. */
    @Test
    void eventsAreLabelledAndHaveUnits() throws IOException {
        List<RecordedEvent> events = recorded(FlightEventsTest::session, "tailorkv.Layer");
        EventType type = events.get(0).getEventType();
        assertEquals("Layer", type.getLabel());
        assertEquals(List.of("TailorKV"), type.getCategoryNames());
        assertEquals("jdk.jfr.DataAmount", type.getField("bytesRead").getContentType());
        assertEquals("jdk.jfr.Timespan", type.getField("gather").getContentType());
        assertEquals("jdk.jfr.Percentage", type.getField("recall").getContentType());
        for (ValueDescriptor field : type.getFields()) {
            assertFalse(String.valueOf(field.getLabel()).isBlank(), field.getName());
        }
    }
}
