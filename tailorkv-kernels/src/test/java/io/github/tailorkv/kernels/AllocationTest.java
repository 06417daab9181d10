package io.github.tailorkv.kernels;

import static io.github.tailorkv.kernels.BlockLayout.BLOCK;
import static org.junit.jupiter.api.Assertions.assertEquals;

import com.sun.management.ThreadMXBean;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.management.ManagementFactory;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Random;

import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.TestFactory;

/**
 * Once compiled, no kernel allocates. A vector that the compiler had to box shows here as bytes, long before anybody
 * looks for the speed that went with it.
 */
class AllocationTest {

    private static final int HEAD_SIZE = 96;
    private static final int CALLS = 200;
    private static final long PATIENCE_NANOS = 60_000_000_000L;

    private final AttentionKernels kernels = KernelLadder.choose("panama");
    private final ThreadMXBean threads = (ThreadMXBean) ManagementFactory.getThreadMXBean();

    @TestFactory
    Iterable<DynamicTest> everyKernel() {
        Arena arena = Arena.ofAuto();
        int h = HEAD_SIZE;
        MemorySegment a = gaussian(arena, BLOCK * h);
        MemorySegment b = gaussian(arena, BLOCK * h);
        MemorySegment c = gaussian(arena, BLOCK * h);
        MemorySegment state = gaussian(arena, 64);
        MemorySegment hi = arena.allocate(BlockLayout.packedKeyBytes(8, h) + BlockLayout.packedValueBytes(8, h));
        MemorySegment lo = arena.allocate((long) BLOCK * BlockLayout.lowRecordBytes(h));
        int stride = BlockLayout.lowRecordBytes(h);
        int[] channels = new Random(1).ints(16, 0, h).toArray();
        int[] indices = new int[BLOCK * h];
        float[] found = new float[BLOCK * h];
        float[] maxima = new float[5 * 16];

        Map<String, Runnable> calls = new LinkedHashMap<>();
        for (int rows : new int[] {1, 7}) {
            calls.put("scores of " + rows, () -> kernels.scores(a, 0, h, b, 0, h * 4L, rows, c, 0));
            calls.put("accumulate " + rows, () -> kernels.accumulate(a, 0, h, b, 0, rows, 63, c, 0));
            for (float cap : new float[] {0, 30}) {
                calls.put("softmaxStep of " + rows + ", cap " + cap,
                        () -> kernels.softmaxStep(a, 0, rows, 60, 50, 2, 0.1f, cap, state, 0, c, 0, h));
            }
            for (int bits : new int[] {1, 2, 4, 8}) {
                calls.put("packedScores of " + rows + ", bits " + bits,
                        () -> kernels.packedScores(hi, 0, bits, false, h, null, 0, b, 0, h * 4L, rows, c, 0));
                calls.put("packedScores of " + rows + ", bits " + bits + ", few channels",
                        () -> kernels.packedScores(hi, 0, bits, false, h, channels, 16, b, 0, h * 4L, rows, c, 0));
                calls.put("packedAccumulate " + rows + ", bits " + bits,
                        () -> kernels.packedAccumulate(hi, 0, bits, false, h, b, 0, rows, 63, c, 0));
            }
        }
        calls.put("merge", () -> kernels.merge(state, 0, c, 0, state, 64, a, 0, 7, h));
        calls.put("normalize", () -> kernels.normalize(state, 0, a, 0, 7, h, c, 0, h * 4L));
        for (int bits : new int[] {1, 2, 4, 8}) {
            calls.put("quantizeKeys, bits " + bits, () -> kernels.quantizeKeys(a, 0, h, bits, hi, 0));
            calls.put("quantizeValues, bits " + bits, () -> kernels.quantizeValues(a, 0, h, bits, hi, 0));
            calls.put("unpackKeys, bits " + bits, () -> kernels.unpackKeys(hi, 0, bits, false, h, c, 0));
            calls.put("unpackValues, bits " + bits, () -> kernels.unpackValues(hi, 0, bits, false, h, c, 0));
        }
        calls.put("splitKeys", () -> kernels.splitKeys(a, 0, h, hi, 0, lo, 0, stride));
        calls.put("splitValues", () -> kernels.splitValues(a, 0, h, hi, 0, lo, 0, stride));
        calls.put("joinKeys", () -> kernels.joinKeys(hi, 0, lo, 0, stride, h, c, 0));
        calls.put("joinValues", () -> kernels.joinValues(hi, 0, lo, 0, stride, h, c, 0));
        calls.put("gatherKey", () -> kernels.gatherKey(hi, 0, 17, lo, 0, h, c, 0, 40));
        calls.put("gatherValue", () -> kernels.gatherValue(hi, 0, 17, lo, 0, h, c, 0, 40));
        calls.put("toBFloat16", () -> kernels.toBFloat16(a, 0, c, 0, 1001));
        calls.put("fromBFloat16", () -> kernels.fromBFloat16(c, 0, b, 0, 1001));
        calls.put("logSumExpStep", () -> kernels.logSumExpStep(a, 0, 1001, state, 0));
        calls.put("scaleScores", () -> kernels.scaleScores(b, 0, 1001, 1, 0));
        calls.put("scaleScores, cap 30", () -> kernels.scaleScores(b, 0, 1001, 1, 30));
        MemorySegment panel = arena.allocate(BlockLayout.panelBytes(8, h));
        MemorySegment records = arena.allocate((long) BLOCK * BlockLayout.recordBytes(16, h));
        float[] values = new float[1001];
        for (int i = 0; i < values.length; i++) {
            values[i] = i * 37 % 1001;
        }
        for (int bits : new int[] {2, 4, 8}) {
            calls.put("quantizeIndex, bits " + bits, () -> kernels.quantizeIndex(a, 0, h, null, bits, panel, 0, 3));
            for (int rows : new int[] {1, 7}) {
                calls.put("indexScores of " + rows + ", bits " + bits,
                        () -> kernels.indexScores(panel, 0, 3, 5, bits, h, channels, 16, b, 0, h * 4L, rows, c, 0));
                float[] logSums = new float[rows];
                calls.put("indexRanks of " + rows + ", bits " + bits,
                        () -> kernels.indexRanks(
                                panel, 0, 3, 5, bits, h, channels, 16, b, 0, h * 4L, rows, logSums, c, 0));
            }
        }
        for (int bits : new int[] {4, 8, 16}) {
            calls.put("packRecords, bits " + bits, () -> kernels.packRecords(a, 0, b, 0, h, bits, records, 0));
            calls.put("loadRecords, bits " + bits, () -> kernels.loadRecords(records, 0, bits, h, c, 0, b, 0));
            RecordList list = new RecordList();
            int[] tokens = {2, 0, 1};
            calls.put("add, bits " + bits, () -> {
                list.begin(bits, h);
                list.add(records, 16, tokens, 0, 3);
            });
            calls.put("touchRecords, bits " + bits, () -> kernels.touchRecords(list));
            for (int rows : new int[] {1, 7}) {
                calls.put("recordScores of " + rows + ", bits " + bits,
                        () -> kernels.recordScores(list, b, 0, 4L * h, rows, c, 0));
                calls.put("recordAccumulate " + rows + ", bits " + bits,
                        () -> kernels.recordAccumulate(list, b, 0, rows, c, 0));
            }
        }
        calls.put("threshold", () -> kernels.threshold(values, 1001, 77, 77));
        calls.put("keepLargest", () -> kernels.keepLargest(values, indices, 1001, 77));
        calls.put("putKey", () -> kernels.putKey(a, 0, h, c, 0, 40));
        float[] sums = new float[7];
        calls.put("logSums", () -> kernels.logSums(a, 0, 9, 7, 3, sums));
        calls.put("rank", () -> kernels.rank(a, 0, 9, 7, sums, b, 0));
        calls.put("stretchMaxima", () -> kernels.stretchMaxima(a, 0, 9, 2, maxima));
        calls.put("max", () -> kernels.max(a, 0, 1001));
        calls.put("atLeast", () -> kernels.atLeast(a, 0, 1001, 1, 0, indices, found, 0));
        calls.put("rotate", () -> kernels.rotate(b, 0, 7, h, a, 0));
        return calls.entrySet()
                .stream()
                .map(call -> DynamicTest.dynamicTest(call.getKey(), () -> assertSilent(call.getValue())))
                .toList();
    }

    /** Calls until a stretch of calls allocates nothing: how long the compiler takes is its own affair. */
    private void assertSilent(Runnable call) {
        long deadline = System.nanoTime() + PATIENCE_NANOS;
        long bytes;
        do {
            long before = threads.getCurrentThreadAllocatedBytes();
            for (int i = 0; i < CALLS; i++) {
                call.run();
            }
            bytes = threads.getCurrentThreadAllocatedBytes() - before;
        } while (bytes != 0 && System.nanoTime() < deadline);
        assertEquals(0, bytes, "bytes in " + CALLS + " calls");
    }

    private static MemorySegment gaussian(Arena arena, int count) {
        Random random = new Random(count);
        MemorySegment x = arena.allocate(count * 4L, 64);
        for (int i = 0; i < count; i++) {
            x.setAtIndex(ValueLayout.JAVA_FLOAT, i, (float) random.nextGaussian());
        }
        return x;
    }
}
