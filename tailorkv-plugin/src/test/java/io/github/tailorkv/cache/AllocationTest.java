package io.github.tailorkv.cache;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.sun.management.ThreadMXBean;
import io.github.tailorkv.kernels.AttentionShape;
import io.github.tailorkv.kernels.BlockLayout;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.management.ManagementFactory;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** A decode step allocates nothing once it is compiled; only a block that is sealed, one in 64 tokens, may. */
class AllocationTest {

    private static final AttentionShape SHAPE = new AttentionShape(4, 2, 64, 0.125f, 0);

    @ParameterizedTest
    @ValueSource(strings = {"policy=exact", "policy=quantize", "policy=retrieve"})
    void decodeStepsAllocateNothing(String policy) {
        ThreadMXBean threads = (ThreadMXBean) ManagementFactory.getThreadMXBean();
        try (SessionDriver driver = new SessionDriver(SHAPE, SessionDriver.settings(policy, "budget=64"), 1);
                Arena arena = Arena.ofShared()) {
            driver.feed(512, 1);
            MemorySegment q = arena.allocate(4L * SHAPE.heads() * SHAPE.headSize(), 64);
            MemorySegment k = arena.allocate(4L * SHAPE.kvHeads() * SHAPE.headSize(), 64);
            MemorySegment out = arena.allocate(q.byteSize(), 64);
            long least = Long.MAX_VALUE;
            for (int round = 0; round < 1000 && least > 0; round++) {
                // The compiler needs its time: go on from the same place until it has come to everything.
                driver.session.truncate(512);
                while (driver.session.length() % BlockLayout.BLOCK != 1) {
                    driver.session.attend(0, driver.session.length(), 1, q, k, k, out);
                }
                // 60 steps within one block: nothing is sealed. Both the caller and the workers are counted.
                int start = driver.session.length();
                long before = threads.getTotalThreadAllocatedBytes();
                for (int i = 0; i < 60; i++) {
                    driver.session.attend(0, start + i, 1, q, k, k, out);
                }
                least = Math.min(least, threads.getTotalThreadAllocatedBytes() - before);
                assertTrue(driver.session.length() == start + 60, "a step was lost");
            }
            assertEquals(0, least, "bytes allocated by 60 decode steps");
        }
    }
}
