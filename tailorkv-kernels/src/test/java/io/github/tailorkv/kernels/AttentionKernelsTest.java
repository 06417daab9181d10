package io.github.tailorkv.kernels;

import static io.github.tailorkv.kernels.BlockLayout.BLOCK;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.Comparator;
import java.util.Random;
import java.util.stream.IntStream;

import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.jspecify.annotations.Nullable;

/**
 * The vector kernels equal the scalar ones, operation by operation, with every operand against an unreadable page. What
 * is stored as codes must be equal to the bit; the rest up to a rounding that grows with the length of the sum.
 */
class AttentionKernelsTest {

    private static final ValueLayout.OfFloat F32 = ValueLayout.JAVA_FLOAT_UNALIGNED;
    private static final int[] BITS = {1, 2, 4, 8};
    private static final int[] ROWS = {1, 2, 3, 4, 5, 6, 7, 8, 9, 13};
    /** What a rank may be off: the logarithm of the 4 % that the sum of a head may. */
    private static final float ROUGH = 0.041f;

    private final AttentionKernels scalar = new ScalarAttentionKernels();
    private final long seed = System.nanoTime();
    private final Random random = new Random(seed);
    private AttentionKernels vector;
    private GuardedMemory memory;

    @BeforeEach
    void open() {
        assumeTrue(GuardedMemory.isSupported(), "guard pages need Linux");
        vector = KernelLadder.choose("panama");
        memory = new GuardedMemory();
        memory.placeLow(random.nextInt(4) == 0);
    }

    @AfterEach
    void close() {
        if (memory != null) {
            memory.close();
        }
    }

    @ParameterizedTest
    @ValueSource(ints = {16, 32, 48, 64, 80, 96, 112, 128, 256})
    void scores(int headSize) {
        MemorySegment k = gaussian(headSize * BLOCK);
        for (int rows : ROWS) {
            int stride = headSize + random.nextInt(3);
            MemorySegment q = gaussian((rows - 1) * stride + headSize);
            MemorySegment expected = gaussian(rows * BLOCK);
            MemorySegment actual = gaussian(rows * BLOCK);
            scalar.scores(k, 0, headSize, q, 0, stride * 4L, rows, expected, 0);
            vector.scores(k, 0, headSize, q, 0, stride * 4L, rows, actual, 0);
            assertClose(expected, actual, headSize, "rows " + rows);
        }
    }

    @ParameterizedTest
    @ValueSource(ints = {16, 32, 48, 64, 80, 96, 112, 128, 256})
    void accumulate(int headSize) {
        for (int tokens = 0; tokens <= BLOCK; tokens++) {
            int rows = ROWS[tokens % ROWS.length];
            MemorySegment v = gaussian(tokens * headSize);
            MemorySegment p = gaussian(rows * BLOCK);
            MemorySegment expected = gaussian(rows * headSize);
            MemorySegment actual = memory.copy(expected);
            scalar.accumulate(v, 0, headSize, p, 0, rows, tokens, expected, 0);
            vector.accumulate(v, 0, headSize, p, 0, rows, tokens, actual, 0);
            assertClose(expected, actual, tokens, "rows " + rows + ", tokens " + tokens);
        }
    }

    @ParameterizedTest
    @ValueSource(ints = {16, 32, 48, 64, 80, 96, 112, 128, 256})
    void softmaxSteps(int headSize) {
        for (int tokens = 0; tokens <= BLOCK; tokens += 1 + random.nextInt(3)) {
            int rows = ROWS[random.nextInt(ROWS.length)];
            int rowsPerToken = 1 + random.nextInt(4);
            float softCap = random.nextBoolean() ? 0 : 2;
            MemorySegment expectedState = emptyState(rows);
            MemorySegment actualState = emptyState(rows);
            MemorySegment expectedAcc = gaussian(rows * headSize);
            MemorySegment actualAcc = memory.copy(expectedAcc);
            for (int step = 0; step < 3; step++) {
                int valid = step == 2 ? Integer.MAX_VALUE : random.nextInt(BLOCK + 8) - 8;
                MemorySegment expected = gaussian(rows * BLOCK);
                if (tokens > 5) {
                    expected.setAtIndex(F32, 3, Float.NEGATIVE_INFINITY);
                    expected.setAtIndex(F32, 4, -1e30f);
                }
                for (int i = tokens; i < rows * BLOCK; i += BLOCK) {
                    expected.setAtIndex(F32, i, tokens == BLOCK ? 0 : Float.NaN);
                }
                MemorySegment actual = memory.copy(expected);
                scalar.softmaxStep(expected, 0, rows, tokens, valid, rowsPerToken, 0.7f, softCap, expectedState, 0,
                        expectedAcc, 0, headSize);
                vector.softmaxStep(actual, 0, rows, tokens, valid, rowsPerToken, 0.7f, softCap, actualState, 0,
                        actualAcc, 0, headSize);
                String what = "rows " + rows + ", tokens " + tokens + ", valid " + valid + ", cap " + softCap;
                assertClose(expected, actual, 4, what);
                assertClose(expectedState, actualState, BLOCK, what);
                assertClose(expectedAcc, actualAcc, 4, what);
            }
        }
    }

