package io.github.tailorkv.kernels;

import static io.github.tailorkv.kernels.BlockLayout.BLOCK;
import static io.github.tailorkv.kernels.BlockLayout.GROUP;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.Random;

import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** The scalar kernels against formulas in double precision, written down independently. */
class ScalarAttentionKernelsTest {

    private static final ValueLayout.OfFloat F32 = ValueLayout.JAVA_FLOAT_UNALIGNED;
    private static final float SCALE = 0.125f;

    private final AttentionKernels kernels = new ScalarAttentionKernels();
    private final Arena arena = Arena.ofConfined();
    private final long seed = System.nanoTime();
    private final Random random = new Random(seed);

    @AfterEach
    void free() {
        arena.close();
    }

    @ParameterizedTest
    @ValueSource(ints = {16, 64, 80, 96, 128, 256})
    void attentionInTilesIsAttention(int headSize) {
        for (float softCap : new float[] {0, 3}) {
            int tokens = 2 * BLOCK + 17;
            int group = 3;
            int queries = 5;
            int rows = group * queries;
            float[] q = gaussian(rows * headSize, 1);
            float[] k = gaussian(tokens * headSize, 1);
            float[] v = gaussian(tokens * headSize, 1);
            MemorySegment out = floats(rows * headSize);
            attendCausally(headSize, group, rows, tokens, softCap, q, k, v, out);

            double[] expected = new double[headSize];
            for (int r = 0; r < rows; r++) {
                int visible = tokens - queries + 1 + r / group;
                naiveAttention(headSize, visible, softCap, q, r, k, v, expected);
                for (int c = 0; c < headSize; c++) {
                    assertEquals(expected[c], get(out, r * headSize + c), 2e-5, message("row " + r));
                }
            }
        }
    }

    /** The last {@code rows / group} tokens ask; each sees the tokens before it and itself. Two passes, then merged. */
    private void attendCausally(
            int headSize, int group, int rows, int tokens, float softCap, float[] q, float[] k, float[] v,
            MemorySegment out) {
        MemorySegment query = copy(q);
        MemorySegment[] state = {floats(2 * rows), floats(2 * rows)};
        MemorySegment[] acc = {floats(rows * headSize), floats(rows * headSize)};
        MemorySegment scores = floats(rows * BLOCK);
        for (MemorySegment part : state) {
            for (int r = 0; r < rows; r++) {
                set(part, 2 * r, Float.NEGATIVE_INFINITY);
            }
        }
        int firstVisible = tokens - rows / group + 1;
        for (int block = 0; block * BLOCK < tokens; block++) {
            int first = block * BLOCK;
            int count = Math.min(BLOCK, tokens - first);
            MemorySegment key = floats(headSize * BLOCK);
            MemorySegment value = floats(headSize * BLOCK);
            for (int t = 0; t < count; t++) {
                for (int c = 0; c < headSize; c++) {
                    set(key, c * BLOCK + t, k[(first + t) * headSize + c]);
                    set(value, t * headSize + c, v[(first + t) * headSize + c]);
                }
            }
            int part = block % 2;
            kernels.scores(key, 0, headSize, query, 0, headSize * 4L, rows, scores, 0);
            kernels.softmaxStep(scores, 0, rows, count, firstVisible - first, group, SCALE, softCap, state[part], 0,
                    acc[part], 0, headSize);
            kernels.accumulate(value, 0, headSize, scores, 0, rows, count, acc[part], 0);
        }
        kernels.merge(state[0], 0, acc[0], 0, state[1], 0, acc[1], 0, rows, headSize);
        kernels.normalize(state[0], 0, acc[0], 0, rows, headSize, out, 0, headSize * 4L);
    }

