package io.github.tailorkv.kernels;

import java.lang.foreign.MemorySegment;

import org.jspecify.annotations.Nullable;

/**
 * The operations of attention over blocks of 64 tokens of one KV head.
 *
 * <p>All segments are native memory in the platform's byte order (little endian); all offsets are in bytes; floats are
 * F32. A <em>row</em> is one query vector of one head; rows of a head group share the keys and values. Kernels check
 * nothing but the bounds that {@link MemorySegment} itself checks; callers pass sizes that fit. No kernel allocates.
 *
 * <p>Layouts are those of {@link BlockLayout}: key tiles are channel-major, so that one vector spans tokens and a score
 * needs no horizontal sum; value tiles are token-major, so that one vector spans channels. Every operation exists in
 * {@link ScalarAttentionKernels}, which is the definition, and the other implementations must agree with it up to
 * rounding.
 */
public interface AttentionKernels {

    /** Short name for logs and reports: {@code scalar}, {@code panama}. */
    String name();

    // ---- F32 tiles -------------------------------------------------------------------------------------------------

    /**
     * Dot products of {@code rows} queries with the 64 keys of a key tile: {@code s[r][t] = sum_c q[r][c] * k[c][t]}.
     *
     * @param k key tile, {@code float[headSize][64]}
     * @param q queries, row r at {@code qOffset + r * qStride}, {@code headSize} floats each
     * @param s scores, {@code float[rows][64]} contiguous
     */
    void scores(
            MemorySegment k, long kOffset, int headSize,
            MemorySegment q, long qOffset, long qStride, int rows,
            MemorySegment s, long sOffset);

    /**
     * Weighted sum of values: {@code acc[r][c] += sum_{t < tokens} p[r][t] * v[t][c]}.
     *
     * @param v value tile, {@code float[64][headSize]}
     * @param p weights, {@code float[rows][64]} contiguous
     * @param acc accumulators, {@code float[rows][headSize]} contiguous
     */
    void accumulate(
            MemorySegment v, long vOffset, int headSize,
            MemorySegment p, long pOffset, int rows, int tokens,
            MemorySegment acc, long accOffset);

    /**
     * One step of the online softmax for {@code rows} rows against one tile of scores. For row r only the first
     * {@code clamp(valid + r / rowsPerToken, 0, tokens)} scores count (the causal edge: rows are ordered token by
     * token, {@code rowsPerToken} query heads each; pass {@code valid >= 64} for a tile that every row sees).
     * Scores are scaled and soft-capped first. With m the running maximum and l the running sum of exponentials of the
     * row, the accumulator row and l are rescaled to the new maximum, the scores are replaced by
     * {@code exp(score - newMaximum)}, scores that do not count by 0.
     *
     * @param s scores in, weights out, {@code float[rows][64]}
     * @param state running maximum and sum, {@code float[rows][2]}; start with {@code -Infinity, 0}
     * @param acc accumulators to rescale, {@code float[rows][headSize]}
     */
    void softmaxStep(
            MemorySegment s, long sOffset, int rows, int tokens, int valid, int rowsPerToken,
            float scale, float softCap,
            MemorySegment state, long stateOffset,
            MemorySegment acc, long accOffset, int headSize);

    /**
     * Merges a partial result (state and unnormalised accumulator) into another, row by row.
     */
    void merge(
            MemorySegment state, long stateOffset, MemorySegment acc, long accOffset,
            MemorySegment otherState, long otherStateOffset, MemorySegment otherAcc, long otherAccOffset,
            int rows, int headSize);

    /** {@code out[r] = acc[r] / l[r]}; row r of {@code out} at {@code outOffset + r * outStride}. */
    void normalize(
            MemorySegment state, long stateOffset, MemorySegment acc, long accOffset, int rows, int headSize,
            MemorySegment out, long outOffset, long outStride);

    // ---- packed blocks ---------------------------------------------------------------------------------------------

    /**
     * Says what this thread's product after the next will read, so that the next {@link #packedScores} or
     * {@link #packedAccumulate} can fetch it into the cache while it computes. Changes no result. If the next one fails, it
     * is to be taken back: expect no bytes.
     */
    void expect(MemorySegment memory, long offset, long bytes);

