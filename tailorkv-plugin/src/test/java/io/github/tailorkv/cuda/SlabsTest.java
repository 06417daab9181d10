package io.github.tailorkv.cuda;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.tailorkv.cuda.GpuException.Kind;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;
import org.junit.jupiter.api.Test;

/** Pieces are taken from few slabs, pinned ones ahead of time, and nothing is kept that nobody uses. */
final class SlabsTest {

    private static final long PIECE = 256 << 10;
    private static final int IN_THE_FIRST = 8;

    private final FakeGpu gpu = new FakeGpu();
    private final GpuBudget budget = new GpuBudget(gpu, 1L << 40);
    /** What the other thread is to do. */
    private final Deque<Runnable> waiting = new ArrayDeque<>();

    private final Slabs pinned = Slabs.pinned(gpu, budget, waiting::add, PIECE);

    private void work() {
        while (!waiting.isEmpty()) {
            waiting.remove().run();
        }
    }

    @Test
    void theNextPinnedSlabIsThereBeforeItIsNeeded() {
        for (int i = 0; i < IN_THE_FIRST / 2 - 1; i++) {
            pinned.take();
        }
        assertTrue(waiting.isEmpty(), "more than half of the slab is left");
        pinned.take();
        assertEquals(1, waiting.size());
        work();
        assertEquals(2, gpu.host.size());
        Set<Long> taken = new HashSet<>();
        for (int i = 0; i < IN_THE_FIRST; i++) {
            taken.add(pinned.take());
        }
        assertEquals(IN_THE_FIRST, taken.size());
        assertEquals(2, gpu.host.size(), "the second slab is the one made ready");
    }

    @Test
    void aSlabThatCouldNotBeMadeReadyIsAskedForAgain() {
        for (int i = 0; i < IN_THE_FIRST; i++) {
            pinned.take();
        }
        gpu.failure = new GpuException(Kind.OUT_OF_MEMORY, "no pinned memory");
        work();
        assertEquals(Kind.OUT_OF_MEMORY, assertThrows(GpuException.class, pinned::take).kind());
        gpu.failure = null;
        pinned.take();
        assertEquals(2, gpu.host.size());
    }

    @Test
    void nothingStaysWhenNothingIsUsed() {
        Deque<Long> taken = new ArrayDeque<>();
        for (int i = 0; i < 100; i++) {
            taken.add(pinned.take());
            work();
        }
        taken.forEach(pinned::give);
        assertEquals(Map.of(), gpu.host);
        pinned.take();
        assertEquals(1, gpu.host.size());
        pinned.close();
        assertEquals(Map.of(), gpu.host);
    }

    /** As tiles do, which come with each chunk and go with the next. */
    @Test
    void aSlabThatIsEmptyForAMomentIsKept() {
        Slabs slabs = Slabs.onDevice(gpu, budget, PIECE);
        slabs.take();
        for (int i = 1; i < IN_THE_FIRST; i++) {
            slabs.take();
        }
        long one = slabs.take();
        assertEquals(2, gpu.device.size());
        slabs.give(one);
        assertEquals(2, gpu.device.size());
        assertEquals(one, slabs.take());
        long two = slabs.take();
        slabs.give(one);
        slabs.give(two);
        slabs.close();
        assertEquals(Map.of(), gpu.device);
    }

    @Test
    void anEmptySlabGoesWhenAnotherHasRoom() {
        Slabs slabs = Slabs.onDevice(gpu, budget, PIECE);
        Deque<Long> taken = new ArrayDeque<>();
        for (int i = 0; i < 3 * IN_THE_FIRST; i++) {
            taken.add(slabs.take());
        }
        assertEquals(3, gpu.device.size());
        for (int i = 0; i < 2 * IN_THE_FIRST; i++) {
            slabs.give(taken.remove());
        }
        assertEquals(2, gpu.device.size());
    }
}
