package io.github.tailorkv.bench;

import io.github.tailorkv.kernels.AttentionKernels;
import io.github.tailorkv.kernels.BlockLayout;
import io.github.tailorkv.kernels.KernelLadder;
import io.github.tailorkv.kernels.RecordList;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Random;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;
import org.openjdk.jmh.annotations.AuxCounters;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.Warmup;

/**
 * The attention kernels one by one, scalar beside vector, and what the machine can do at most in
 * {@link CeilingBenchmark}. After {@code mvn -DskipTests package}:
 *
 * <pre>
 * java --add-modules jdk.incubator.vector --enable-native-access=ALL-UNNAMED \
 *   -cp "integration-tests/target/test-classes:tailorkv-plugin/target/tailorkv.jar:\
 * $(cat integration-tests/target/benchmark-classpath.txt)" \
 *   org.openjdk.jmh.Main 'KernelBenchmark|CeilingBenchmark' -p headSize=128 -p rows=4 -p bits=4
 * </pre>
 *
 * <p>Column {@code flops} is GFLOP/s (a multiply-add counts two; of the softmax an exponential counts one), column
 * {@code bytes} is GB/s of what the kernel has to read and write: blocks, tiles and records, not queries and
 * scores. Calls walk through {@value #BLOCKS} blocks, more than the inner caches hold, as decoding does; prefill
 * stays on one tile, as it does. Every method runs once in {@link KernelBenchmarkTest}, which compares the results.
 */
@State(Scope.Thread)
@BenchmarkMode(Mode.Throughput)
@OutputTimeUnit(TimeUnit.NANOSECONDS)
@Warmup(iterations = 2, time = 1)
@Measurement(iterations = 3, time = 1)
@Fork(value = 1, jvmArgsAppend = {"--add-modules", "jdk.incubator.vector", "--enable-native-access=ALL-UNNAMED"})
public class KernelBenchmark {

    private static final long BLOCKS = 512;
    private static final int TOKENS = BlockLayout.BLOCK;
    private static final int PREFILL_ROWS = 1024;
    private static final int SCORES = 8192;
    private static final int FOUND = 1024;
    private static final int CHANNELS = 16;

    /** Work done, which JMH divides by the time. */
    @AuxCounters(AuxCounters.Type.OPERATIONS)
    @State(Scope.Thread)
    public static class Work {
        public long flops;
        public long bytes;
    }

    @Param({"panama", "scalar"})
    public String kernels = "scalar";

    @Param("128")
    public int headSize = 128;

    /** Query heads that share a KV head. */
    @Param("4")
    public int rows = 4;

    @Param("4")
    public int bits = 4;

    private final Random random = new Random(7);
    private final int[] channels = new int[CHANNELS];
    private final int[] indices = new int[SCORES];
    private final float[] found = new float[SCORES];
    private final float[] values = new float[FOUND];
    private final int[] positions = IntStream.range(0, FOUND).toArray();
    private final float[] maxima = new float[PREFILL_ROWS * 16];
    private final float[] logSums = new float[PREFILL_ROWS];
    private AttentionKernels attention = KernelLadder.choose("scalar");
    private MemorySegment tiles = MemorySegment.NULL;
    private MemorySegment packedKeys = MemorySegment.NULL;
    private MemorySegment packedValues = MemorySegment.NULL;
    private MemorySegment highKeys = MemorySegment.NULL;
    private MemorySegment highValues = MemorySegment.NULL;
    private MemorySegment records = MemorySegment.NULL;
    private MemorySegment rowRecords = MemorySegment.NULL;
    private MemorySegment panels = MemorySegment.NULL;
    private final RecordList chosen = new RecordList();
    private final int[] chosenTokens = new int[TOKENS];
    private MemorySegment queries = MemorySegment.NULL;
    private MemorySegment weights = MemorySegment.NULL;
    private MemorySegment scores = MemorySegment.NULL;
    private MemorySegment sums = MemorySegment.NULL;
    private MemorySegment state = MemorySegment.NULL;
    private MemorySegment tile = MemorySegment.NULL;
    private long tileBytes;
    private long keyBytes;
    private long valueBytes;
    private long highKeyBytes;
    private long highValueBytes;
    private long recordBytes;
    private long rowBytes;
    private long panelBytes;
    private long queryBytes;
    private long next;