    @ParameterizedTest
    @ValueSource(ints = {16, 32, 48, 64, 80, 96, 112, 128, 256})
    void mergeAndNormalize(int headSize) {
        for (int rows : ROWS) {
            MemorySegment otherState = positive(2 * rows);
            MemorySegment otherAcc = gaussian(rows * headSize);
            MemorySegment expectedState = positive(2 * rows);
            expectedState.setAtIndex(F32, 0, Float.NEGATIVE_INFINITY);
            expectedState.setAtIndex(F32, 1, 0);
            if (rows > 1) {
                otherState.setAtIndex(F32, 2, Float.NEGATIVE_INFINITY);
                otherState.setAtIndex(F32, 3, 0);
            }
            if (rows > 2) {
                otherState.setAtIndex(F32, 0, Float.NEGATIVE_INFINITY);
                otherState.setAtIndex(F32, 1, 0);
            }
            MemorySegment actualState = memory.copy(expectedState);
            MemorySegment expectedAcc = gaussian(rows * headSize);
            MemorySegment actualAcc = memory.copy(expectedAcc);
            scalar.merge(expectedState, 0, expectedAcc, 0, otherState, 0, otherAcc, 0, rows, headSize);
            vector.merge(actualState, 0, actualAcc, 0, otherState, 0, otherAcc, 0, rows, headSize);
            assertClose(expectedState, actualState, 4, "state, rows " + rows);
            assertClose(expectedAcc, actualAcc, 4, "accumulator, rows " + rows);

            int stride = headSize + 1;
            MemorySegment expected = memory.floats(rows * stride - 1);
            MemorySegment actual = memory.floats(rows * stride - 1);
            scalar.normalize(expectedState, 0, expectedAcc, 0, rows, headSize, expected, 0, stride * 4L);
            vector.normalize(expectedState, 0, expectedAcc, 0, rows, headSize, actual, 0, stride * 4L);
            assertClose(expected, actual, 4, "result, rows " + rows);
        }
    }

    @ParameterizedTest
    @ValueSource(ints = {16, 32, 48, 64, 80, 96, 112, 128, 256})
    void packedScores(int headSize) {
        for (int bits : BITS) {
            MemorySegment block = memory.bytes(BlockLayout.packedKeyBytes(bits, headSize));
            scalar.quantizeKeys(gaussian(headSize * BLOCK), 0, headSize, bits, block, 0);
            for (int rows : ROWS) {
                boolean refined = bits == 4 && rows % 2 == 0;
                int stride = headSize + random.nextInt(3);
                MemorySegment q = gaussian((rows - 1) * stride + headSize);
                int[] channels = random.ints(headSize + 2, 0, headSize).toArray();
                int[] counts = {-1, random.nextInt(headSize + 1)};
                for (int count : counts) {
                    int[] list = count < 0 ? null : channels;
                    MemorySegment expected = gaussian(rows * BLOCK);
                    MemorySegment actual = gaussian(rows * BLOCK);
                    scalar.packedScores(block, 0, bits, refined, headSize, list, count, q, 0, stride * 4L, rows,
                            expected, 0);
                    vector.expect(block, 0, random.nextInt((int) block.byteSize() + 1));
                    vector.packedScores(block, 0, bits, refined, headSize, list, count, q, 0, stride * 4L, rows, actual,
                            0);
                    assertClose(expected, actual, headSize * 16,
                            "bits " + bits + ", rows " + rows + ", channels " + count);
                }
            }
        }
    }

    @ParameterizedTest
    @ValueSource(ints = {16, 32, 48, 64, 80, 96, 112, 128, 256})
    void packedAccumulate(int headSize) {
        for (int bits : BITS) {
            MemorySegment block = memory.bytes(BlockLayout.packedValueBytes(bits, headSize));
            scalar.quantizeValues(gaussian(headSize * BLOCK), 0, headSize, bits, block, 0);
            for (int tokens = bits % 3; tokens <= BLOCK; tokens += 3) {
                int rows = ROWS[random.nextInt(ROWS.length)];
                boolean refined = bits == 4 && tokens % 2 == 0;
                MemorySegment p = gaussian(rows * BLOCK);
                MemorySegment expected = gaussian(rows * headSize);
                MemorySegment actual = memory.copy(expected);
                scalar.packedAccumulate(block, 0, bits, refined, headSize, p, 0, rows, tokens, expected, 0);
                MemorySegment next = memory.bytes(tokens % 4 == 0 ? 0 : random.nextInt(5000));
                vector.expect(next, 0, next.byteSize());
                vector.packedAccumulate(block, 0, bits, refined, headSize, p, 0, rows, tokens, actual, 0);
                assertClose(expected, actual, tokens * 16, "bits " + bits + ", rows " + rows + ", tokens " + tokens);
            }
        }
    }

