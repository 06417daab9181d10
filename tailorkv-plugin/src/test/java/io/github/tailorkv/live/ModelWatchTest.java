package io.github.tailorkv.live;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.management.ManagementFactory;
import java.util.List;
import javax.management.JMX;
import javax.management.MBeanServer;
import javax.management.ObjectName;
import javax.management.openmbean.CompositeData;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Models as JMX shows them. */
class ModelWatchTest {
    private static final MBeanServer SERVER = ManagementFactory.getPlatformMBeanServer();

    private static ModelWatch watch(String name, int every) {
        return new ModelWatch(
                new ModelWatch.Served(name, "LLAMA", 2, 1000, 100, "hybrid", "panama", "online"), every);
    }

    private static ModelMXBean bean(ModelWatch watch) throws Exception {
        return JMX.newMXBeanProxy(SERVER, new ObjectName(watch.name()), ModelMXBean.class);
    }

    @Test
    void showsWhoServesWhat() throws Exception {
        try (ModelWatch watch = watch("shows", 0)) {
            assertEquals("io.github.tailorkv:type=Model,name=shows", watch.name());
            assertEquals("true", System.getProperty(ModelMXBean.MARK));
            ModelMXBean bean = bean(watch);
            assertEquals("shows", bean.getModel());
            assertEquals("LLAMA", bean.getArchitecture());
            assertEquals("hybrid", bean.getProvider());
            assertEquals("panama", bean.getBackend());
            assertEquals("online", bean.getPolicy());
            assertEquals(1000, bean.getContextLength());
            assertEquals(100, bean.getStockBytesPerToken());
            assertEquals(List.of(), bean.getSessions());
            assertEquals(2, bean.getLayers().size());
            assertEquals("", bean.getLayers().get(0).kind());
            Object layers = SERVER.getAttribute(new ObjectName(watch.name()), "Layers");
            assertEquals(1, ((CompositeData[]) layers)[1].get("layer"), "data that any client understands");
        }
    }

    @Test
    void showsWhatSessionsHold() throws Exception {
        try (ModelWatch watch = watch("holds", 0)) {
            ModelMXBean bean = bean(watch);
            FakeCache one = new FakeCache();
            FakeCache two = new FakeCache();
            two.secondKind = "open";
            SessionWatch first = watch.sessionOpened("a", one);
            SessionWatch second = watch.sessionOpened("b", two);
            first.turnBegins();
            one.pass(first, 5);
            assertEquals(0, bean.getLayers().get(0).tokens(), "nobody had asked");
            one.pass(first, 2);
            second.turnBegins();
            two.pass(second, 3);
            second.turnEnds(two.statistics());
            assertEquals(
                    List.of(new SessionReading("a", true, 7, 77, 140), new SessionReading("b", false, 3, 33, 60)),
                    bean.getSessions());
            LayerReading quantized = bean.getLayers().get(0);
            assertEquals("quantized", quantized.kind());
            assertEquals(0.5, quantized.densePreference());
            assertEquals(10, quantized.tokens());
            assertEquals(100, quantized.residentBytes());
            assertEquals(0, quantized.offloadedBytes());
            assertEquals("retrieval", bean.getLayers().get(1).kind(), "the one that is open does not count");
            assertEquals(200, bean.getLayers().get(1).offloadedBytes());
            assertTrue(Double.isNaN(bean.getLayers().get(1).densePreference()));
            two.secondKind = "exact";
            two.pass(second, 1);
            assertEquals("1 exact, 1 retrieval", bean.getLayers().get(1).kind());
            first.closed();
            assertEquals(4, bean.getLayers().get(1).tokens());
            assertEquals(1, bean.getSessions().size());
        }
    }

    @Test
    void addsUpTheStepsThatAreMeasured() throws Exception {
        try (ModelWatch watch = watch("measures", 2)) {
            ModelMXBean bean = bean(watch);
            FakeCache cache = new FakeCache();
            SessionWatch session = watch.sessionOpened("a", cache);
            cache.pass(session, 100);
            assertNull(cache.sample, "a prompt is no decode step");
            for (int i = 0; i < 6; i++) {
                cache.pass(session, 1);
                assertNull(cache.sample, "measured for one step only");
            }
            assertEquals(2, bean.getSampleEvery());
            assertEquals(3, bean.getSampledSteps());
            LayerReading layer = bean.getLayers().get(1);
            assertEquals(3, layer.sampledSteps());
            assertEquals(
                    List.of(30L, 60L, 90L, 120L, 48L),
                    List.of(
                            layer.appendNanos(), layer.scoreNanos(), layer.gatherNanos(), layer.attendNanos(),
                            layer.bytesRead()));
            assertEquals(0.75, layer.recall());
            assertTrue(layer.recallSteps() >= 1 && layer.recallSteps() <= 3, layer::toString);
            assertEquals(106, layer.tokens(), "as of the last step that was measured");
            assertEquals(watch.totals().layers(), session.sampled());
            assertTrue(Double.isNaN(bean.getLayers().get(0).recall()));
            assertEquals(0, bean.getLayers().get(0).recallSteps());

            bean.setSampleEvery(0);
            cache.pass(session, 1);
            cache.pass(session, 1);
            assertEquals(3, bean.getSampledSteps());
            bean.sampleFor(1, 3600);
            assertEquals(1, bean.getSampleEvery());
            cache.pass(session, 1);
            assertEquals(4, bean.getSampledSteps());
            bean.sampleFor(1, 0);
            assertEquals(0, bean.getSampleEvery());
            assertThrows(IllegalArgumentException.class, () -> watch.sampling().setEvery(-1));
        }
    }

    @Test
    void stepThatFailsIsNotCounted() {
        try (ModelWatch watch = watch("fails", 1)) {
            FakeCache cache = new FakeCache();
            SessionWatch session = watch.sessionOpened("a", cache);
            session.passBegins(1);
            session.passFails();
            assertNull(cache.sample);
            session.passBegins(1);
            cache.pass(session, 10);
            assertEquals(0, watch.totals().steps(), "the step before was given up, this is a prompt");
        }
    }

    @Test
    void modelsOfOneNameDoNotClash() throws Exception {
        ModelWatch first = watch("a \"twin\", or=two", 0);
        ModelWatch second = watch("a \"twin\", or=two", 0);
        ObjectName firstName = new ObjectName(first.name());
        ObjectName secondName = new ObjectName(second.name());
        assertFalse(firstName.equals(secondName));
        assertEquals("a \"twin\", or=two-2", ObjectName.unquote(secondName.getKeyProperty("name")));
        first.close();
        first.close();
        assertFalse(SERVER.isRegistered(firstName));
        assertTrue(SERVER.isRegistered(secondName));
        second.close();
        assertFalse(SERVER.isRegistered(secondName));
    }

    @Test
    @Timeout(60)
    void modelThatIsForgottenIsTakenAway() throws Exception {
        ObjectName name = new ObjectName(watch("forgotten", 0).name());
        while (SERVER.isRegistered(name)) {
            System.gc();
            Thread.sleep(20);
        }
    }
}