    /** Fills the operands from a fixed seed. */
    @Setup
    public void setUp() {
        attention = KernelLadder.choose(kernels);
        tileBytes = BlockLayout.keyTileBytes(headSize);
        keyBytes = BlockLayout.packedKeyBytes(bits, headSize);
        valueBytes = BlockLayout.packedValueBytes(bits, headSize);
        highKeyBytes = BlockLayout.packedKeyBytes(4, headSize);
        highValueBytes = BlockLayout.packedValueBytes(4, headSize);
        recordBytes = BlockLayout.lowRecordBytes(headSize);
        panelBytes = BlockLayout.panelBytes(bits == 1 ? 2 : bits, headSize);
        rowBytes = BlockLayout.recordBytes(8, headSize);
        queryBytes = headSize * 4L;

        Arena arena = Arena.ofAuto();
        tiles = arena.allocate(BLOCKS * tileBytes, 64);
        packedKeys = arena.allocate(BLOCKS * keyBytes, 64);
        packedValues = arena.allocate(BLOCKS * valueBytes, 64);
        highKeys = arena.allocate(BLOCKS * highKeyBytes, 64);
        highValues = arena.allocate(BLOCKS * highValueBytes, 64);
        records = arena.allocate(BLOCKS * TOKENS * recordBytes, 64);
        panels = arena.allocate((BLOCKS + BlockLayout.PANEL - 1) / BlockLayout.PANEL * panelBytes, 64);
        rowRecords = arena.allocate(BLOCKS * TOKENS * rowBytes, 64);
        queries = gaussian(arena, (long) PREFILL_ROWS * headSize);
        weights = gaussian(arena, (long) PREFILL_ROWS * TOKENS);
        MemorySegment.copy(weights, ValueLayout.JAVA_FLOAT, 0, values, 0, FOUND);
        scores = arena.allocate((long) PREFILL_ROWS * TOKENS * 4, 64);
        sums = arena.allocate(PREFILL_ROWS * queryBytes, 64);
        state = arena.allocate(PREFILL_ROWS * 8L, 64);
        tile = arena.allocate(tileBytes, 64);
        for (int i = 0; i < CHANNELS; i++) {
            channels[i] = i * headSize / CHANNELS;
        }

        MemorySegment one = gaussian(arena, (long) TOKENS * headSize);
        MemorySegment low = records.asSlice(0, TOKENS * recordBytes);
        attention.quantizeKeys(one, 0, headSize, bits, packedKeys, 0);
        attention.quantizeValues(one, 0, headSize, bits, packedValues, 0);
        attention.splitKeys(one, 0, headSize, highKeys, 0, low, 0, recordBytes);
        attention.splitValues(one, 0, headSize, highValues, 0, low, BlockLayout.lowRecordValue(headSize), recordBytes);
        for (long b = 0; b < BLOCKS; b++) {
            MemorySegment.copy(one, 0, tiles, b * tileBytes, tileBytes);
            MemorySegment.copy(packedKeys, 0, packedKeys, b * keyBytes, keyBytes);
            MemorySegment.copy(packedValues, 0, packedValues, b * valueBytes, valueBytes);
            MemorySegment.copy(highKeys, 0, highKeys, b * highKeyBytes, highKeyBytes);
            MemorySegment.copy(highValues, 0, highValues, b * highValueBytes, highValueBytes);
            MemorySegment.copy(records, 0, records, b * TOKENS * recordBytes, TOKENS * recordBytes);
        }
        for (long record = 0; record < rowRecords.byteSize(); record += TOKENS * rowBytes) {
            attention.packRecords(one, 0, one, 0, headSize, 8, rowRecords, record);
        }
        for (long b = 0; b < BLOCKS; b++) {
            long panel = b / BlockLayout.PANEL * panelBytes;
            attention.quantizeIndex(one, 0, headSize, null, bits == 1 ? 2 : bits, panels, panel,
                    (int) (b % BlockLayout.PANEL));
        }
    }

