package io.github.tailorkv.cache;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.tailorkv.config.Settings;
import io.github.tailorkv.kernels.AttentionKernels;
import io.github.tailorkv.kernels.AttentionShape;
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

/**
 * Ranks against their definition: the largest share of a token in any head, by the scores of the same channels and in long
 * sessions by the sums of the same sample.
 */
class TokenRankingTest {
    private static final int HEAD_SIZE = 64;
    /** How far the logarithm of a sum may be off, as its terms are within 4 %. */
    private static final double ROUGH = 0.041;
    private static final int SINKS = 2;

    private final long seed = new Random().nextLong();
    private final Random random = new Random(seed);

    /** Keys that are alike within a stretch of text, of which each has its own mean; the first one draws attention. */
    private IndexedRows blocks(AttentionKernels kernels, AttentionShape shape, int count, float[] sink) {
        IndexedRows blocks = new IndexedRows(kernels, shape, IndexedChannels.all(shape), 4, 8, false, BlockStore.RAM);
        blocks.add(count);
        try (DecodeScratch work = new DecodeScratch(kernels, shape)) {
            float[] topic = new float[HEAD_SIZE];
            for (int block = 0; block < count; block++) {
                for (int c = 0; block % 5 == 0 && c < HEAD_SIZE; c++) {
                    topic[c] = (float) (0.5 * random.nextGaussian());
                }
                for (int head = 0; head < shape.kvHeads(); head++) {
                    for (int i = 0; i < HEAD_SIZE * BlockLayout.BLOCK; i++) {
                        int c = i / BlockLayout.BLOCK;
                        float key = (float) random.nextGaussian() + topic[c];
                        boolean first = block == 0 && i % BlockLayout.BLOCK == 0;
                        work.memory.set(ValueLayout.JAVA_FLOAT, work.keys + 4L * i, first ? sink[c] : key);
                    }
                    blocks.seal(block, head, work.memory, work.keys, work.values);
                }
            }
        }
        return blocks;
    }

    @ParameterizedTest
    @CsvSource({
        "scalar, 1", "panama, 1", "panama, 70", "panama, 127", "scalar, 130", "panama, 128", "panama, 130",
        "panama, 300"
    })
    void areSharesOfAllTokens(String ladder, int count) {
        for (int group : new int[] {1, 3, 4, 6}) {
            AttentionShape shape = new AttentionShape(2 * group, 2, HEAD_SIZE, 0.125f, 0);
            compare(KernelLadder.choose(ladder), shape, count, "channels=16");
        }
    }

    @ParameterizedTest
    @ValueSource(ints = {3, 130})
    void ofCappedScores(int count) {
        AttentionShape shape = new AttentionShape(8, 2, HEAD_SIZE, 0.125f, 5);
        compare(KernelLadder.choose("panama"), shape, count, "channels=16");
    }

    private void compare(AttentionKernels kernels, AttentionShape shape, int count, String... words) {
        Settings settings = SessionDriver.settings(words);
        int group = shape.groupSize();
        float[] q = new float[shape.heads() * HEAD_SIZE];
        for (int i = 0; i < q.length; i++) {
            // Heads differ in how sharply they attend: scores spread by 0.3 to 1.2.
            q[i] = (float) random.nextGaussian() * (0.3f + 0.9f * (i / HEAD_SIZE % group) / Math.max(1, group - 1));
        }
        float[] sink = new float[HEAD_SIZE];
        for (int c = 0; c < HEAD_SIZE; c++) {
            sink[c] = 3 * q[(group - 1) * HEAD_SIZE + c];
        }
        try (Arena arena = Arena.ofConfined();
                IndexedRows blocks = blocks(kernels, shape, count, sink);
                TokenRanking ranking = new TokenRanking(kernels, shape, settings, 2)) {
            MemorySegment queries = arena.allocateFrom(ValueLayout.JAVA_FLOAT, q);
            int wanted = count * BlockLayout.BLOCK / 40 + 1;
            boolean sampled = group > 1 && count >= 128 && shape.softCap() == 0;
            ranking.begin(blocks, 2, SINKS, wanted);
            for (int head = 0; head < 2; head++) {
                int slot = 1 - head;
                ranking.prepare(blocks, queries, head, slot);
                ranking.run(blocks, head, slot, 0, count / 3);
                ranking.run(blocks, head, slot, count / 3, count);
                ranking.finish(head, slot);
                assertEquals(16, ranking.channels(head));
                float[] ranks = ranking.ranks()
                        .asSlice(ranking.rankAt(slot, 0), (long) count * BlockLayout.BLOCK * Float.BYTES)
                        .toArray(ValueLayout.JAVA_FLOAT);
                check(kernels, shape, blocks, q, head, ranks, sampled);
                checkChoice(ranking, blocks, head, slot, ranks, wanted, sampled);
            }
        }
    }