    private static void naiveAttention(
            int headSize, int visible, float softCap, float[] q, int row, float[] k, float[] v, double[] out) {
        double sum = 0;
        Arrays.fill(out, 0);
        for (int t = 0; t < visible; t++) {
            double score = 0;
            for (int c = 0; c < headSize; c++) {
                score += (double) q[row * headSize + c] * k[t * headSize + c];
            }
            score *= SCALE;
            double weight = Math.exp(softCap > 0 ? softCap * Math.tanh(score / softCap) : score);
            sum += weight;
            for (int c = 0; c < headSize; c++) {
                out[c] += weight * v[t * headSize + c];
            }
        }
        for (int c = 0; c < headSize; c++) {
            out[c] /= sum;
        }
    }

    @Test
    void aRowThatSeesNothingStaysEmpty() {
        MemorySegment s = copy(gaussian(2 * BLOCK, 1));
        MemorySegment state = copy(new float[] {Float.NEGATIVE_INFINITY, 0, Float.NEGATIVE_INFINITY, 0});
        MemorySegment acc = floats(2 * 16);
        kernels.softmaxStep(s, 0, 2, BLOCK, -1, 1, 1, 0, state, 0, acc, 0, 16);
        assertEquals(Float.NEGATIVE_INFINITY, get(state, 0));
        assertEquals(0, get(state, 1));
        MemorySegment empty = copy(new float[] {Float.NEGATIVE_INFINITY, 0, Float.NEGATIVE_INFINITY, 0});
        kernels.merge(state, 0, acc, 0, empty, 0, acc, 0, 2, 16);
        kernels.normalize(state, 0, acc, 0, 2, 16, s, 0, 64);
        for (int i = 0; i < 32; i++) {
            assertEquals(0, get(s, i));
        }
    }

    @ParameterizedTest
    @ValueSource(ints = {16, 64, 80, 96, 128, 256})
    void aCodeIsOffByHalfAStepAtMost(int headSize) {
        for (int bits : new int[] {1, 2, 4, 8}) {
            float[] tile = gaussian(headSize * BLOCK, 2);
            for (int i = 0; i < tile.length; i += 97) {
                tile[i] *= 100;
            }
            MemorySegment source = copy(tile);
            MemorySegment unpacked = floats(tile.length);

            MemorySegment keys = arena.allocate(BlockLayout.packedKeyBytes(bits, headSize));
            kernels.quantizeKeys(source, 0, headSize, bits, keys, 0);
            kernels.unpackKeys(keys, 0, bits, false, headSize, unpacked, 0);
            assertWithinHalfAStep(tile, unpacked, BLOCK, BLOCK, bits, 0.5);

            MemorySegment values = arena.allocate(BlockLayout.packedValueBytes(bits, headSize));
            kernels.quantizeValues(source, 0, headSize, bits, values, 0);
            kernels.unpackValues(values, 0, bits, false, headSize, unpacked, 0);
            assertWithinHalfAStep(tile, unpacked, headSize, GROUP, bits, 0.5);
        }
    }

    @ParameterizedTest
    @ValueSource(ints = {16, 64, 80, 96, 128, 256})
    void aProgressiveBlockIsEightBitsWholeAndFourBitsInHalf(int headSize) {
        float[] tile = gaussian(headSize * BLOCK, 2);
        MemorySegment source = copy(tile);
        MemorySegment joined = floats(tile.length);
        MemorySegment gathered = floats(tile.length);
        int stride = BlockLayout.lowRecordBytes(headSize);
        MemorySegment lo = arena.allocate((long) BLOCK * stride);

        MemorySegment keys = arena.allocate(BlockLayout.packedKeyBytes(4, headSize));
        kernels.splitKeys(source, 0, headSize, keys, 0, lo, 0, stride);
        MemorySegment values = arena.allocate(BlockLayout.packedValueBytes(4, headSize));
        kernels.splitValues(source, 0, headSize, values, 0, lo, BlockLayout.lowRecordValue(headSize), stride);

        kernels.joinKeys(keys, 0, lo, 0, stride, headSize, joined, 0);
        assertWithinHalfAStep(tile, joined, BLOCK, BLOCK, 8, 0.5);
        for (int t = 0; t < BLOCK; t++) {
            kernels.gatherKey(keys, 0, t, lo, (long) t * stride, headSize, gathered, 0, t);
        }
        assertEquals(-1, joined.mismatch(gathered));
        kernels.unpackKeys(keys, 0, 4, true, headSize, joined, 0);
        // The middle of 16 codes is up to 7.5 of them away, and the codes end 0.5 inside the steps of the whole.
        assertWithinHalfAStep(tile, joined, BLOCK, BLOCK, 8, 8);

        long loValues = BlockLayout.lowRecordValue(headSize);
        kernels.joinValues(values, 0, lo, loValues, stride, headSize, joined, 0);
        assertWithinHalfAStep(tile, joined, headSize, GROUP, 8, 0.5);
        for (int t = 0; t < BLOCK; t++) {
            kernels.gatherValue(values, 0, t, lo, loValues + (long) t * stride, headSize, gathered, 0, t);
        }
        assertEquals(-1, joined.mismatch(gathered));
        kernels.unpackValues(values, 0, 4, true, headSize, joined, 0);
        assertWithinHalfAStep(tile, joined, headSize, GROUP, 8, 8);
    }