    private MemorySegment gaussian(Arena arena, long count) {
        MemorySegment x = arena.allocate(count * 4L, 64);
        for (long i = 0; i < count; i++) {
            x.setAtIndex(ValueLayout.JAVA_FLOAT, i, (float) random.nextGaussian());
        }
        return x;
    }

    /** The next block; an odd step, so that no prefetcher foresees it all. */
    private long block() {
        next = (next + 37) % BLOCKS;
        return next;
    }

    @Benchmark
    public MemorySegment prefillScores(Work work) {
        attention.scores(tiles, 0, headSize, queries, 0, queryBytes, PREFILL_ROWS, scores, 0);
        work.flops += 2L * TOKENS * headSize * PREFILL_ROWS;
        return scores;
    }

    @Benchmark
    public MemorySegment prefillSoftmax(Work work) {
        MemorySegment.copy(weights, 0, scores, 0, scores.byteSize());
        attention.softmaxStep(scores, 0, PREFILL_ROWS, TOKENS, TOKENS, rows, 0.1f, 0, state, 0, sums, 0, headSize);
        work.flops += (long) TOKENS * PREFILL_ROWS;
        return scores;
    }

    @Benchmark
    public MemorySegment prefillAccumulate(Work work) {
        attention.accumulate(tiles, 0, headSize, weights, 0, PREFILL_ROWS, TOKENS, sums, 0);
        work.flops += 2L * TOKENS * headSize * PREFILL_ROWS;
        return sums;
    }

    @Benchmark
    public MemorySegment decodeScores(Work work) {
        attention.scores(tiles, block() * tileBytes, headSize, queries, 0, queryBytes, rows, scores, 0);
        work.flops += 2L * TOKENS * headSize * rows;
        work.bytes += tileBytes;
        return scores;
    }

    @Benchmark
    public MemorySegment decodeAccumulate(Work work) {
        attention.accumulate(tiles, block() * tileBytes, headSize, weights, 0, rows, TOKENS, sums, 0);
        work.flops += 2L * TOKENS * headSize * rows;
        work.bytes += tileBytes;
        return sums;
    }

    @Benchmark
    public MemorySegment packedScores(Work work) {
        attention.packedScores(packedKeys, block() * keyBytes, bits, false, headSize, null, 0, queries, 0, queryBytes,
                rows,
                scores, 0);
        work.flops += 2L * TOKENS * headSize * rows;
        work.bytes += keyBytes;
        return scores;
    }

    @Benchmark
    public MemorySegment packedScoresOfFewChannels(Work work) {
        attention.packedScores(highKeys, block() * highKeyBytes, 4, true, headSize, channels, CHANNELS, queries, 0,
                queryBytes, rows, scores, 0);
        work.flops += 2L * TOKENS * CHANNELS * rows;
        work.bytes += CHANNELS * (BlockLayout.rowBytes(4, TOKENS) + 4L);
        return scores;
    }

    @Benchmark
    public MemorySegment packedAccumulate(Work work) {
        attention.packedAccumulate(packedValues, block() * valueBytes, bits, false, headSize, weights, 0, rows, TOKENS,
                sums,
                0);
        work.flops += 2L * TOKENS * headSize * rows;
        work.bytes += valueBytes;
        return sums;
    }