    /**
     * As {@link #scores}, straight from a packed key block of {@code bits} bits: scale and zero point are folded into the
     * query ({@code q[c] * scale[c]} multiplies the codes, {@code sum q[c] * zero[c]} is added once).
     * {@code channels}, where not null, restricts the sum to the first {@code channelCount} channels listed there.
     *
     * <p>With 4 bits those products become integers as in {@link #indexScores}, each 64 channels with a unit of their own.
     *
     * @param refined for 4 bits only: the block holds the high nibbles of a progressive store, so scale and zero point
     *     are those of the 8-bit codes and are used as {@code 16 * scale} and {@code zero + 7.5 * scale}
     */
    void packedScores(
            MemorySegment block, long blockOffset, int bits, boolean refined, int headSize,
            int @Nullable [] channels, int channelCount,
            MemorySegment q, long qOffset, long qStride, int rows,
            MemorySegment s, long sOffset);

    /**
     * As {@link #accumulate}, straight from a packed value block; {@code refined} as in {@link #packedScores}, and with 4 bits
     * {@code p[t] * scale[t]} becomes integers as there, for each group of 64 channels.
     */
    void packedAccumulate(
            MemorySegment block, long blockOffset, int bits, boolean refined, int headSize,
            MemorySegment p, long pOffset, int rows, int tokens,
            MemorySegment acc, long accOffset);

    /**
     * Scores of some blocks of an index panel from some of their channels.
     *
     * <p>With 4 bits what multiplies the codes is rounded: the products of a query row and a block's scales become integers
     * {@code n}, multiples of {@code unit = sum |q[c] * scale[c]| / (4095 - channels / 2)}, which is rounded up to three
     * significant bits, and a score is
     * {@code unit * sum n[c] * (code[c] - 8) + sum q[c] * (zero[c] + 8 * scale[c])}. Such a sum of integers fits into 16 bits,
     * and the codes have lost some 25 times as much as rounding loses with 32 channels, 12 times with 64.
     *
     * @param from first block, counted within the panel
     * @param to end of the blocks, at most {@link BlockLayout#PANEL}
     * @param headSize channels that the panel holds; a query row has as many
     * @param channels channels of the panel that take part, of which the first {@code channelCount} count; null for all
     * @param s scores, {@code float[to - from][rows][64]} contiguous
     */
    void indexScores(
            MemorySegment panel, long panelOffset, int from, int to, int bits, int headSize,
            int @Nullable [] channels, int channelCount,
            MemorySegment q, long qOffset, long qStride, int rows,
            MemorySegment s, long sOffset);

    /**
     * Ranks of some blocks of an index panel, as {@link #rank} of the scores that {@link #indexScores} makes of the same
     * arguments; the scores themselves are not kept.
     *
     * @param logSums of each row, see {@link #logSums}
     * @param rank {@code float[to - from][64]}
     */
    void indexRanks(
            MemorySegment panel, long panelOffset, int from, int to, int bits, int headSize,
            int @Nullable [] channels, int channelCount,
            MemorySegment q, long qOffset, long qStride, int rows, float[] logSums,
            MemorySegment rank, long rankOffset);

    // ---- token records ---------------------------------------------------------------------------------------------

    /**
     * Brings token records into the cache, all of them at the same time, before {@link #recordScores} and
     * {@link #recordAccumulate} read one after the other. Changes no result.
     */
    void touchRecords(RecordList records);

    /**
     * As {@link #scores} for the keys of token records, wherever they lie: {@code s[r][t] = sum_c q[r][c] * k[t][c]} for
     * {@code t < count}; other scores are left as they are.
     *
     * @param s scores, {@code float[rows][64]} contiguous
     */
    void recordScores(
            RecordList records,
            MemorySegment q, long qOffset, long qStride, int rows,
            MemorySegment s, long sOffset);

    /**
     * As {@link #accumulate} for the values of token records: {@code acc[r][c] += sum_{t < count} p[r][t] * v[t][c]}.
     */
    void recordAccumulate(
            RecordList records,
            MemorySegment p, long pOffset, int rows,
            MemorySegment acc, long accOffset);