    @ParameterizedTest
    @ValueSource(ints = {16, 32, 48, 64, 80, 96, 112, 128, 256})
    void quantizeAndUnpack(int headSize) {
        for (int bits : BITS) {
            MemorySegment tile = unruly(headSize * BLOCK);
            boolean refined = bits == 4;

            MemorySegment keys = noise(BlockLayout.packedKeyBytes(bits, headSize));
            MemorySegment actualKeys = noise(BlockLayout.packedKeyBytes(bits, headSize));
            scalar.quantizeKeys(tile, 0, headSize, bits, keys, 0);
            vector.quantizeKeys(tile, 0, headSize, bits, actualKeys, 0);
            assertSame(keys, actualKeys, "keys, bits " + bits);
            MemorySegment expected = memory.floats(headSize * BLOCK);
            MemorySegment actual = memory.floats(headSize * BLOCK);
            scalar.unpackKeys(keys, 0, bits, refined, headSize, expected, 0);
            vector.unpackKeys(keys, 0, bits, refined, headSize, actual, 0);
            assertClose(expected, actual, 4, "keys, bits " + bits);

            MemorySegment values = noise(BlockLayout.packedValueBytes(bits, headSize));
            MemorySegment actualValues = noise(BlockLayout.packedValueBytes(bits, headSize));
            scalar.quantizeValues(tile, 0, headSize, bits, values, 0);
            vector.quantizeValues(tile, 0, headSize, bits, actualValues, 0);
            assertSame(values, actualValues, "values, bits " + bits);
            scalar.unpackValues(values, 0, bits, refined, headSize, expected, 0);
            vector.unpackValues(values, 0, bits, refined, headSize, actual, 0);
            assertClose(expected, actual, 4, "values, bits " + bits);
        }
    }

    @ParameterizedTest
    @ValueSource(ints = {16, 32, 48, 64, 80, 96, 112, 128, 256})
    void splitJoinAndGather(int headSize) {
        MemorySegment tile = unruly(headSize * BLOCK);
        int row = BlockLayout.rowBytes(4, headSize);
        long stride = row + 3L;
        MemorySegment lo = noise((BLOCK - 1) * stride + row);
        MemorySegment actualLo = memory.copy(lo);
        MemorySegment expected = gaussian(headSize * BLOCK);
        MemorySegment actual = memory.copy(expected);

        MemorySegment hi = noise(BlockLayout.packedKeyBytes(4, headSize));
        MemorySegment actualHi = noise(hi.byteSize());
        scalar.splitKeys(tile, 0, headSize, hi, 0, lo, 0, stride);
        vector.splitKeys(tile, 0, headSize, actualHi, 0, actualLo, 0, stride);
        assertSame(hi, actualHi, "high nibbles of keys");
        assertSame(lo, actualLo, "low nibbles of keys");
        for (int t = 0; t < BLOCK; t += 1 + random.nextInt(3)) {
            MemorySegment record = memory.copy(lo.asSlice(t * stride, row));
            int column = random.nextInt(BLOCK);
            scalar.gatherKey(hi, 0, t, record, 0, headSize, expected, 0, column);
            vector.gatherKey(hi, 0, t, record, 0, headSize, actual, 0, column);
            assertClose(expected, actual, 4, "gathered keys");
        }
        scalar.joinKeys(hi, 0, lo, 0, stride, headSize, expected, 0);
        vector.joinKeys(hi, 0, lo, 0, stride, headSize, actual, 0);
        assertClose(expected, actual, 4, "joined keys");

        hi = noise(BlockLayout.packedValueBytes(4, headSize));
        actualHi = noise(hi.byteSize());
        scalar.splitValues(tile, 0, headSize, hi, 0, lo, 0, stride);
        vector.splitValues(tile, 0, headSize, actualHi, 0, actualLo, 0, stride);
        assertSame(hi, actualHi, "high nibbles of values");
        assertSame(lo, actualLo, "low nibbles of values");
        for (int t = 0; t < BLOCK; t += 1 + random.nextInt(3)) {
            MemorySegment record = memory.copy(lo.asSlice(t * stride, row));
            int target = random.nextInt(BLOCK);
            scalar.gatherValue(hi, 0, t, record, 0, headSize, expected, 0, target);
            vector.gatherValue(hi, 0, t, record, 0, headSize, actual, 0, target);
            assertClose(expected, actual, 4, "gathered values");
        }
        scalar.joinValues(hi, 0, lo, 0, stride, headSize, expected, 0);
        vector.joinValues(hi, 0, lo, 0, stride, headSize, actual, 0);
        assertClose(expected, actual, 4, "joined values");
    }