    /** Groups are {@code group} neighbours within rows of {@code row} elements; the last of a row may be shorter. */
    private void assertWithinHalfAStep(
            float[] expected, MemorySegment actual, int row, int group, int bits, double steps) {
        for (int start = 0; start < expected.length; start += row) {
            for (int first = start; first < start + row; first += group) {
                int end = Math.min(first + group, start + row);
                double min = expected[first];
                double max = expected[first];
                for (int i = first; i < end; i++) {
                    min = Math.min(min, expected[i]);
                    max = Math.max(max, expected[i]);
                }
                // Both roundings to f16 widen the range: z by 2^-11 of itself, s by 2^-10 of itself or a subnormal.
                double zero = min - Math.abs(min) / 1024 - 6e-8;
                double step = (max - zero) / BlockLayout.maxCode(bits) * (1 + 1d / 512) + 6e-8;
                double tolerance = step * steps + 1e-6 * Math.max(Math.abs(min), Math.abs(max));
                for (int i = first; i < end; i++) {
                    assertEquals(expected[i], get(actual, i), tolerance, message("element " + i + ", bits " + bits));
                }
            }
        }
    }

    /** Those of 4 bits but for what rounding loses. */
    @Test
    void packedKernelsEqualUnpackingFirst() {
        int rows = 3;
        for (int headSize : new int[] {16, 64, 80, 128}) {
            for (int bits : new int[] {1, 2, 4, 8}) {
                boolean refined = bits == 4;
                MemorySegment tile = copy(gaussian(headSize * BLOCK, 1));
                MemorySegment x = copy(gaussian(rows * Math.max(headSize, BLOCK), 1));
                MemorySegment unpacked = floats(headSize * BLOCK);
                MemorySegment expected = floats(rows * Math.max(headSize, BLOCK));
                MemorySegment actual = floats(rows * Math.max(headSize, BLOCK));

                MemorySegment keys = arena.allocate(BlockLayout.packedKeyBytes(bits, headSize));
                kernels.quantizeKeys(tile, 0, headSize, bits, keys, 0);
                kernels.unpackKeys(keys, 0, bits, refined, headSize, unpacked, 0);
                kernels.scores(unpacked, 0, headSize, x, 0, headSize * 4L, rows, expected, 0);
                kernels.packedScores(keys, 0, bits, refined, headSize, null, 0, x, 0, headSize * 4L, rows, actual, 0);
                assertEqualOrRounded(expected, actual, bits == 4, "keys, bits " + bits);

                MemorySegment values = arena.allocate(BlockLayout.packedValueBytes(bits, headSize));
                kernels.quantizeValues(tile, 0, headSize, bits, values, 0);
                kernels.unpackValues(values, 0, bits, refined, headSize, unpacked, 0);
                expected.fill((byte) 0);
                actual.fill((byte) 0);
                kernels.accumulate(unpacked, 0, headSize, x, 0, rows, 61, expected, 0);
                kernels.packedAccumulate(values, 0, bits, refined, headSize, x, 0, rows, 61, actual, 0);
                assertEqualOrRounded(expected, actual, bits == 4, "values, bits " + bits);
            }
        }
    }