    // ---- building and reading blocks -------------------------------------------------------------------------------

    /** Quantizes a full key tile (64 tokens) into a packed key block of {@code bits} bits, per channel. */
    void quantizeKeys(MemorySegment tile, long tileOffset, int headSize, int bits, MemorySegment block,
            long blockOffset);

    /**
     * Quantizes channels of a full key tile into an index panel, as {@link #quantizeKeys} does into a block.
     *
     * @param headSize channels of the tile
     * @param channels channels that the panel holds, as many as it has; null for all
     * @param block block of the panel, counted within it
     */
    void quantizeIndex(MemorySegment tile, long tileOffset, int headSize, int @Nullable [] channels, int bits,
            MemorySegment panel, long panelOffset, int block);

    /** Quantizes a full value tile (64 tokens) into a packed value block of {@code bits} bits, per token. */
    void quantizeValues(MemorySegment tile, long tileOffset, int headSize, int bits, MemorySegment block,
            long blockOffset);

    /** Unpacks a packed key block into an F32 key tile. */
    void unpackKeys(
            MemorySegment block, long blockOffset, int bits, boolean refined, int headSize, MemorySegment tile,
            long tileOffset);

    /** Unpacks a packed value block into an F32 value tile. */
    void unpackValues(
            MemorySegment block, long blockOffset, int bits, boolean refined, int headSize, MemorySegment tile,
            long tileOffset);

    /**
     * Splits a full key tile into a progressive store: 8-bit codes per channel, high nibbles to the packed block
     * {@code hi}, low nibbles to one row per token, {@code rowBytes(4, headSize)} bytes at
     * {@code loOffset + t * loStride}.
     */
    void splitKeys(MemorySegment tile, long tileOffset, int headSize, MemorySegment hi, long hiOffset, MemorySegment lo,
            long loOffset, long loStride);

    /** As {@link #splitKeys} for values, quantized per token in groups of 64 channels. */
    void splitValues(MemorySegment tile, long tileOffset, int headSize, MemorySegment hi, long hiOffset,
            MemorySegment lo, long loOffset, long loStride);

    /** Joins the halves of a progressive key block into an F32 key tile. */
    void joinKeys(MemorySegment hi, long hiOffset, MemorySegment lo, long loOffset, long loStride, int headSize,
            MemorySegment tile, long tileOffset);

    /** Joins the halves of a progressive value block into an F32 value tile. */
    void joinValues(MemorySegment hi, long hiOffset, MemorySegment lo, long loOffset, long loStride, int headSize,
            MemorySegment tile, long tileOffset);

    /**
     * Gathers one token of a progressive key block into column {@code column} of an F32 key tile.
     *
     * @param token index of the token in the block, 0..63
     * @param lo the token's own low-nibble row
     */
    void gatherKey(MemorySegment hi, long hiOffset, int token, MemorySegment lo, long loOffset, int headSize,
            MemorySegment tile, long tileOffset, int column);

    /** Gathers one token of a progressive value block into row {@code row} of an F32 value tile. */
    void gatherValue(MemorySegment hi, long hiOffset, int token, MemorySegment lo, long loOffset, int headSize,
            MemorySegment tile, long tileOffset, int row);

    /** Writes the key of one token, {@code headSize} floats, into column {@code column} of an F32 key tile. */
    void putKey(MemorySegment key, long keyOffset, int headSize, MemorySegment tile, long tileOffset, int column);

    /**
     * Packs a key tile and a value tile into 64 token records, one after the other.
     *
     * @param keys key tile, {@code float[headSize][64]}; values {@code float[64][headSize]}
     * @param bits 4, 8 or 16
     */
    void packRecords(
            MemorySegment keys, long keysOffset, MemorySegment values, long valuesOffset, int headSize, int bits,
            MemorySegment rows, long records);

    /** Restores the tiles that {@link #packRecords} stored. */
    void loadRecords(
            MemorySegment rows, long records, int bits, int headSize,
            MemorySegment keys, long keysOffset, MemorySegment values, long valuesOffset);