    /** With a bound and without the same tokens are chosen, those that sorting would choose. */
    private void checkChoice(
            TokenRanking ranking, IndexedRows blocks, int head, int slot, float[] ranks, int wanted,
            boolean sampled) {
        int[] expected = IntStream.range(0, ranks.length)
                .boxed()
                .sorted(Comparator.comparingDouble(i -> i < SINKS ? Double.NEGATIVE_INFINITY : -ranks[i]))
                .limit(wanted)
                .mapToInt(i -> i)
                .sorted()
                .toArray();
        int[] chosen = new int[wanted];
        assertEquals(wanted, ranking.choose(head, slot, slot, chosen));
        assertArrayEquals(expected, chosen, () -> "seed " + seed);
        Arrays.fill(chosen, -1);
        int count = ranking.chooseByBound(blocks, head, slot, chosen);
        if (count == 0) {
            Arrays.fill(expected, -1);
        } else {
            assertEquals(wanted, count);
            assertTrue(sampled, "chosen by a bound without a sample");
        }
        assertArrayEquals(expected, chosen, () -> "seed " + seed);
    }

    private void check(AttentionKernels kernels, AttentionShape shape, IndexedRows blocks, float[] q, int head,
            float[] ranks, boolean sampled) {
        int group = shape.groupSize();
        int count = blocks.size();
        int[] critical = critical(shape, blocks, q, head);
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment scores = arena.allocate((long) count * group * BlockLayout.BLOCK * Float.BYTES, 64);
            MemorySegment queries = arena.allocateFrom(ValueLayout.JAVA_FLOAT, q);
            blocks.score(
                    0, count, head, critical, critical.length, queries, (long) head * group * HEAD_SIZE * Float.BYTES,
                    HEAD_SIZE * 4L, group, scores, 0);
            kernels.scaleScores(
                    scores, 0, count * group * BlockLayout.BLOCK, shape.scale(), shape.softCap());
            double[] sums = new double[group];
            for (int i = 0; i < ranks.length * group; i++) {
                double power = Math.exp(scores.getAtIndex(ValueLayout.JAVA_FLOAT, i));
                int block = i / BlockLayout.BLOCK / group;
                sums[i / BlockLayout.BLOCK % group] += power * (sampled ? weightInSample(block, count) : 1);
            }
            double lowest = Double.POSITIVE_INFINITY;
            double highest = Double.NEGATIVE_INFINITY;
            for (int token = 0; token < ranks.length; token++) {
                double share = Double.NEGATIVE_INFINITY;
                for (int row = 0; row < group; row++) {
                    int at = (token / BlockLayout.BLOCK * group + row) * BlockLayout.BLOCK + token % BlockLayout.BLOCK;
                    double score = scores.getAtIndex(ValueLayout.JAVA_FLOAT, at);
                    share = Math.max(share, score - Math.log(sums[row]));
                }
                lowest = Math.min(lowest, ranks[token] - share);
                highest = Math.max(highest, ranks[token] - share);
            }
            // With one head alone nothing has to be weighed, and all ranks may be off by the same number.
            double off = group == 1 ? (lowest + highest) / 2 : 0;
            double least = lowest - off;
            double most = highest - off;
            assertTrue(
                    least >= -ROUGH && most <= ROUGH,
                    () -> "group " + group + ", blocks " + count + ", off by " + least + " to " + most + ", seed "
                            + seed);
        }
    }

    /** How often a block counts in a sum: four runs of four stand for all, but the first of them for itself. */
    private static double weightInSample(int block, int count) {
        for (int run = 0; run < 4; run++) {
            int first = run * count / 4 / 4 * 4;
            if (block >= first && block < first + 4) {
                return block == 0 ? 1 : (count - 1) / 15.0;
            }
        }
        return 0;
    }

    /** The sixteen channels of the largest weight. */
    private static int[] critical(AttentionShape shape, IndexedRows blocks, float[] q, int head) {
        int group = shape.groupSize();
        float[] extent = blocks.keyRange(head);
        float[] weights = new float[HEAD_SIZE];
        for (int c = 0; c < HEAD_SIZE; c++) {
            for (int row = 0; row < group; row++) {
                weights[c] = Math.max(
                        weights[c], Math.abs(shape.scale() * q[(head * group + row) * HEAD_SIZE + c]) * extent[c]);
            }
        }
        int[] chosen = new int[HEAD_SIZE];
        int written = new TopTokens(KernelLadder.choose("scalar")).selectChannels(weights, HEAD_SIZE, 16, chosen);
        return Arrays.copyOf(chosen, written);
    }
}