    private void assertEqualOrRounded(MemorySegment expected, MemorySegment actual, boolean rounded, String what) {
        int count = (int) (expected.byteSize() / 4);
        double error = distance(expected, actual, count);
        double size = distance(expected, floats(count), count);
        assertTrue(!rounded ? expected.mismatch(actual) < 0 : error > 0 && error < 0.02 * size,
                message(what + ": " + error + " of " + size));
    }

    @Test
    void scoresOfAFewChannelsLeaveTheOthersOut() {
        int headSize = 32;
        int[] channels = {3, 17, 31, 99};
        float[] q = gaussian(headSize, 1);
        float[] few = new float[headSize];
        for (int i = 0; i < 3; i++) {
            few[channels[i]] = q[channels[i]];
        }
        MemorySegment keys = arena.allocate(BlockLayout.packedKeyBytes(8, headSize));
        kernels.quantizeKeys(copy(gaussian(headSize * BLOCK, 1)), 0, headSize, 8, keys, 0);
        MemorySegment expected = floats(BLOCK);
        MemorySegment actual = floats(BLOCK);
        kernels.packedScores(keys, 0, 8, false, headSize, null, 0, copy(few), 0, 0, 1, expected, 0);
        kernels.packedScores(keys, 0, 8, false, headSize, channels, 3, copy(q), 0, 0, 1, actual, 0);
        assertEquals(-1, expected.mismatch(actual), message("channels"));
    }

    @Test
    void groupsThatAreConstantHugeOrNotNumbersStayHarmless() {
        float nan = Float.NaN;
        float inf = Float.POSITIVE_INFINITY;
        float[][] groups = {
            {0}, {-0f}, {1}, {-3.14159f}, {65504}, {1e-8f}, {-1e-8f}, {Float.MIN_VALUE, 0}, {nan}, {nan, 2, 5},
            {-5, nan, 7}, {inf, 1}, {-inf, 1}, {inf}, {-inf}, {1e38f, -1e38f}, {3e38f, -3e38f}, {70000, 69999},
            {1e-6f, 2e-6f}, {-1000, 1e-3f}, {0, 1, 1e5f}};
        int headSize = 32;
        for (float[] group : groups) {
            for (int bits : new int[] {1, 2, 4, 8}) {
                MemorySegment tile = floats(headSize * BLOCK);
                for (int i = 0; i < headSize * BLOCK; i++) {
                    set(tile, i, group[i % BLOCK % headSize % group.length]);
                }
                MemorySegment keys = arena.allocate(BlockLayout.packedKeyBytes(bits, headSize));
                MemorySegment unpacked = floats(headSize * BLOCK);
                kernels.quantizeKeys(tile, 0, headSize, bits, keys, 0);
                kernels.unpackKeys(keys, 0, bits, false, headSize, unpacked, 0);
                assertHarmless(group, tile, unpacked, bits);
                MemorySegment values = arena.allocate(BlockLayout.packedValueBytes(bits, headSize));
                kernels.quantizeValues(tile, 0, headSize, bits, values, 0);
                kernels.unpackValues(values, 0, bits, false, headSize, unpacked, 0);
                assertHarmless(group, tile, unpacked, bits);
            }
        }
    }

