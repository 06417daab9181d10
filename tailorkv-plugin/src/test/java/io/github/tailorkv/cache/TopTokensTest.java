package io.github.tailorkv.cache;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.tailorkv.kernels.BlockLayout;
import io.github.tailorkv.kernels.KernelLadder;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.Comparator;
import java.util.Random;
import java.util.stream.IntStream;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** What is chosen is what sorting would choose. */
class TopTokensTest {

    private final long seed = new Random().nextLong();
    private final Random random = new Random(seed);

    @ParameterizedTest
    @CsvSource({"1,1", "1,64", "1,100", "2,17", "9,128", "40,520", "128,520", "200,3"})
    void theLargestAreChosen(int blocks, int k) {
        for (String kernels : new String[] {"scalar", "panama"}) {
            for (int trial = 0; trial < 10; trial++) {
                // Coarse scores have many ties.
                float step = trial % 2 == 0 ? 0 : 0.5f;
                select(kernels, blocks, k, step);
            }
        }
    }

    private void select(String kernels, int blocks, int k, float step) {
        int count = blocks * BlockLayout.BLOCK;
        float[] scores = new float[count];
        for (int i = 0; i < count; i++) {
            float score = (float) random.nextGaussian();
            scores[i] = step == 0 ? score : Math.round(score / step) * step;
        }
        scores[0] = Float.POSITIVE_INFINITY;
        scores[random.nextInt(1, count)] = Float.NEGATIVE_INFINITY;
        int[] expected = IntStream.range(0, count)
                .filter(i -> scores[i] > Float.NEGATIVE_INFINITY)
                .boxed()
                .sorted(Comparator.comparingDouble(i -> -scores[i]))
                .limit(k)
                .mapToInt(i -> i)
                .sorted()
                .toArray();
        int[] chosen = new int[k];
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment memory = arena.allocate(count * 4L, 64);
            MemorySegment.copy(scores, 0, memory, ValueLayout.JAVA_FLOAT, 0, count);
            TopTokens top = new TopTokens(KernelLadder.choose(kernels));
            int written = top.select(memory, 0, blocks, k, chosen);
            assertArrayEquals(expected, Arrays.copyOf(chosen, written), () -> "seed " + seed);
            // In parts, with a bound that all reach, or more than enough.
            float last = Float.MAX_VALUE;
            for (int position : expected) {
                last = Math.min(last, scores[position]);
            }
            for (float bound : new float[] {-Float.MAX_VALUE, Math.min(last, -1), last}) {
                top.begin(blocks);
                for (int first = 0; first < blocks; first += 3) {
                    int part = Math.min(3, blocks - first);
                    top.add(memory, 4L * first * BlockLayout.BLOCK, part, bound, first * BlockLayout.BLOCK);
                }
                assertTrue(top.size() >= expected.length);
                Arrays.fill(chosen, -1);
                written = top.keep(k, chosen);
                assertArrayEquals(
                        expected, Arrays.copyOf(chosen, written), () -> "bound " + bound + ", seed " + seed);
            }
        }
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 16, 63, 64, 100})
    void theHeaviestChannelsAreChosen(int k) {
        float[] weights = new float[64];
        for (int c = 0; c < weights.length; c++) {
            weights[c] = random.nextInt(20);
        }
        int[] chosen = new int[64];
        int written = new TopTokens(KernelLadder.choose("panama")).selectChannels(weights, 64, k, chosen);
        assertEquals(Math.min(k, 64), written);
        int[] expected = IntStream.range(0, 64)
                .boxed()
                .sorted(Comparator.comparingDouble(c -> -weights[c]))
                .limit(written)
                .mapToInt(c -> c)
                .sorted()
                .toArray();
        assertArrayEquals(expected, Arrays.copyOf(chosen, written), () -> "seed " + seed);
    }
}