    /** Converts {@code count} F32 to BF16, round to nearest even. */
    void toBFloat16(MemorySegment source, long sourceOffset, MemorySegment target, long targetOffset, int count);

    /** Converts {@code count} BF16 to F32. */
    void fromBFloat16(MemorySegment source, long sourceOffset, MemorySegment target, long targetOffset, int count);

    // ---- selection -------------------------------------------------------------------------------------------------

    /**
     * Adds the exponentials of a stretch of scores to a running log-sum-exp: as {@link #softmaxStep}'s state, without
     * replacing the scores. Scores are taken as already scaled and capped.
     */
    void logSumExpStep(MemorySegment s, long sOffset, int count, MemorySegment state, long stateOffset);

    /** Scales and soft-caps {@code count} scores in place. */
    void scaleScores(MemorySegment s, long sOffset, int count, float scale, float softCap);

    /**
     * The logarithm of the sum of the exponentials of each row of scores. It may be off by 0.04, for such sums only weigh the
     * heads of a group against each other: all ranks that come from one head are then off by the same number.
     *
     * @param s scores, scaled and capped, {@code float[blocks][rows][64]}
     * @param blocks at least 1
     * @param weight how often each block counts but the first, which counts once: more than 1 if they stand for others
     * @param logSums receives a number a row
     */
    void logSums(MemorySegment s, long sOffset, int blocks, int rows, float weight, float[] logSums);

    /**
     * One rank a token from the scores of a head group: the logarithm of its largest share in any head,
     * {@code rank[b][t] = max_r (s[b][r][t] - logSums[r])}.
     *
     * @param s scores, scaled and capped, {@code float[blocks][rows][64]}
     * @param rank {@code float[blocks][64]}
     */
    void rank(
            MemorySegment s, long sOffset, int blocks, int rows, float[] logSums, MemorySegment rank, long rankOffset);

    /**
     * The largest ranks of stretches of tokens: of the sixteen that {@code stretch} blocks fall into, each those whose
     * position, modulo 16, is its column.
     *
     * @param rank {@code float[blocks][64]}
     * @param maxima {@code float[ceil(blocks / stretch)][16]}
     */
    void stretchMaxima(MemorySegment rank, long rankOffset, int blocks, int stretch, float[] maxima);

    /** Largest of {@code count} floats; {@code -Infinity} for none. */
    float max(MemorySegment s, long sOffset, int count);

    /**
     * Appends {@code first + i} for all i in {@code [0, count)} with {@code s[i] >= threshold}, ascending, and these numbers
     * themselves.
     *
     * @param positions of which {@code next} are there already, with room for {@code count} more, whose rest may be changed;
     *     {@code values} likewise
     * @return how many there are then
     */
    int atLeast(
            MemorySegment s, long sOffset, int count, float threshold, int first, int[] positions, float[] values,
            int next);

    /**
     * A threshold that parts the largest values from the others: at least {@code k} of them reach it and at most
     * {@code most}, or, where equal values forbid that, it is the k-th largest value.
     *
     * @param values of which the first {@code count} are meant; not a number counts as the smallest
     * @param k from 1 to {@code count}
     * @param most at least {@code k}; the more it is, the sooner a threshold is found
     */
    float threshold(float[] values, int count, int k, int most);

    /**
     * Keeps the positions of the {@code k} largest values, which move to the front in the order that they have; of equal
     * ones those that come first.
     *
     * @param values numbers, of which the first {@code count} are meant
     * @param positions of the values; after those that are kept, its contents are lost
     * @return how many are kept, {@code k} or all
     */
    int keepLargest(float[] values, int[] positions, int count, int k);

    // ---- positions -------------------------------------------------------------------------------------------------

    /**
     * Rotary position embedding in place on {@code heads} heads of one token: pairs (i, i + headSize/2).
     *
     * @param table cosines then sines of the position, {@code float[2][headSize/2]}
     */
    void rotate(MemorySegment x, long xOffset, int heads, int headSize, MemorySegment table, long tableOffset);
}