    private void assertHarmless(float[] group, MemorySegment tile, MemorySegment unpacked, int bits) {
        double min = Double.POSITIVE_INFINITY;
        double max = Double.NEGATIVE_INFINITY;
        for (float x : group) {
            min = x < min ? x : min;
            max = x > max ? x : max;
        }
        boolean inRange = Math.abs(min) <= Float16.MAX
                && (max - min) / BlockLayout.maxCode(bits) <= 0.99 * Float16.MAX;
        double zero = min - Math.abs(min) / 1024 - 6e-8;
        double step = (max - zero) / BlockLayout.maxCode(bits) * (1 + 1d / 512) + 6e-8;
        for (int i = 0; i < BLOCK; i++) {
            float x = get(tile, i);
            float y = get(unpacked, i);
            String message = Arrays.toString(group) + " as " + bits + " bits: " + x + " became " + y;
            assertTrue(Float.isFinite(y), message);
            if (Float.isNaN(x) && min <= max) {
                assertEquals(min, y, Math.abs(min) / 1024 + 6e-8, message);
            } else if (!Float.isNaN(x) && inRange) {
                assertEquals(x, y, step / 2 + 1e-6 * Math.abs(x), message);
            }
        }
    }

    @ParameterizedTest
    @ValueSource(ints = {16, 64, 80, 128, 256})
    void aRecordIsOffByHalfAStepAtMost(int headSize) {
        for (int bits : new int[] {4, 8}) {
            float[] keys = gaussian(headSize * BLOCK, 3);
            float[] values = gaussian(headSize * BLOCK, 3);
            MemorySegment rows = arena.allocate((long) BLOCK * BlockLayout.recordBytes(bits, headSize));
            kernels.packRecords(
                    MemorySegment.ofArray(keys), 0, MemorySegment.ofArray(values), 0, headSize, bits, rows, 0);
            MemorySegment keyTile = floats(headSize * BLOCK);
            MemorySegment valueTile = floats(headSize * BLOCK);
            kernels.loadRecords(rows, 0, bits, headSize, keyTile, 0, valueTile, 0);
            for (int t = 0; t < BLOCK; t++) {
                float[] key = new float[headSize];
                float[] restored = new float[headSize];
                for (int c = 0; c < headSize; c++) {
                    key[c] = keys[c * BLOCK + t];
                    restored[c] = get(keyTile, c * BLOCK + t);
                }
                assertWithinHalfAStep(key, restored, bits);
                for (int c = 0; c < headSize; c++) {
                    key[c] = values[t * headSize + c];
                    restored[c] = get(valueTile, t * headSize + c);
                }
                assertWithinHalfAStep(key, restored, bits);
            }
        }
    }

    @ParameterizedTest
    @ValueSource(ints = {16, 64, 80, 128, 256})
    void attentionOverRecordsIsThatOverWhatTheyHold(int headSize) {
        for (int bits : new int[] {4, 8, 16}) {
            MemorySegment records = arena.allocate((long) BLOCK * BlockLayout.recordBytes(bits, headSize));
            kernels.packRecords(
                    copy(gaussian(headSize * BLOCK, 3)), 0, copy(gaussian(headSize * BLOCK, 3)), 0, headSize, bits,
                    records, 0);
            MemorySegment keys = floats(headSize * BLOCK);
            MemorySegment values = floats(headSize * BLOCK);
            kernels.loadRecords(records, 0, bits, headSize, keys, 0, values, 0);
            int[] tokens = {5, 0, 63, 5};
            RecordList list = new RecordList();
            list.begin(bits, headSize);
            list.add(records, 0, tokens, 0, tokens.length);
            int rows = 2;
            float[] q = gaussian(rows * headSize, 1);
            float[] p = gaussian(rows * BLOCK, 1);
            MemorySegment s = floats(rows * BLOCK);
            MemorySegment acc = copy(gaussian(rows * headSize, 1));
            MemorySegment before = floats(rows * headSize).copyFrom(acc);
            kernels.recordScores(list, copy(q), 0, headSize * 4L, rows, s, 0);
            kernels.recordAccumulate(list, copy(p), 0, rows, acc, 0);
            for (int r = 0; r < rows; r++) {
                for (int i = 0; i < tokens.length; i++) {
                    double score = 0;
                    for (int c = 0; c < headSize; c++) {
                        score += (double) q[r * headSize + c] * get(keys, c * BLOCK + tokens[i]);
                    }
                    assertEquals(score, get(s, r * BLOCK + i), 1e-5 * headSize, message(bits + " bits, score " + i));
                }
                assertEquals(0, get(s, r * BLOCK + tokens.length), message("a score of no record"));
                for (int c = 0; c < headSize; c++) {
                    double sum = get(before, r * headSize + c);
                    for (int i = 0; i < tokens.length; i++) {
                        sum += (double) p[r * BLOCK + i] * get(values, tokens[i] * headSize + c);
                    }
                    assertEquals(sum, get(acc, r * headSize + c), 1e-4, message(bits + " bits, channel " + c));
                }
            }
        }
    }