    @Benchmark
    public MemorySegment quantizeKeys(Work work) {
        attention.quantizeKeys(tiles, block() * tileBytes, headSize, bits, packedKeys, 0);
        work.bytes += tileBytes + keyBytes;
        return packedKeys;
    }

    @Benchmark
    public MemorySegment quantizeValues(Work work) {
        attention.quantizeValues(tiles, block() * tileBytes, headSize, bits, packedValues, 0);
        work.bytes += tileBytes + valueBytes;
        return packedValues;
    }

    @Benchmark
    public MemorySegment unpackKeys(Work work) {
        attention.unpackKeys(packedKeys, block() * keyBytes, bits, false, headSize, tile, 0);
        work.bytes += tileBytes + keyBytes;
        return tile;
    }

    @Benchmark
    public MemorySegment unpackValues(Work work) {
        attention.unpackValues(packedValues, block() * valueBytes, bits, false, headSize, tile, 0);
        work.bytes += tileBytes + valueBytes;
        return tile;
    }

    @Benchmark
    public MemorySegment splitKeys(Work work) {
        attention.splitKeys(tiles, block() * tileBytes, headSize, highKeys, 0, records, 0, recordBytes);
        work.bytes += tileBytes + highKeyBytes + TOKENS * recordBytes / 2;
        return highKeys;
    }

    @Benchmark
    public MemorySegment splitValues(Work work) {
        attention.splitValues(tiles, block() * tileBytes, headSize, highValues, 0, records, recordBytes / 2,
                recordBytes);
        work.bytes += tileBytes + highValueBytes + TOKENS * recordBytes / 2;
        return highValues;
    }

    @Benchmark
    public MemorySegment joinKeys(Work work) {
        long block = block();
        attention.joinKeys(highKeys, block * highKeyBytes, records, block * TOKENS * recordBytes, recordBytes, headSize,
                tile, 0);
        work.bytes += tileBytes + highKeyBytes + TOKENS * recordBytes / 2;
        return tile;
    }

    @Benchmark
    public MemorySegment joinValues(Work work) {
        long block = block();
        attention.joinValues(highValues, block * highValueBytes, records,
                block * TOKENS * recordBytes + recordBytes / 2, recordBytes, headSize, tile, 0);
        work.bytes += tileBytes + highValueBytes + TOKENS * recordBytes / 2;
        return tile;
    }

    /** A tile of dominant tokens, each from another block. */
    @Benchmark
    public MemorySegment gatherKeys(Work work) {
        for (int column = 0; column < TOKENS; column++) {
            long block = block();
            int token = (int) (block * 7 % TOKENS);
            attention.gatherKey(highKeys, block * highKeyBytes, token, records, (block * TOKENS + token) * recordBytes,
                    headSize, tile, 0, column);
        }
        work.bytes += tileBytes + TOKENS * (headSize * 5L + recordBytes / 2);
        return tile;
    }

    @Benchmark
    public MemorySegment gatherValues(Work work) {
        for (int row = 0; row < TOKENS; row++) {
            long block = block();
            int token = (int) (block * 7 % TOKENS);
            attention.gatherValue(highValues, block * highValueBytes, token, records,
                    (block * TOKENS + token) * recordBytes + recordBytes / 2, headSize, tile, 0, row);
        }
        work.bytes += tileBytes + TOKENS * recordBytes;
        return tile;
    }

    /** Fetching the records of 64 dominant tokens, of 8 bits and each in another block. */
    @Benchmark
    public MemorySegment touchRecords(Work work) {
        chooseRecords();
        attention.touchRecords(chosen);
        work.bytes += TOKENS * rowBytes;
        return state;
    }

    @Benchmark
    public MemorySegment recordScores(Work work) {
        chooseRecords();
        attention.touchRecords(chosen);
        attention.recordScores(chosen, queries, 0, queryBytes, rows, scores, 0);
        work.flops += 2L * rows * TOKENS * headSize;
        work.bytes += TOKENS * rowBytes;
        return scores;
    }