    @ParameterizedTest
    @ValueSource(ints = {0, 1, 7, 15, 16, 17, 31, 33, 63, 64, 65, 100, 1000})
    void selection(int count) {
        MemorySegment s = gaussian(count);
        assertEquals(scalar.max(s, 0, count), vector.max(s, 0, count));
        for (float threshold : new float[] {-10, 0.3f, 10}) {
            int next = 3;
            int[] expected = new int[next + count];
            int[] actual = new int[next + count];
            float[] expectedValues = new float[next + count];
            float[] actualValues = new float[next + count];
            int end = scalar.atLeast(s, 0, count, threshold, 5000, expected, expectedValues, next);
            assertEquals(
                    end, vector.atLeast(s, 0, count, threshold, 5000, actual, actualValues, next), message("end"));
            assertArrayEquals(Arrays.copyOf(expected, end), Arrays.copyOf(actual, end), message("positions"));
            assertArrayEquals(Arrays.copyOf(expectedValues, end), Arrays.copyOf(actualValues, end), message("values"));
        }
        MemorySegment expectedState = emptyState(1);
        MemorySegment actualState = emptyState(1);
        for (int step = 0; step < 3; step++) {
            scalar.logSumExpStep(s, 0, count, expectedState, 0);
            vector.logSumExpStep(s, 0, count, actualState, 0);
            assertClose(expectedState, actualState, count, "log-sum-exp");
            scalar.scaleScores(s, 0, count, 1.25f, 0);
        }
        for (float softCap : new float[] {0, 1, 50}) {
            MemorySegment expected = gaussian(count);
            if (count > 3) {
                expected.setAtIndex(F32, 1, Float.POSITIVE_INFINITY);
                expected.setAtIndex(F32, 2, Float.NEGATIVE_INFINITY);
                expected.setAtIndex(F32, 3, 0);
            }
            MemorySegment actual = memory.copy(expected);
            scalar.scaleScores(expected, 0, count, 3, softCap);
            vector.scaleScores(actual, 0, count, 3, softCap);
            assertClose(expected, actual, 4, "scores, cap " + softCap);
        }
    }

    /** Of scores of which the first block has none that is near the largest, or is not finite. */
    @ParameterizedTest
    @ValueSource(floats = {0, 3, 60, 300, -60, -1000, Float.NEGATIVE_INFINITY})
    void logSums(float distance) {
        for (int rows : ROWS) {
            int blocks = 1 + random.nextInt(9);
            MemorySegment s = gaussian(blocks * rows * BLOCK);
            for (int i = rows * BLOCK; i < blocks * rows * BLOCK; i++) {
                s.setAtIndex(F32, i, 3 * s.getAtIndex(F32, i) + distance);
            }
            float weight = random.nextBoolean() ? 1 : 1 + 20 * random.nextFloat();
            float[] expected = new float[rows];
            float[] actual = new float[rows];
            scalar.logSums(s, 0, blocks, rows, weight, expected);
            vector.logSums(s, 0, blocks, rows, weight, actual);
            for (int r = 0; r < rows; r++) {
                double sum = 0;
                for (int b = 0; b < blocks; b++) {
                    for (int t = 0; t < BLOCK; t++) {
                        float x = s.getAtIndex(F32, (b * rows + r) * BLOCK + t);
                        sum += (b == 0 ? 1 : weight) * Math.exp((double) x - distanceFrom(distance));
                    }
                }
                float wanted = (float) (Math.log(sum) + distanceFrom(distance));
                assertEquals(wanted, expected[r], 1e-4f + 1e-6f * Math.abs(wanted), message("scalar, row " + r));
                assertEquals(wanted, actual[r], ROUGH + 1e-6f * Math.abs(wanted), message("row " + r));
            }
        }
    }