    private void assertWithinHalfAStep(float[] numbers, float[] restored, int bits) {
        for (int first = 0; first < numbers.length; first += GROUP) {
            int end = Math.min(numbers.length, first + GROUP);
            float low = Float.POSITIVE_INFINITY;
            float high = Float.NEGATIVE_INFINITY;
            for (int c = first; c < end; c++) {
                low = Math.min(low, numbers[c]);
                high = Math.max(high, numbers[c]);
            }
            // f16 rounds the zero point down and the scale up, by at most a part in 1024 each.
            double step = (high - low + Math.abs(low) / 1024) / BlockLayout.maxCode(bits) * (1 + 1.0 / 512);
            for (int c = first; c < end; c++) {
                assertEquals(numbers[c], restored[c], 0.5 * step + 1e-6, message(bits + " bits, channel " + c));
            }
        }
    }

    @Test
    void bfloat16KeepsEightBitsAndRoundsTiesToEven() {
        float[] x = {
            0, -0f, 1, -2.5f, 3.1415927f, Float.MAX_VALUE, Float.MIN_VALUE, Float.POSITIVE_INFINITY, Float.NaN,
            Float.intBitsToFloat(0x3f808000), Float.intBitsToFloat(0x3f818000), Float.intBitsToFloat(0x7f800001)};
        float[] expected = {
            0, -0f, 1, -2.5f, 3.140625f, Float.POSITIVE_INFINITY, 0, Float.POSITIVE_INFINITY, Float.NaN, 1,
            Float.intBitsToFloat(0x3f820000), Float.NaN};
        MemorySegment packed = arena.allocate(2L * x.length);
        MemorySegment back = floats(x.length);
        kernels.toBFloat16(copy(x), 0, packed, 0, x.length);
        kernels.fromBFloat16(packed, 0, back, 0, x.length);
        for (int i = 0; i < x.length; i++) {
            assertEquals(expected[i], get(back, i), "element " + i);
        }
    }

    @Test
    void selectionFollowsTheScores() {
        float[] x = gaussian(100, 2);
        MemorySegment s = copy(x);
        double largest = Double.NEGATIVE_INFINITY;
        double sum = 0;
        for (float value : x) {
            largest = Math.max(largest, value);
            sum += Math.exp(value);
        }
        assertEquals((float) largest, kernels.max(s, 0, x.length));
        assertEquals(Float.NEGATIVE_INFINITY, kernels.max(s, 0, 0));

        MemorySegment state = copy(new float[] {Float.NEGATIVE_INFINITY, 0});
        kernels.logSumExpStep(s, 0, 0, state, 0);
        kernels.logSumExpStep(s, 0, 37, state, 0);
        kernels.logSumExpStep(s, 37 * 4, 63, state, 0);
        assertEquals(Math.log(sum), get(state, 0) + Math.log(get(state, 1)), 1e-5, message("log-sum-exp"));

        int[] positions = new int[x.length];
        float[] values = new float[x.length];
        int end = kernels.atLeast(s, 0, x.length, 1, 0, positions, values, 0);
        int expected = 0;
        for (int i = 0; i < x.length; i++) {
            if (x[i] >= 1) {
                assertEquals(i, positions[expected]);
                assertEquals(x[i], values[expected++]);
            }
        }
        assertEquals(expected, end);
    }