    /**
     * Scores and sums of 64 dominant tokens, whose records are fetched first: what a retrieval layer does, but for the
     * softmax.
     */
    @Benchmark
    public MemorySegment attendRecords(Work work) {
        chooseRecords();
        attention.touchRecords(chosen);
        attention.recordScores(chosen, queries, 0, queryBytes, rows, scores, 0);
        attention.recordAccumulate(chosen, weights, 0, rows, sums, 0);
        work.flops += 4L * rows * TOKENS * headSize;
        work.bytes += TOKENS * rowBytes;
        return sums;
    }

    private void chooseRecords() {
        chosen.begin(8, headSize);
        for (int i = 0; i < TOKENS; i++) {
            long block = block();
            chosenTokens[i] = (int) (block * TOKENS + block * 7 % TOKENS);
        }
        chosen.add(rowRecords, 0, chosenTokens, 0, TOKENS);
    }

    /** Approximate scores of a panel of blocks. */
    @Benchmark
    public MemorySegment indexScores(Work work) {
        long panel = block() / BlockLayout.PANEL;
        attention.indexScores(panels, panel * panelBytes, 0, BlockLayout.PANEL, bits == 1 ? 2 : bits, headSize,
                channels,
                CHANNELS, queries, 0, queryBytes, rows, scores, 0);
        work.flops += 2L * rows * BlockLayout.PANEL * TOKENS * CHANNELS;
        work.bytes += panelBytes * CHANNELS / headSize;
        return scores;
    }

    /** Ranks of a panel of blocks. */
    @Benchmark
    public MemorySegment indexRanks(Work work) {
        long panel = block() / BlockLayout.PANEL;
        attention.indexRanks(panels, panel * panelBytes, 0, BlockLayout.PANEL, bits == 1 ? 2 : bits, headSize,
                channels,
                CHANNELS, queries, 0, queryBytes, rows, logSums, scores, 0);
        work.flops += 2L * rows * BlockLayout.PANEL * TOKENS * CHANNELS;
        work.bytes += panelBytes * CHANNELS / headSize;
        return scores;
    }

    @Benchmark
    public MemorySegment logSumExp(Work work) {
        attention.logSumExpStep(weights, 0, SCORES, state, 0);
        work.flops += SCORES;
        work.bytes += SCORES * 4L;
        return state;
    }

    /** One rank a token for a head group, as many blocks as there are scores for. */
    @Benchmark
    public MemorySegment rank(Work work) {
        int blocks = PREFILL_ROWS / rows;
        attention.logSums(weights, 0, blocks, rows, 1, logSums);
        attention.rank(weights, 0, blocks, rows, logSums, scores, 0);
        attention.stretchMaxima(scores, 0, blocks, 1, maxima);
        work.bytes += (long) blocks * (rows + 1) * TOKENS * 4;
        return scores;
    }

    @Benchmark
    public MemorySegment atLeast(Work work) {
        int end = attention.atLeast(weights, 0, SCORES, 2, 0, indices, found, 0);
        state.set(ValueLayout.JAVA_FLOAT, 0, end);
        work.bytes += SCORES * 4L;
        return state;
    }

    /** The dominant ones of as many scores as usually survive. */
    @Benchmark
    public MemorySegment keepLargest(Work work) {
        System.arraycopy(positions, 0, indices, 0, FOUND);
        int kept = attention.keepLargest(values, indices, FOUND, FOUND * 3 / 4);
        state.set(ValueLayout.JAVA_FLOAT, 0, kept);
        state.set(ValueLayout.JAVA_FLOAT, 4, indices[kept / 2]);
        work.bytes += FOUND * 4L;
        return state;
    }

    @Benchmark
    public MemorySegment softCap(Work work) {
        attention.scaleScores(scores, 0, SCORES, 1.01f, 50);
        work.flops += SCORES;
        work.bytes += SCORES * 8L;
        return scores;
    }
}
