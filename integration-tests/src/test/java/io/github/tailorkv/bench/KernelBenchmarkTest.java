package io.github.tailorkv.bench;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.reflect.Method;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;
import org.openjdk.jmh.annotations.Benchmark;

/** Runs every benchmark method once, so that none can rot: scalar and vector kernels give the same result. */
class KernelBenchmarkTest {

    @TestFactory
    List<DynamicTest> scalarEqualsVector() {
        return Arrays.stream(KernelBenchmark.class.getMethods())
                .filter(method -> method.isAnnotationPresent(Benchmark.class))
                .sorted(Comparator.comparing(Method::getName))
                .map(method -> DynamicTest.dynamicTest(method.getName(), () -> compare(method)))
                .toList();
    }

    private static void compare(Method method) throws ReflectiveOperationException {
        MemorySegment expected = run(method, "scalar");
        MemorySegment actual = run(method, "panama");
        if (method.getName().startsWith("quantize") || method.getName().startsWith("split")) {
            assertEquals(-1, expected.mismatch(actual));
            return;
        }
        for (long i = 0; i < expected.byteSize() / 4; i++) {
            float x = expected.getAtIndex(ValueLayout.JAVA_FLOAT, i);
            float y = actual.getAtIndex(ValueLayout.JAVA_FLOAT, i);
            assertTrue(Math.abs(x - y) <= 1e-3 + 1e-4 * Math.abs(x), "element " + i + ": " + x + " and " + y);
        }
    }

    private static MemorySegment run(Method method, String kernels) throws ReflectiveOperationException {
        KernelBenchmark benchmark = new KernelBenchmark();
        benchmark.kernels = kernels;
        benchmark.headSize = 64;
        benchmark.setUp();
        KernelBenchmark.Work work = new KernelBenchmark.Work();
        MemorySegment result = (MemorySegment) method.invoke(benchmark, work);
        assertTrue(work.flops + work.bytes > 0, "counts its work");
        return result;
    }

    @Test
    void ceilingsAreMeasured() {
        CeilingBenchmark ceiling = new CeilingBenchmark();
        KernelBenchmark.Work work = new KernelBenchmark.Work();
        assertTrue(ceiling.multiplyAdd(work) > 0);
        ceiling.copy(work);
        assertTrue(work.flops > 0 && work.bytes > 0);
    }
}
