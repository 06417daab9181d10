package io.github.tailorkv.live;

import io.github.tailorkv.spi.LayerStatistics;
import io.github.tailorkv.spi.SessionCache;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.WeakHashMap;
import java.util.stream.Collectors;

/** What can be seen of one served model from outside, from the opening of its cache to the closing. */
public final class ModelWatch implements AutoCloseable {

    /**
     * Which model, and who serves it.
     *
     * @param model name for people: its folder, or its architecture
     * @param architecture as Jlama names it
     * @param layers layers in this process
     * @param contextLength longest session, in tokens
     * @param stockBytesPerToken bytes that Jlama's own cache would hold for one token
     */
    public record Served(
            String model, String architecture, int layers, int contextLength, long stockBytesPerToken, String provider,
            String backend, String policy) {}

    private final Served served;
    private final Sampling sampling;
    private final SampleTotals totals;
    /** Weakly, as whoever forgets to close a session lets go of it. */
    private final Set<SessionWatch> sessions = Collections.newSetFromMap(new WeakHashMap<>());
    private final Registration registration;

    /**
     * Starts watching, and shows the model as an MXBean.
     *
     * @param sampleEvery every so many decode steps one is measured, 0 for none
     */
    public ModelWatch(Served served, int sampleEvery) {
        this.served = served;
        sampling = new Sampling(sampleEvery, System::nanoTime);
        totals = new SampleTotals(served.layers());
        registration = Registration.of(this);
    }

    /** A session is opened. */
    public SessionWatch sessionOpened(String name, SessionCache cache) {
        SessionWatch session = new SessionWatch(this, name, cache);
        synchronized (sessions) {
            sessions.add(session);
        }
        FlightEvents.sessionOpened(served.model(), name);
        return session;
    }

    void sessionClosed(SessionWatch session) {
        synchronized (sessions) {
            sessions.remove(session);
        }
    }

    Served served() {
        return served;
    }

    int layerCount() {
        return served.layers();
    }

    Sampling sampling() {
        return sampling;
    }

    SampleTotals totals() {
        return totals;
    }

    /** The name of the MXBean; empty if there is none. */
    public String name() {
        return registration.name();
    }

    private List<SessionWatch> sessions() {
        synchronized (sessions) {
            return List.copyOf(sessions);
        }
    }

    List<SessionReading> sessionReadings() {
        return sessions().stream()
                .map(SessionWatch::reading)
                .sorted(Comparator.comparing(SessionReading::session))
                .toList();
    }

    List<LayerReading> layerReadings() {
        List<List<LayerStatistics>> held = new ArrayList<>();
        for (int layer = 0; layer < served.layers(); layer++) {
            held.add(new ArrayList<>());
        }
        for (SessionWatch session : sessions()) {
            for (LayerStatistics layer : session.layers()) {
                held.get(layer.layer()).add(layer);
            }
        }
        return totals.layers().stream().map(sampled -> reading(held.get(sampled.layer()), sampled)).toList();
    }

    private static LayerReading reading(List<LayerStatistics> held, SampledLayer sampled) {
        return new LayerReading(
                sampled.layer(),
                kind(held),
                held.stream().mapToDouble(LayerStatistics::densePreference).filter(Double::isFinite).average()
                        .orElse(Double.NaN),
                held.stream().mapToLong(LayerStatistics::tokens).sum(),
                held.stream().mapToLong(LayerStatistics::residentBytes).sum(),
                held.stream().mapToLong(LayerStatistics::offloadedBytes).sum(),
                sampled.steps(),
                sampled.appendNanos(),
                sampled.scoreNanos(),
                sampled.gatherNanos(),
                sampled.attendNanos(),
                sampled.bytesRead(),
                sampled.recall(),
                sampled.recallSteps());
    }

    private static String kind(List<LayerStatistics> held) {
        Map<String, Long> kinds = held.stream()
                .collect(Collectors.groupingBy(LayerStatistics::kind, TreeMap::new, Collectors.counting()));
        if (kinds.size() > 1) {
            kinds.remove(LayerStatistics.OPEN);
        }
        return kinds.size() == 1
                ? kinds.keySet().iterator().next()
                : kinds.entrySet().stream().map(kind -> kind.getValue() + " " + kind.getKey())
                        .collect(Collectors.joining(", "));
    }

    /** Takes the MXBean away. Closing twice is harmless; sessions that are still open go on. */
    @Override
    public void close() {
        registration.close();
    }
}