    @Test
    void rotationTurnsEveryPairByItsAngle() {
        int headSize = 32;
        float[] x = gaussian(3 * headSize, 1);
        float[] table = new float[headSize];
        for (int i = 0; i < headSize / 2; i++) {
            table[i] = (float) Math.cos(i + 0.3);
            table[headSize / 2 + i] = (float) Math.sin(i + 0.3);
        }
        MemorySegment rotated = copy(x);
        kernels.rotate(rotated, 0, 3, headSize, copy(table), 0);
        for (int h = 0; h < 3; h++) {
            for (int i = 0; i < headSize / 2; i++) {
                int first = h * headSize + i;
                int second = first + headSize / 2;
                double angle = Math.atan2(x[second], x[first]) + i + 0.3;
                double length = Math.hypot(x[first], x[second]);
                assertEquals(length * Math.cos(angle), get(rotated, first), 1e-5, message("pair " + i));
                assertEquals(length * Math.sin(angle), get(rotated, second), 1e-5, message("pair " + i));
            }
        }
    }

    @ParameterizedTest
    @ValueSource(ints = {16, 32, 64, 128, 256})
    void roundingLosesAFractionOfWhatCodesHaveLost(int headSize) {
        MemorySegment tile = copy(gaussian(headSize * BLOCK, 2));
        MemorySegment q = copy(gaussian(headSize, 1));
        MemorySegment block = arena.allocate(BlockLayout.packedKeyBytes(4, headSize), 64);
        MemorySegment panel = arena.allocate(BlockLayout.panelBytes(4, headSize), 64);
        MemorySegment unpacked = floats(headSize * BLOCK);
        kernels.quantizeKeys(tile, 0, headSize, 4, block, 0);
        kernels.quantizeIndex(tile, 0, headSize, null, 4, panel, 0, 5);
        kernels.unpackKeys(block, 0, 4, false, headSize, unpacked, 0);
        MemorySegment exact = floats(BLOCK);
        MemorySegment coded = floats(BLOCK);
        MemorySegment packed = floats(BLOCK);
        MemorySegment indexed = floats(BLOCK);
        kernels.scores(tile, 0, headSize, q, 0, headSize * 4L, 1, exact, 0);
        kernels.scores(unpacked, 0, headSize, q, 0, headSize * 4L, 1, coded, 0);
        kernels.packedScores(block, 0, 4, false, headSize, null, 0, q, 0, headSize * 4L, 1, packed, 0);
        kernels.indexScores(panel, 0, 5, 6, 4, headSize, null, 0, q, 0, headSize * 4L, 1, indexed, 0);
        double lost = distance(exact, coded, BLOCK);
        double rounded = distance(coded, packed, BLOCK);
        assertTrue(rounded > 0 && rounded < lost / 7, message("keys: " + rounded + " of " + lost));
        rounded = distance(coded, indexed, BLOCK);
        assertTrue(rounded > 0 && rounded < lost * headSize / 450, message("index: " + rounded + " of " + lost));
    }

    private static double distance(MemorySegment x, MemorySegment y, int count) {
        double sum = 0;
        for (int i = 0; i < count; i++) {
            sum += Math.pow(get(x, i) - get(y, i), 2);
        }
        return Math.sqrt(sum);
    }

    private float[] gaussian(int count, double deviation) {
        float[] x = new float[count];
        for (int i = 0; i < count; i++) {
            x[i] = (float) (random.nextGaussian() * deviation);
        }
        return x;
    }

    private MemorySegment floats(int count) {
        return arena.allocate(count * 4L, 64);
    }

    private MemorySegment copy(float[] x) {
        return arena.allocateFrom(F32, x);
    }

    private static float get(MemorySegment x, int index) {
        return x.get(F32, index * 4L);
    }

    private static void set(MemorySegment x, int index, float value) {
        x.set(F32, index * 4L, value);
    }

    private String message(String what) {
        return what + " (seed " + seed + ")";
    }
}