    private static float distanceFrom(float distance) {
        return Float.isFinite(distance) ? Math.max(0, distance) : 0;
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 2, 3, 10})
    void rank(int blocks) {
        for (int rows : ROWS) {
            MemorySegment s = gaussian(blocks * rows * BLOCK);
            s.setAtIndex(F32, random.nextInt(BLOCK), Float.NEGATIVE_INFINITY);
            s.setAtIndex(F32, random.nextInt(BLOCK), 70);
            float[] logSums = new float[rows];
            for (int r = 0; r < rows; r++) {
                logSums[r] = (float) (3 * random.nextGaussian());
            }
            MemorySegment expected = memory.floats(blocks * BLOCK);
            MemorySegment actual = memory.floats(blocks * BLOCK);
            scalar.rank(s, 0, blocks, rows, logSums, expected, 0);
            vector.rank(s, 0, blocks, rows, logSums, actual, 0);
            assertSame(expected, actual, "rows " + rows);
        }
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 2, 3, 10})
    void stretchMaxima(int blocks) {
        MemorySegment ranks = gaussian(blocks * BLOCK);
        ranks.setAtIndex(F32, random.nextInt(blocks * BLOCK), Float.NEGATIVE_INFINITY);
        ranks.setAtIndex(F32, random.nextInt(blocks * BLOCK), Float.POSITIVE_INFINITY);
        for (int stretch = 1; stretch <= blocks + 1; stretch++) {
            float[] expected = new float[(blocks + stretch - 1) / stretch * 16];
            float[] actual = new float[expected.length];
            scalar.stretchMaxima(ranks, 0, blocks, stretch, expected);
            vector.stretchMaxima(ranks, 0, blocks, stretch, actual);
            assertArrayEquals(expected, actual, message("stretch " + stretch));
            float[] wanted = new float[expected.length];
            Arrays.fill(wanted, Float.NEGATIVE_INFINITY);
            for (int i = 0; i < blocks * BLOCK; i++) {
                int column = i / BLOCK / stretch * 16 + i % 16;
                wanted[column] = Math.max(wanted[column], ranks.getAtIndex(F32, i));
            }
            assertArrayEquals(wanted, expected, message("scalar, stretch " + stretch));
        }
    }

    @ParameterizedTest
    @ValueSource(ints = {16, 32, 48, 64, 80, 96, 112, 128, 256})
    void records(int headSize) {
        for (int bits : new int[] {4, 8, 16}) {
            MemorySegment keys = unruly(headSize * BLOCK);
            MemorySegment values = unruly(headSize * BLOCK);
            int size = BlockLayout.recordBytes(bits, headSize);
            MemorySegment rows = noise((long) BLOCK * size);
            MemorySegment actualRows = noise((long) BLOCK * size);
            scalar.packRecords(keys, 0, values, 0, headSize, bits, rows, 0);
            vector.packRecords(keys, 0, values, 0, headSize, bits, actualRows, 0);
            assertSame(rows, actualRows, "records, bits " + bits);

            MemorySegment expectedKeys = memory.floats(headSize * BLOCK);
            MemorySegment actualKeys = memory.floats(headSize * BLOCK);
            MemorySegment expectedValues = memory.floats(headSize * BLOCK);
            MemorySegment actualValues = memory.floats(headSize * BLOCK);
            scalar.loadRecords(rows, 0, bits, headSize, expectedKeys, 0, expectedValues, 0);
            vector.loadRecords(rows, 0, bits, headSize, actualKeys, 0, actualValues, 0);
            assertClose(expectedKeys, actualKeys, 4, "keys of tiles, bits " + bits);
            assertClose(expectedValues, actualValues, 4, "values of tiles, bits " + bits);
        }
    }

    @ParameterizedTest
    @ValueSource(ints = {16, 32, 48, 64, 80, 96, 112, 128, 256})
    void attentionOverRecords(int headSize) {
        for (int bits : new int[] {4, 8, 16}) {
            int size = BlockLayout.recordBytes(bits, headSize);
            MemorySegment records = memory.bytes((long) BLOCK * size);
            scalar.packRecords(gaussian(headSize * BLOCK), 0, gaussian(headSize * BLOCK), 0, headSize, bits, records,
                    0);
            MemorySegment one = memory.copy(records.asSlice(7L * size, size));
            RecordList list = new RecordList();
            list.begin(bits, headSize);
            for (int count = 0; count <= BLOCK; count++) {
                int rows = ROWS[(count + bits) % ROWS.length];
                String what = "bits " + bits + ", rows " + rows + ", records " + count;
                vector.touchRecords(list);

                int stride = headSize + random.nextInt(3);
                MemorySegment q = gaussian((rows - 1) * stride + headSize);
                MemorySegment expected = gaussian(rows * BLOCK);
                MemorySegment actual = memory.copy(expected);
                scalar.recordScores(list, q, 0, stride * 4L, rows, expected, 0);
                vector.recordScores(list, q, 0, stride * 4L, rows, actual, 0);
                assertClose(expected, actual, headSize * 16, "scores, " + what);

                MemorySegment p = positive(rows * BLOCK);
                for (int i = count; i < BLOCK; i++) {
                    // What lies behind the weights of the records is none.
                    p.setAtIndex(F32, (long) random.nextInt(rows) * BLOCK + i, Float.NaN);
                }
                expected = gaussian(rows * headSize);
                actual = memory.copy(expected);
                scalar.recordAccumulate(list, p, 0, rows, expected, 0);
                vector.recordAccumulate(list, p, 0, rows, actual, 0);
                assertClose(expected, actual, count * 16, "sums, " + what);
                if (count < BLOCK) {
                    boolean alone = random.nextInt(3) == 0;
                    list.add(alone ? one : records, 0, new int[] {alone ? 0 : random.nextInt(BLOCK)}, 0, 1);
                }
            }
        }
    }

    /** Weights and parameters from one end of their range to the other leave nothing infinite that is not so by right. */
    @Test
    void recordsOfEveryMagnitude() {
        int headSize = 80;
        MemorySegment records = memory.bytes((long) BLOCK * BlockLayout.recordBytes(8, headSize));
        scalar.packRecords(unruly(headSize * BLOCK), 0, unruly(headSize * BLOCK), 0, headSize, 8, records, 0);
        RecordList list = new RecordList();
        list.begin(8, headSize);
        list.add(records, 0, IntStream.range(0, BLOCK).toArray(), 0, BLOCK);
        MemorySegment q = gaussian(4 * headSize);
        MemorySegment expected = memory.floats(4 * BLOCK);
        MemorySegment actual = memory.floats(4 * BLOCK);
        scalar.recordScores(list, q, 0, headSize * 4L, 4, expected, 0);
        vector.recordScores(list, q, 0, headSize * 4L, 4, actual, 0);
        assertClose(expected, actual, headSize * 16, "scores");
        MemorySegment p = gaussian(4 * BLOCK);
        for (int i = 0; i < BLOCK; i += 3) {
            p.setAtIndex(F32, i, 0);
            p.setAtIndex(F32, BLOCK + i, Float.MIN_VALUE);
        }
        expected = memory.floats(4 * headSize);
        actual = memory.floats(4 * headSize);
        scalar.recordAccumulate(list, p, 0, 4, expected, 0);
        vector.recordAccumulate(list, p, 0, 4, actual, 0);
        assertClose(expected, actual, BLOCK * 16, "sums");
    }

    @ParameterizedTest
    @ValueSource(ints = {16, 32, 48, 64, 80, 96, 112, 128, 256})
    void index(int headSize) {
        for (int bits : new int[] {2, 4, 8}) {
            int @Nullable [] held = random.nextBoolean() ? null : someChannels(headSize);
            int width = held == null ? headSize : held.length;
            MemorySegment panel = noise(BlockLayout.panelBytes(bits, width));
            MemorySegment actualPanel = memory.copy(panel);
            int blocks = 1 + random.nextInt(BlockLayout.PANEL);
            for (int block = 0; block < BlockLayout.PANEL; block++) {
                // What is in blocks that nobody has filled yet must not matter.
                MemorySegment tile = block < blocks ? unruly(headSize * BLOCK) : gaussian(headSize * BLOCK);
                scalar.quantizeIndex(tile, 0, headSize, held, bits, panel, 0, block);
                vector.quantizeIndex(tile, 0, headSize, held, bits, actualPanel, 0, block);
                assertSame(panel, actualPanel, "panel, bits " + bits);
            }
            for (int block = 0; block < BlockLayout.PANEL; block++) {
                scalar.quantizeIndex(gaussian(headSize * BLOCK), 0, headSize, held, bits, panel, 0, block);
            }
            for (int rows : ROWS) {
                int stride = width + random.nextInt(3);
                MemorySegment q = gaussian((rows - 1) * stride + width);
                int[] channels = random.ints(width + 2, 0, width).toArray();
                int from = random.nextInt(blocks);
                int to = from + random.nextInt(blocks - from + 1);
                int[] counts = {-1, random.nextInt(width + 1)};
                for (int count : counts) {
                    int[] list = count < 0 ? null : channels;
                    MemorySegment expected = gaussian((to - from) * rows * BLOCK);
                    MemorySegment actual = gaussian((to - from) * rows * BLOCK);
                    scalar.indexScores(panel, 0, from, to, bits, width, list, count, q, 0, stride * 4L, rows,
                            expected, 0);
                    vector.indexScores(panel, 0, from, to, bits, width, list, count, q, 0, stride * 4L, rows, actual,
                            0);
                    assertClose(expected, actual, headSize * 16,
                            "bits " + bits + ", rows " + rows + ", channels " + count);
                    float[] logSums = new float[rows];
                    for (int r = 0; r < rows; r++) {
                        logSums[r] = (float) (3 * random.nextGaussian());
                    }
                    expected = gaussian((to - from) * BLOCK);
                    actual = gaussian((to - from) * BLOCK);
                    scalar.indexRanks(panel, 0, from, to, bits, width, list, count, q, 0, stride * 4L, rows, logSums,
                            expected, 0);
                    vector.indexRanks(panel, 0, from, to, bits, width, list, count, q, 0, stride * 4L, rows, logSums,
                            actual, 0);
                    assertClose(expected, actual, headSize * 16,
                            "ranks, bits " + bits + ", rows " + rows + ", channels " + count);
                }
            }
        }
    }

    /** Between one and all channels, ascending. */
    private int[] someChannels(int headSize) {
        return random.ints(1 + random.nextInt(headSize), 0, headSize).distinct().sorted().toArray();
    }

    @Test
    void indexOfSomeChannels() {
        int headSize = 48;
        int[] held = someChannels(headSize);
        MemorySegment tile = gaussian(headSize * BLOCK);
        MemorySegment all = memory.bytes(BlockLayout.panelBytes(4, headSize));
        MemorySegment some = memory.bytes(BlockLayout.panelBytes(4, held.length));
        scalar.quantizeIndex(tile, 0, headSize, null, 4, all, 0, 7);
        scalar.quantizeIndex(tile, 0, headSize, held, 4, some, 0, 7);
        MemorySegment q = gaussian(headSize);
        MemorySegment narrow = memory.floats(held.length);
        for (int i = 0; i < held.length; i++) {
            narrow.setAtIndex(ValueLayout.JAVA_FLOAT, i, q.getAtIndex(ValueLayout.JAVA_FLOAT, held[i]));
        }
        MemorySegment expected = memory.floats(BLOCK);
        MemorySegment actual = memory.floats(BLOCK);
        scalar.indexScores(all, 0, 7, 8, 4, headSize, held, held.length, q, 0, 4L * headSize, 1, expected, 0);
        scalar.indexScores(some, 0, 7, 8, 4, held.length, null, 0, narrow, 0, 4L * held.length, 1, actual, 0);
        assertSame(expected, actual, "scores of channels " + Arrays.toString(held));
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 2, 15, 16, 17, 64, 100, 1000})
    void threshold(int count) {
        for (int trial = 0; trial < 20; trial++) {
            float[] values = new float[count + 3];
            boolean coarse = random.nextBoolean();
            for (int i = 0; i < values.length; i++) {
                float value = (float) random.nextGaussian();
                values[i] = coarse ? Math.round(2 * value) : value;
            }
            values[random.nextInt(count)] = Float.NEGATIVE_INFINITY;
            values[random.nextInt(count)] = Float.POSITIVE_INFINITY;
            values[random.nextInt(count)] = trial % 3 == 0 ? Float.NaN : -0f;
            int k = 1 + random.nextInt(count);
            int most = k + random.nextInt(1 + k / 4);
            float exact = scalar.threshold(values, count, k, most);
            float found = vector.threshold(values, count, k, most);
            int reach = 0;
            for (int i = 0; i < count; i++) {
                reach += values[i] >= found ? 1 : 0;
            }
            if (reach < k || reach > most) {
                assertEquals(exact, found, message("threshold, k " + k));
            }
        }
    }

    @ParameterizedTest
    @ValueSource(ints = {0, 1, 2, 15, 16, 17, 31, 64, 100, 1000})
    void keepLargest(int count) {
        for (int trial = 0; trial < 40; trial++) {
            float[] values = new float[count + 3];
            int[] positions = new int[count + 3];
            float step = new float[] {0, 0.5f, 100}[trial % 3];
            for (int i = 0; i < values.length; i++) {
                float value = (float) Math.exp(10 * random.nextGaussian());
                values[i] = step == 0 ? value : step * Math.round(random.nextGaussian() / step);
                positions[i] = 7 * i + random.nextInt(7);
            }
            for (float rare : new float[] {Float.NEGATIVE_INFINITY, Float.POSITIVE_INFINITY, -0f}) {
                values[random.nextInt(count + 3)] = rare;
            }
            int k = random.nextInt(1, count + 2);
            int[] kept = positions.clone();
            int end = vector.keepLargest(values, kept, count, k);
            int[] expected = IntStream.range(0, count)
                    .boxed()
                    .sorted(Comparator.comparingDouble(i -> -values[i] + 0.0))
                    .limit(k)
                    .sorted()
                    .mapToInt(i -> positions[i])
                    .toArray();
            assertArrayEquals(expected, Arrays.copyOf(kept, end), message("kept, k " + k));
            kept = positions.clone();
            end = scalar.keepLargest(values, kept, count, k);
            assertArrayEquals(expected, Arrays.copyOf(kept, end), message("kept by scalar, k " + k));
        }
    }

    @ParameterizedTest
    @ValueSource(ints = {16, 80, 128, 256})
    void putKey(int headSize) {
        MemorySegment key = gaussian(headSize);
        MemorySegment expected = gaussian(headSize * BLOCK);
        MemorySegment actual = memory.copy(expected);
        for (int column : new int[] {0, 17, BLOCK - 1}) {
            scalar.putKey(key, 0, headSize, expected, 0, column);
            vector.putKey(key, 0, headSize, actual, 0, column);
        }
        assertSame(expected, actual, "columns");
    }

    @ParameterizedTest
    @ValueSource(ints = {0, 1, 7, 15, 16, 17, 31, 33, 64, 100, 1000})
    void bfloat16(int count) {
        MemorySegment x = unruly(count);
        MemorySegment expected = memory.bytes(count * 2L);
        MemorySegment actual = memory.bytes(count * 2L);
        scalar.toBFloat16(x, 0, expected, 0, count);
        vector.toBFloat16(x, 0, actual, 0, count);
        assertSame(expected, actual, "to BF16");
        MemorySegment back = memory.floats(count);
        scalar.fromBFloat16(expected, 0, x, 0, count);
        vector.fromBFloat16(expected, 0, back, 0, count);
        assertSame(x, back, "from BF16");
    }

    @ParameterizedTest
    @ValueSource(ints = {16, 32, 48, 64, 80, 96, 112, 128, 256})
    void rotate(int headSize) {
        for (int heads : ROWS) {
            MemorySegment expected = gaussian(heads * headSize);
            MemorySegment actual = memory.copy(expected);
            MemorySegment table = gaussian(headSize);
            scalar.rotate(expected, 0, heads, headSize, table, 0);
            vector.rotate(actual, 0, heads, headSize, table, 0);
            assertClose(expected, actual, 4, "heads " + heads);
        }
    }

    private MemorySegment gaussian(int count) {
        MemorySegment x = memory.floats(count);
        for (int i = 0; i < count; i++) {
            x.setAtIndex(F32, i, (float) random.nextGaussian());
        }
        return x;
    }

    private MemorySegment positive(int count) {
        MemorySegment x = memory.floats(count);
        for (int i = 0; i < count; i++) {
            x.setAtIndex(F32, i, 0.1f + random.nextFloat());
        }
        return x;
    }

    /** Of every magnitude, with outliers, zeros of both signs, constant stretches and things that are not numbers. */
    private MemorySegment unruly(int count) {
        MemorySegment x = gaussian(count);
        float[] odd = {
            0, -0f, Float.NaN, Float.POSITIVE_INFINITY, Float.NEGATIVE_INFINITY, 1e30f, -1e30f, 65504, -70000, 1e-8f,
            Float.MIN_VALUE};
        for (int first = 0; first < count; first += 64) {
            int kind = random.nextInt(6);
            float factor = (float) Math.exp(6 * random.nextGaussian());
            for (int i = first; i < Math.min(count, first + 64); i++) {
                float value = x.getAtIndex(F32, i) * factor;
                if (kind == 0) {
                    value = random.nextBoolean() ? value : odd[random.nextInt(odd.length)];
                } else if (kind == 1) {
                    value = odd[first / 64 % odd.length];
                }
                x.setAtIndex(F32, i, value);
            }
        }
        return x;
    }

    private MemorySegment noise(long count) {
        MemorySegment x = memory.bytes(count);
        for (long i = 0; i < count; i++) {
            x.set(ValueLayout.JAVA_BYTE, i, (byte) random.nextInt());
        }
        return x;
    }

    private MemorySegment emptyState(int rows) {
        MemorySegment state = memory.floats(2 * rows);
        for (int r = 0; r < rows; r++) {
            state.setAtIndex(F32, 2L * r, Float.NEGATIVE_INFINITY);
        }
        return state;
    }

    private void assertSame(MemorySegment expected, MemorySegment actual, String what) {
        assertEquals(-1, expected.mismatch(actual), message(what));
    }

    private void assertClose(MemorySegment expected, MemorySegment actual, int length, String what) {
        double largest = 1;
        for (long i = 0; i < expected.byteSize() / 4; i++) {
            float x = Math.abs(expected.getAtIndex(F32, i));
            largest = x < Float.MAX_VALUE ? Math.max(largest, x) : largest;
        }
        double tolerance = 5e-7 * largest * Math.sqrt(length + 1);
        for (long i = 0; i < expected.byteSize() / 4; i++) {
            float x = expected.getAtIndex(F32, i);
            float y = actual.getAtIndex(F32, i);
            if (Float.compare(x, y) != 0 && !(Math.abs(x - y) <= tolerance)) {
                assertEquals(x, y, tolerance, message(what + ", element " + i));
            }
        }
    }

    private String message(String what) {
        return what + " (seed " + seed + ")";
    }
}
