package io.github.tailorkv.kernels;

import static io.github.tailorkv.kernels.BlockLayout.BLOCK;
import static io.github.tailorkv.kernels.BlockLayout.FLOAT;
import static io.github.tailorkv.kernels.BlockLayout.GROUP;
import static io.github.tailorkv.kernels.BlockLayout.HALF;
import static io.github.tailorkv.kernels.BlockLayout.codeByte;
import static io.github.tailorkv.kernels.BlockLayout.codeShift;
import static io.github.tailorkv.kernels.BlockLayout.groups;
import static io.github.tailorkv.kernels.BlockLayout.keyScales;
import static io.github.tailorkv.kernels.BlockLayout.keyZeros;
import static io.github.tailorkv.kernels.BlockLayout.maxCode;
import static io.github.tailorkv.kernels.BlockLayout.PANEL;
import static io.github.tailorkv.kernels.BlockLayout.panelScales;
import static io.github.tailorkv.kernels.BlockLayout.panelStride;
import static io.github.tailorkv.kernels.BlockLayout.panelZeros;
import static io.github.tailorkv.kernels.BlockLayout.recordBytes;
import static io.github.tailorkv.kernels.BlockLayout.recordCodes;
import static io.github.tailorkv.kernels.BlockLayout.recordParameters;
import static io.github.tailorkv.kernels.BlockLayout.rowBytes;
import static io.github.tailorkv.kernels.BlockLayout.valueScales;
import static io.github.tailorkv.kernels.BlockLayout.valueZeros;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.function.IntUnaryOperator;
import java.util.stream.IntStream;

import org.jspecify.annotations.Nullable;

/**
 * The operations of attention, one number at a time: the definition that the other implementations are tested against,
 * and what runs where the Vector API is absent.
 *
 * <p>Everything is an instance of few formulas. Attention of a query q over tokens t is {@code sum_t w_t v_t / sum_t w_t}
 * with {@code w_t = exp(score_t - m)}; m is any number, in practice the largest score so far. When a later block raises m
 * to m', everything summed until then is multiplied by {@code exp(m - m')} (the online softmax of Milakov and
 * Gimelshein, 2018). Quantization is uniform, asymmetric, from minimum to maximum of a group: the zero point z is the
 * minimum, {@code s = (max - z) / (2^bits - 1)}, {@code code = round((x - z) / s)}. z is rounded down and s up to f16
 * <em>before</em> codes are computed; see {@link Float16}. An element that is not a number is left out of the minimum and
 * maximum and takes code 0.
 */
public final class ScalarAttentionKernels implements AttentionKernels {

    private static final ValueLayout.OfFloat F32 = ValueLayout.JAVA_FLOAT_UNALIGNED;
    private static final ValueLayout.OfShort F16 = ValueLayout.JAVA_SHORT_UNALIGNED;
    private static final ValueLayout.OfByte BYTE = ValueLayout.JAVA_BYTE;

    @Override
    public String name() {
        return "scalar";
    }

    // ---- F32 tiles

    @Override
    public void scores(
            MemorySegment k, long kOffset, int headSize,
            MemorySegment q, long qOffset, long qStride, int rows,
            MemorySegment s, long sOffset) {
        for (int r = 0; r < rows; r++) {
            long query = qOffset + r * qStride;
            for (int t = 0; t < BLOCK; t++) {
                float sum = 0;
                for (int c = 0; c < headSize; c++) {
                    sum += q.get(F32, at(query, c)) * k.get(F32, at(kOffset, c * BLOCK + t));
                }
                s.set(F32, at(sOffset, r * BLOCK + t), sum);
            }
        }
    }

    @Override
    public void accumulate(
            MemorySegment v, long vOffset, int headSize,
            MemorySegment p, long pOffset, int rows, int tokens,
            MemorySegment acc, long accOffset) {
        for (int r = 0; r < rows; r++) {
            for (int t = 0; t < tokens; t++) {
                float weight = p.get(F32, at(pOffset, r * BLOCK + t));
                for (int c = 0; c < headSize; c++) {
                    add(acc, at(accOffset, r * headSize + c), weight * v.get(F32, at(vOffset, t * headSize + c)));
                }
            }
        }
    }

    @Override
    public void softmaxStep(
            MemorySegment s, long sOffset, int rows, int tokens, int valid, int rowsPerToken,
            float scale, float softCap,
            MemorySegment state, long stateOffset,
            MemorySegment acc, long accOffset, int headSize) {
        for (int r = 0; r < rows; r++) {
            long scores = at(sOffset, r * BLOCK);
            int visible = Math.clamp((long) valid + r / rowsPerToken, 0, tokens);
            scaleScores(s, scores, visible, scale, softCap);

            float maximum = state.get(F32, at(stateOffset, 2 * r));
            float newMaximum = Math.max(maximum, max(s, scores, visible));
            float shift = finite(newMaximum);
            float correction = newMaximum == maximum ? 1 : exp(maximum - shift);
            float sum = correction * state.get(F32, at(stateOffset, 2 * r + 1));
            for (int t = 0; t < BLOCK; t++) {
                float weight = t < visible ? exp(s.get(F32, at(scores, t)) - shift) : 0;
                s.set(F32, at(scores, t), weight);
                sum += weight;
            }
            state.set(F32, at(stateOffset, 2 * r), newMaximum);
            state.set(F32, at(stateOffset, 2 * r + 1), sum);
            for (int c = 0; c < headSize; c++) {
                long element = at(accOffset, r * headSize + c);
                acc.set(F32, element, correction * acc.get(F32, element));
            }
        }
    }

    @Override
    public void merge(
            MemorySegment state, long stateOffset, MemorySegment acc, long accOffset,
            MemorySegment otherState, long otherStateOffset, MemorySegment otherAcc, long otherAccOffset,
            int rows, int headSize) {
        for (int r = 0; r < rows; r++) {
            float maximum = state.get(F32, at(stateOffset, 2 * r));
            float otherMaximum = otherState.get(F32, at(otherStateOffset, 2 * r));
            float newMaximum = Math.max(maximum, otherMaximum);
            float mine = exp(maximum - finite(newMaximum));
            float theirs = exp(otherMaximum - finite(newMaximum));
            state.set(F32, at(stateOffset, 2 * r), newMaximum);
            state.set(F32, at(stateOffset, 2 * r + 1), mine * state.get(F32, at(stateOffset, 2 * r + 1))
                    + theirs * otherState.get(F32, at(otherStateOffset, 2 * r + 1)));
            for (int c = 0; c < headSize; c++) {
                long element = at(accOffset, r * headSize + c);
                float other = otherAcc.get(F32, at(otherAccOffset, r * headSize + c));
                acc.set(F32, element, mine * acc.get(F32, element) + theirs * other);
            }
        }
    }

    @Override
    public void normalize(
            MemorySegment state, long stateOffset, MemorySegment acc, long accOffset, int rows, int headSize,
            MemorySegment out, long outOffset, long outStride) {
        for (int r = 0; r < rows; r++) {
            float sum = state.get(F32, at(stateOffset, 2 * r + 1));
            float inverse = sum == 0 ? 0 : 1 / sum;
            for (int c = 0; c < headSize; c++) {
                out.set(F32, at(outOffset + r * outStride, c), inverse * acc.get(F32, at(accOffset, r * headSize + c)));
            }
        }
    }

    // ---- packed blocks

    @Override
    public void expect(MemorySegment memory, long offset, long bytes) {
        // Nothing here is fast enough to wait for memory.
    }

    @Override
    public void packedScores(
            MemorySegment block, long blockOffset, int bits, boolean refined, int headSize,
            int @Nullable [] channels, int channelCount,
            MemorySegment q, long qOffset, long qStride, int rows,
            MemorySegment s, long sOffset) {
        int[] taken = channels == null ? IntStream.range(0, headSize).toArray() : Arrays.copyOf(channels, channelCount);
        for (int r = 0; r < rows; r++) {
            long query = qOffset + r * qStride;
            if (bits == 4) {
                NibbleSum sum = new NibbleSum(taken.length, PackedNibbles.DEPTH);
                for (int c : taken) {
                    sum.add(
                            q.get(F32, at(query, c)), half(block, blockOffset + keyScales(4, headSize), c),
                            half(block, blockOffset + keyZeros(4, headSize), c), refined);
                }
                sum.round();
                for (int t = 0; t < BLOCK; t++) {
                    int token = t;
                    s.set(F32, at(sOffset, r * BLOCK + t),
                            sum.times(i -> code(block, blockOffset + (long) taken[i] * rowBytes(4, BLOCK), 4, token)));
                }
                continue;
            }
            for (int t = 0; t < BLOCK; t++) {
                float sum = 0;
                for (int c : taken) {
                    sum += q.get(F32, at(query, c)) * packedKey(block, blockOffset, bits, refined, headSize, c, t);
                }
                s.set(F32, at(sOffset, r * BLOCK + t), sum);
            }
        }
    }

    @Override
    public void packedAccumulate(
            MemorySegment block, long blockOffset, int bits, boolean refined, int headSize,
            MemorySegment p, long pOffset, int rows, int tokens,
            MemorySegment acc, long accOffset) {
        if (bits == 4) {
            for (int r = 0; r < rows; r++) {
                for (int group = 0; group < groups(headSize); group++) {
                    accumulateNibbles(block, blockOffset, refined, headSize, group, p, at(pOffset, r * BLOCK), tokens,
                            acc, at(accOffset, r * headSize));
                }
            }
            return;
        }
        for (int t = 0; t < tokens; t++) {
            for (int c = 0; c < headSize; c++) {
                float value = packedValue(block, blockOffset, bits, refined, headSize, t, c);
                for (int r = 0; r < rows; r++) {
                    add(acc, at(accOffset, r * headSize + c), value * p.get(F32, at(pOffset, r * BLOCK + t)));
                }
            }
        }
    }

    private static void accumulateNibbles(
            MemorySegment block, long offset, boolean refined, int headSize, int group,
            MemorySegment p, long pOffset, int tokens, MemorySegment acc, long accOffset) {
        NibbleSum sum = new NibbleSum(tokens, PackedNibbles.DEPTH);
        for (int t = 0; t < tokens; t++) {
            int field = t * groups(headSize) + group;
            sum.add(
                    p.get(F32, at(pOffset, t)), half(block, offset + valueScales(4, headSize), field),
                    half(block, offset + valueZeros(4, headSize), field), refined);
        }
        sum.round();
        for (int c = group * GROUP; c < Math.min(headSize, (group + 1) * GROUP); c++) {
            int channel = c;
            add(acc, at(accOffset, c),
                    sum.times(t -> code(block, offset + (long) t * rowBytes(4, headSize), 4, channel)));
        }
    }

    /**
     * A sum of products with codes of 4 bits, whose other factors are rounded: see {@link AttentionKernels#indexScores}. All
     * factors are added, then rounded, then multiplied by as many rows of codes as there are.
     */
    private static final class NibbleSum {
        private final float[] factors;
        private final int[] rounded;
        private final float[] units;
        private final int together;
        private int count;
        private float bias;

        /** @param together factors that share a unit */
        NibbleSum(int most, int together) {
            factors = new float[most];
            rounded = new int[most];
            units = new float[most];
            this.together = together;
        }

        void add(float x, float scale, float zero, boolean refined) {
            float a = x * (refined ? 16 * scale : scale);
            factors[count++] = a;
            bias += x * (refined ? zero + 7.5f * scale : zero) + 8 * a;
        }

        void round() {
            for (int from = 0; from < count; from += together) {
                int to = Math.min(count, from + together);
                float size = 0;
                for (int i = from; i < to; i++) {
                    size += Math.abs(factors[i]);
                }
                float unit = NibbleProduct.unit(size, to - from);
                units[from] = unit;
                for (int i = from; i < to; i++) {
                    rounded[i] = (int) Math.rint((double) factors[i] * (1 / unit));
                }
            }
        }

        float times(IntUnaryOperator codes) {
            float result = bias;
            for (int from = 0; from < count; from += together) {
                int sum = 0;
                for (int i = from; i < Math.min(count, from + together); i++) {
                    sum += rounded[i] * (codes.applyAsInt(i) - 8);
                }
                result += units[from] * sum;
            }
            return result;
        }
    }

    private static float packedKey(
            MemorySegment block, long offset, int bits, boolean refined, int headSize, int channel, int token) {
        float scale = half(block, offset + keyScales(bits, headSize), channel);
        float zero = half(block, offset + keyZeros(bits, headSize), channel);
        int code = code(block, offset + (long) channel * rowBytes(bits, BLOCK), bits, token);
        return dequantize(code, scale, zero, refined);
    }

    private static float packedValue(
            MemorySegment block, long offset, int bits, boolean refined, int headSize, int token, int channel) {
        int group = token * groups(headSize) + channel / GROUP;
        float scale = half(block, offset + valueScales(bits, headSize), group);
        float zero = half(block, offset + valueZeros(bits, headSize), group);
        int code = code(block, offset + (long) token * rowBytes(bits, headSize), bits, channel);
        return dequantize(code, scale, zero, refined);
    }

    private static float dequantize(int code, float scale, float zero, boolean refined) {
        return refined ? zero + 7.5f * scale + 16 * scale * code : zero + scale * code;
    }

    @Override
    public void indexScores(
            MemorySegment panel, long panelOffset, int from, int to, int bits, int headSize,
            int @Nullable [] channels, int channelCount,
            MemorySegment q, long qOffset, long qStride, int rows,
            MemorySegment s, long sOffset) {
        int[] taken = channels == null ? IntStream.range(0, headSize).toArray() : Arrays.copyOf(channels, channelCount);
        for (int block = from; block < to; block++) {
            for (int r = 0; r < rows; r++) {
                long query = qOffset + r * qStride;
                long target = at(sOffset, ((block - from) * rows + r) * BLOCK);
                if (bits == 4) {
                    nibbleScores(panel, panelOffset, block, headSize, taken, q, query, s, target);
                } else {
                    floatScores(panel, panelOffset, block, bits, headSize, taken, q, query, s, target);
                }
            }
        }
    }

    private static void floatScores(
            MemorySegment panel, long panelOffset, int block, int bits, int headSize, int[] channels,
            MemorySegment q, long qOffset, MemorySegment s, long sOffset) {
        for (int t = 0; t < BLOCK; t++) {
            float sum = 0;
            for (int c : channels) {
                float scale = half(panel, panelOffset + panelScales(bits, headSize), c * PANEL + block);
                float zero = half(panel, panelOffset + panelZeros(bits, headSize), c * PANEL + block);
                long row = panelOffset + (long) c * panelStride(bits) + (long) block * rowBytes(bits, BLOCK);
                sum += q.get(F32, at(qOffset, c)) * dequantize(code(panel, row, bits, t), scale, zero, false);
            }
            s.set(F32, at(sOffset, t), sum);
        }
    }

    private static void nibbleScores(
            MemorySegment panel, long panelOffset, int block, int headSize, int[] channels,
            MemorySegment q, long qOffset, MemorySegment s, long sOffset) {
        NibbleSum sum = new NibbleSum(channels.length, channels.length);
        for (int c : channels) {
            sum.add(
                    q.get(F32, at(qOffset, c)), half(panel, panelOffset + panelScales(4, headSize), c * PANEL + block),
                    half(panel, panelOffset + panelZeros(4, headSize), c * PANEL + block), false);
        }
        sum.round();
        long codes = panelOffset + (long) block * rowBytes(4, BLOCK);
        for (int t = 0; t < BLOCK; t++) {
            int token = t;
            s.set(F32, at(sOffset, t),
                    sum.times(i -> code(panel, codes + (long) channels[i] * panelStride(4), 4, token)));
        }
    }

    @Override
    public void indexRanks(
            MemorySegment panel, long panelOffset, int from, int to, int bits, int headSize,
            int @Nullable [] channels, int channelCount,
            MemorySegment q, long qOffset, long qStride, int rows, float[] logSums,
            MemorySegment rank, long rankOffset) {
        int count = to - from;
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment s = arena.allocate((long) count * rows * BLOCK * FLOAT, FLOAT);
            indexScores(
                    panel, panelOffset, from, to, bits, headSize, channels, channelCount, q, qOffset, qStride, rows, s,
                    0);
            rank(s, 0, count, rows, logSums, rank, rankOffset);
        }
    }

    // ---- building and reading blocks

    @Override
    public void quantizeKeys(
            MemorySegment tile, long tileOffset, int headSize, int bits, MemorySegment block, long blockOffset) {
        quantizeKeys(
                tile, tileOffset, null, headSize, bits, block, blockOffset, rowBytes(bits, BLOCK),
                blockOffset + keyScales(bits, headSize), blockOffset + keyZeros(bits, headSize), 1);
    }

    @Override
    public void quantizeIndex(
            MemorySegment tile, long tileOffset, int headSize, int @Nullable [] channels, int bits,
            MemorySegment panel, long panelOffset, int block) {
        int count = channels == null ? headSize : channels.length;
        quantizeKeys(
                tile, tileOffset, channels, count, bits, panel, panelOffset + (long) block * rowBytes(bits, BLOCK),
                panelStride(bits), panelOffset + panelScales(bits, count) + (long) block * HALF,
                panelOffset + panelZeros(bits, count) + (long) block * HALF, PANEL);
    }

    /** Codes of a channel lie {@code rowStride} bytes from those of the one before, its fields {@code fieldStride} fields. */
    private static void quantizeKeys(
            MemorySegment tile, long tileOffset, int @Nullable [] channels, int count, int bits, MemorySegment target,
            long rows, long rowStride, long scales, long zeros, int fieldStride) {
        int rowBytes = rowBytes(bits, BLOCK);
        for (int i = 0; i < count; i++) {
            int c = channels == null ? i : channels[i];
            long row = rows + i * rowStride;
            target.asSlice(row, rowBytes).fill((byte) 0);
            long elements = at(tileOffset, c * BLOCK);
            float zero = zeroPoint(tile, elements, BLOCK);
            float scale = scale(tile, elements, BLOCK, zero, bits);
            setHalf(target, scales, i * fieldStride, scale);
            setHalf(target, zeros, i * fieldStride, zero);
            for (int t = 0; t < BLOCK; t++) {
                orCode(target, row, bits, t, quantize(tile.get(F32, at(elements, t)), scale, zero, bits));
            }
        }
    }

    @Override
    public void quantizeValues(
            MemorySegment tile, long tileOffset, int headSize, int bits, MemorySegment block, long blockOffset) {
        int rowBytes = rowBytes(bits, headSize);
        block.asSlice(blockOffset, (long) BLOCK * rowBytes).fill((byte) 0);
        for (int t = 0; t < BLOCK; t++) {
            long row = blockOffset + (long) t * rowBytes;
            for (int first = 0; first < headSize; first += GROUP) {
                int group = t * groups(headSize) + first / GROUP;
                int count = Math.min(GROUP, headSize - first);
                long elements = at(tileOffset, t * headSize + first);
                float zero = zeroPoint(tile, elements, count);
                float scale = scale(tile, elements, count, zero, bits);
                setHalf(block, blockOffset + valueScales(bits, headSize), group, scale);
                setHalf(block, blockOffset + valueZeros(bits, headSize), group, zero);
                for (int i = 0; i < count; i++) {
                    orCode(block, row, bits, first + i, quantize(tile.get(F32, at(elements, i)), scale, zero, bits));
                }
            }
        }
    }

    /** The largest half that is not above any of the numbers; 0 if there are none. */
    private static float zeroPoint(MemorySegment x, long offset, int count) {
        float minimum = Float.POSITIVE_INFINITY;
        for (int i = 0; i < count; i++) {
            float value = x.get(F32, at(offset, i));
            minimum = value < minimum ? value : minimum;
        }
        return zeroPoint(minimum);
    }

    /** Half-precision zero point of a group with this minimum, {@code +Infinity} where it has no number. */
    static float zeroPoint(float minimum) {
        // + 0 turns -0 into 0: which of the two is the minimum would depend on the order of elements.
        return minimum == Float.POSITIVE_INFINITY ? 0 : Float.float16ToFloat(Float16.floor(minimum)) + 0f;
    }

    private static float scale(MemorySegment x, long offset, int count, float zero, int bits) {
        float maximum = Float.NEGATIVE_INFINITY;
        for (int i = 0; i < count; i++) {
            float value = x.get(F32, at(offset, i));
            maximum = value > maximum ? value : maximum;
        }
        return scale(maximum, zero, bits);
    }

    /** Half-precision scale of a group with this maximum, {@code -Infinity} where it has no number. */
    static float scale(float maximum, float zero, int bits) {
        return maximum > zero ? Float.float16ToFloat(Float16.ceil((maximum - zero) / maxCode(bits))) : 0;
    }

    private static int quantize(float x, float scale, float zero, int bits) {
        if (scale == 0) {
            return 0;
        }
        // Not Math.round, and no division: exactly what a vector of lanes computes. A cast takes NaN to 0.
        float code = (x - zero) * (1 / scale) + 0.5f;
        return Math.clamp((int) code, 0, maxCode(bits));
    }

    @Override
    public void unpackKeys(
            MemorySegment block, long blockOffset, int bits, boolean refined, int headSize,
            MemorySegment tile, long tileOffset) {
        for (int c = 0; c < headSize; c++) {
            for (int t = 0; t < BLOCK; t++) {
                float value = packedKey(block, blockOffset, bits, refined, headSize, c, t);
                tile.set(F32, at(tileOffset, c * BLOCK + t), value);
            }
        }
    }

    @Override
    public void unpackValues(
            MemorySegment block, long blockOffset, int bits, boolean refined, int headSize,
            MemorySegment tile, long tileOffset) {
        for (int t = 0; t < BLOCK; t++) {
            for (int c = 0; c < headSize; c++) {
                float value = packedValue(block, blockOffset, bits, refined, headSize, t, c);
                tile.set(F32, at(tileOffset, t * headSize + c), value);
            }
        }
    }

    @Override
    public void splitKeys(
            MemorySegment tile, long tileOffset, int headSize,
            MemorySegment hi, long hiOffset, MemorySegment lo, long loOffset, long loStride) {
        int hiRowBytes = rowBytes(4, BLOCK);
        hi.asSlice(hiOffset, (long) headSize * hiRowBytes).fill((byte) 0);
        for (int t = 0; t < BLOCK; t++) {
            lo.asSlice(loOffset + t * loStride, rowBytes(4, headSize)).fill((byte) 0);
        }
        for (int c = 0; c < headSize; c++) {
            long elements = at(tileOffset, c * BLOCK);
            float zero = zeroPoint(tile, elements, BLOCK);
            float scale = scale(tile, elements, BLOCK, zero, 8);
            setHalf(hi, hiOffset + keyScales(4, headSize), c, scale);
            setHalf(hi, hiOffset + keyZeros(4, headSize), c, zero);
            for (int t = 0; t < BLOCK; t++) {
                int code = quantize(tile.get(F32, at(elements, t)), scale, zero, 8);
                orCode(hi, hiOffset + (long) c * hiRowBytes, 4, t, code >> 4);
                orCode(lo, loOffset + t * loStride, 4, c, code & 15);
            }
        }
    }

    @Override
    public void splitValues(
            MemorySegment tile, long tileOffset, int headSize,
            MemorySegment hi, long hiOffset, MemorySegment lo, long loOffset, long loStride) {
        int rowBytes = rowBytes(4, headSize);
        hi.asSlice(hiOffset, (long) BLOCK * rowBytes).fill((byte) 0);
        for (int t = 0; t < BLOCK; t++) {
            lo.asSlice(loOffset + t * loStride, rowBytes).fill((byte) 0);
            for (int first = 0; first < headSize; first += GROUP) {
                int group = t * groups(headSize) + first / GROUP;
                int count = Math.min(GROUP, headSize - first);
                long elements = at(tileOffset, t * headSize + first);
                float zero = zeroPoint(tile, elements, count);
                float scale = scale(tile, elements, count, zero, 8);
                setHalf(hi, hiOffset + valueScales(4, headSize), group, scale);
                setHalf(hi, hiOffset + valueZeros(4, headSize), group, zero);
                for (int i = 0; i < count; i++) {
                    int code = quantize(tile.get(F32, at(elements, i)), scale, zero, 8);
                    orCode(hi, hiOffset + (long) t * rowBytes, 4, first + i, code >> 4);
                    orCode(lo, loOffset + t * loStride, 4, first + i, code & 15);
                }
            }
        }
    }

    @Override
    public void joinKeys(
            MemorySegment hi, long hiOffset, MemorySegment lo, long loOffset, long loStride, int headSize,
            MemorySegment tile, long tileOffset) {
        for (int t = 0; t < BLOCK; t++) {
            gatherKey(hi, hiOffset, t, lo, loOffset + t * loStride, headSize, tile, tileOffset, t);
        }
    }

    @Override
    public void joinValues(
            MemorySegment hi, long hiOffset, MemorySegment lo, long loOffset, long loStride, int headSize,
            MemorySegment tile, long tileOffset) {
        for (int t = 0; t < BLOCK; t++) {
            gatherValue(hi, hiOffset, t, lo, loOffset + t * loStride, headSize, tile, tileOffset, t);
        }
    }

    @Override
    public void gatherKey(
            MemorySegment hi, long hiOffset, int token, MemorySegment lo, long loOffset, int headSize,
            MemorySegment tile, long tileOffset, int column) {
        for (int c = 0; c < headSize; c++) {
            float scale = half(hi, hiOffset + keyScales(4, headSize), c);
            float zero = half(hi, hiOffset + keyZeros(4, headSize), c);
            int high = code(hi, hiOffset + (long) c * rowBytes(4, BLOCK), 4, token);
            int low = code(lo, loOffset, 4, c);
            tile.set(F32, at(tileOffset, c * BLOCK + column), zero + scale * (16 * high + low));
        }
    }

    @Override
    public void gatherValue(
            MemorySegment hi, long hiOffset, int token, MemorySegment lo, long loOffset, int headSize,
            MemorySegment tile, long tileOffset, int row) {
        for (int c = 0; c < headSize; c++) {
            int group = token * groups(headSize) + c / GROUP;
            float scale = half(hi, hiOffset + valueScales(4, headSize), group);
            float zero = half(hi, hiOffset + valueZeros(4, headSize), group);
            int high = code(hi, hiOffset + (long) token * rowBytes(4, headSize), 4, c);
            int low = code(lo, loOffset, 4, c);
            tile.set(F32, at(tileOffset, row * headSize + c), zero + scale * (16 * high + low));
        }
    }

    @Override
    public void putKey(
            MemorySegment key, long keyOffset, int headSize, MemorySegment tile, long tileOffset, int column) {
        for (int c = 0; c < headSize; c++) {
            tile.set(F32, at(tileOffset, c * BLOCK + column), key.get(F32, at(keyOffset, c)));
        }
    }

    @Override
    public void packRecords(
            MemorySegment keys, long keysOffset, MemorySegment values, long valuesOffset, int headSize, int bits,
            MemorySegment rows, long records) {
        int codes = recordCodes(bits, headSize);
        int parameters = recordParameters(bits, headSize);
        MemorySegment key = MemorySegment.ofArray(new float[headSize]);
        for (int t = 0; t < BLOCK; t++) {
            for (int c = 0; c < headSize; c++) {
                key.set(F32, at(0, c), keys.get(F32, at(keysOffset, c * BLOCK + t)));
            }
            long record = records + (long) t * recordBytes(bits, headSize);
            long fields = record + 2L * codes;
            packRow(key, 0, headSize, bits, rows, record, fields);
            packRow(values, at(valuesOffset, t * headSize), headSize, bits, rows, record + codes, fields + parameters);
        }
    }

    private void packRow(
            MemorySegment x, long xOffset, int headSize, int bits, MemorySegment row, long codes, long parameters) {
        if (bits == 16) {
            toBFloat16(x, xOffset, row, codes, headSize);
            return;
        }
        row.asSlice(codes, rowBytes(bits, headSize)).fill((byte) 0);
        int groups = groups(headSize);
        for (int group = 0; group < groups; group++) {
            int first = group * GROUP;
            int count = Math.min(GROUP, headSize - first);
            long elements = at(xOffset, first);
            float zero = zeroPoint(x, elements, count);
            float scale = scale(x, elements, count, zero, bits);
            setHalf(row, parameters, group, scale);
            setHalf(row, parameters, groups + group, zero);
            for (int i = 0; i < count; i++) {
                orCode(row, codes, bits, first + i, quantize(x.get(F32, at(elements, i)), scale, zero, bits));
            }
        }
    }

    @Override
    public void loadRecords(
            MemorySegment rows, long records, int bits, int headSize,
            MemorySegment keys, long keysOffset, MemorySegment values, long valuesOffset) {
        int codes = recordCodes(bits, headSize);
        MemorySegment key = MemorySegment.ofArray(new float[headSize]);
        for (int t = 0; t < BLOCK; t++) {
            long record = records + (long) t * recordBytes(bits, headSize);
            long fields = record + 2L * codes;
            unpackRow(rows, record, fields, bits, headSize, key, 0);
            putKey(key, 0, headSize, keys, keysOffset, t);
            unpackRow(rows, record + codes, fields + recordParameters(bits, headSize), bits, headSize, values,
                    at(valuesOffset, t * headSize));
        }
    }

    @Override
    public void touchRecords(RecordList records) {
        // One number at a time, the processor has time enough to fetch them.
    }

    @Override
    public void recordScores(
            RecordList records,
            MemorySegment q, long qOffset, long qStride, int rows,
            MemorySegment s, long sOffset) {
        int headSize = records.headSize();
        int codes = recordCodes(records.bits(), headSize);
        MemorySegment key = MemorySegment.ofArray(new float[headSize]);
        for (int t = 0; t < records.count(); t++) {
            long record = records.addresses[t];
            unpackRow(NativeMemory.ALL, record, record + 2L * codes, records.bits(), headSize, key, 0);
            for (int r = 0; r < rows; r++) {
                float sum = 0;
                for (int c = 0; c < headSize; c++) {
                    sum += q.get(F32, at(qOffset + r * qStride, c)) * key.get(F32, at(0, c));
                }
                s.set(F32, at(sOffset, r * BLOCK + t), sum);
            }
        }
    }

    @Override
    public void recordAccumulate(
            RecordList records,
            MemorySegment p, long pOffset, int rows,
            MemorySegment acc, long accOffset) {
        int headSize = records.headSize();
        int codes = recordCodes(records.bits(), headSize);
        int parameters = recordParameters(records.bits(), headSize);
        MemorySegment value = MemorySegment.ofArray(new float[headSize]);
        for (int t = 0; t < records.count(); t++) {
            long record = records.addresses[t];
            long fields = record + 2L * codes + parameters;
            unpackRow(NativeMemory.ALL, record + codes, fields, records.bits(), headSize, value, 0);
            for (int r = 0; r < rows; r++) {
                float weight = p.get(F32, at(pOffset, r * BLOCK + t));
                for (int c = 0; c < headSize; c++) {
                    add(acc, at(accOffset, r * headSize + c), weight * value.get(F32, at(0, c)));
                }
            }
        }
    }

    private void unpackRow(
            MemorySegment row, long codes, long parameters, int bits, int headSize, MemorySegment x, long xOffset) {
        if (bits == 16) {
            fromBFloat16(row, codes, x, xOffset, headSize);
            return;
        }
        int groups = groups(headSize);
        for (int c = 0; c < headSize; c++) {
            float scale = half(row, parameters, c / GROUP);
            float zero = half(row, parameters, groups + c / GROUP);
            x.set(F32, at(xOffset, c), dequantize(code(row, codes, bits, c), scale, zero, false));
        }
    }

    @Override
    public void toBFloat16(MemorySegment source, long sourceOffset, MemorySegment target, long targetOffset,
            int count) {
        for (int i = 0; i < count; i++) {
            float x = source.get(F32, at(sourceOffset, i));
            int word = Float.floatToRawIntBits(x);
            // Adding just under half of the last kept bit rounds to nearest; the odd bit breaks ties to even.
            int rounded = word + 0x7fff + ((word >>> 16) & 1);
            int quiet = word | 0x400000;
            target.set(F16, targetOffset + (long) i * HALF, (short) ((Float.isNaN(x) ? quiet : rounded) >>> 16));
        }
    }

    @Override
    public void fromBFloat16(
            MemorySegment source, long sourceOffset, MemorySegment target, long targetOffset, int count) {
        for (int i = 0; i < count; i++) {
            int word = source.get(F16, sourceOffset + (long) i * HALF) << 16;
            target.set(F32, at(targetOffset, i), Float.intBitsToFloat(word));
        }
    }

    // ---- selection

    @Override
    public void logSumExpStep(MemorySegment s, long sOffset, int count, MemorySegment state, long stateOffset) {
        float maximum = state.get(F32, stateOffset);
        float newMaximum = Math.max(maximum, max(s, sOffset, count));
        float shift = finite(newMaximum);
        float sum = exp(maximum - shift) * state.get(F32, at(stateOffset, 1));
        for (int i = 0; i < count; i++) {
            sum += exp(s.get(F32, at(sOffset, i)) - shift);
        }
        state.set(F32, stateOffset, newMaximum);
        state.set(F32, at(stateOffset, 1), sum);
    }

    @Override
    public void scaleScores(MemorySegment s, long sOffset, int count, float scale, float softCap) {
        for (int i = 0; i < count; i++) {
            float x = scale * s.get(F32, at(sOffset, i));
            s.set(F32, at(sOffset, i), softCap > 0 ? softCap * (float) Math.tanh(x / softCap) : x);
        }
    }

    @Override
    public void logSums(MemorySegment s, long sOffset, int blocks, int rows, float weight, float[] logSums) {
        for (int r = 0; r < rows; r++) {
            float maximum = Float.NEGATIVE_INFINITY;
            for (int b = 0; b < blocks; b++) {
                maximum = Math.max(maximum, max(s, at(sOffset, (b * rows + r) * BLOCK), BLOCK));
            }
            float shift = maximum == Float.NEGATIVE_INFINITY ? 0 : maximum;
            float sum = 0;
            for (int b = 0; b < blocks; b++) {
                float times = b == 0 ? 1 : weight;
                for (int t = 0; t < BLOCK; t++) {
                    sum += times * exp(s.get(F32, at(sOffset, (b * rows + r) * BLOCK + t)) - shift);
                }
            }
            logSums[r] = shift + (float) Math.log(sum);
        }
    }

    @Override
    public void rank(
            MemorySegment s, long sOffset, int blocks, int rows, float[] logSums, MemorySegment rank,
            long rankOffset) {
        for (int b = 0; b < blocks; b++) {
            for (int t = 0; t < BLOCK; t++) {
                float best = Float.NEGATIVE_INFINITY;
                for (int r = 0; r < rows; r++) {
                    float share = s.get(F32, at(sOffset, (b * rows + r) * BLOCK + t)) - logSums[r];
                    best = share > best ? share : best;
                }
                rank.set(F32, at(rankOffset, b * BLOCK + t), best);
            }
        }
    }

    @Override
    public void stretchMaxima(MemorySegment rank, long rankOffset, int blocks, int stretch, float[] maxima) {
        int columns = BLOCK / 4;
        Arrays.fill(maxima, 0, (blocks + stretch - 1) / stretch * columns, Float.NEGATIVE_INFINITY);
        for (int b = 0; b < blocks; b++) {
            for (int t = 0; t < BLOCK; t++) {
                float x = rank.get(F32, at(rankOffset, b * BLOCK + t));
                int column = b / stretch * columns + t % columns;
                maxima[column] = x > maxima[column] ? x : maxima[column];
            }
        }
    }

    @Override
    public float max(MemorySegment s, long sOffset, int count) {
        float maximum = Float.NEGATIVE_INFINITY;
        for (int i = 0; i < count; i++) {
            float value = s.get(F32, at(sOffset, i));
            maximum = value > maximum ? value : maximum;
        }
        return maximum;
    }

    @Override
    public int atLeast(
            MemorySegment s, long sOffset, int count, float threshold, int first, int[] positions, float[] values,
            int next) {
        int end = next;
        for (int i = 0; i < count; i++) {
            float x = s.get(F32, at(sOffset, i));
            if (x >= threshold) {
                positions[end] = first + i;
                values[end++] = x;
            }
        }
        return end;
    }

    @Override
    public float threshold(float[] values, int count, int k, int most) {
        float[] sorted = Arrays.copyOf(values, count);
        for (int i = 0; i < count; i++) {
            sorted[i] = Float.isNaN(sorted[i]) ? Float.NEGATIVE_INFINITY : sorted[i];
        }
        Arrays.sort(sorted);
        return sorted[count - k];
    }

    @Override
    public int keepLargest(float[] values, int[] positions, int count, int k) {
        if (count <= k) {
            return count;
        }
        float last = threshold(values, count, k, k);
        int ties = k;
        for (int i = 0; i < count; i++) {
            ties -= values[i] > last ? 1 : 0;
        }
        int kept = 0;
        for (int i = 0; i < count; i++) {
            if (values[i] > last || (values[i] == last && ties-- > 0)) {
                positions[kept++] = positions[i];
            }
        }
        return kept;
    }

    // ---- positions

    @Override
    public void rotate(MemorySegment x, long xOffset, int heads, int headSize, MemorySegment table, long tableOffset) {
        int half = headSize / 2;
        for (int h = 0; h < heads; h++) {
            for (int i = 0; i < half; i++) {
                long first = at(xOffset, h * headSize + i);
                long second = at(xOffset, h * headSize + half + i);
                float cosine = table.get(F32, at(tableOffset, i));
                float sine = table.get(F32, at(tableOffset, half + i));
                float a = x.get(F32, first);
                float b = x.get(F32, second);
                x.set(F32, first, a * cosine - b * sine);
                x.set(F32, second, b * cosine + a * sine);
            }
        }
    }

    // ---- elements

    private static long at(long offset, int index) {
        return offset + (long) index * FLOAT;
    }

    private static void add(MemorySegment x, long offset, float value) {
        x.set(F32, offset, x.get(F32, offset) + value);
    }

    private static float half(MemorySegment x, long offset, int index) {
        return Float.float16ToFloat(x.get(F16, offset + (long) index * HALF));
    }

    private static void setHalf(MemorySegment x, long offset, int index, float value) {
        x.set(F16, offset + (long) index * HALF, Float.floatToFloat16(value));
    }

    private static int code(MemorySegment row, long offset, int bits, int element) {
        return (row.get(BYTE, offset + codeByte(bits, element)) >> codeShift(bits, element)) & maxCode(bits);
    }

    private static void orCode(MemorySegment row, long offset, int bits, int element, int code) {
        long address = offset + codeByte(bits, element);
        row.set(BYTE, address, (byte) (row.get(BYTE, address) | (code << codeShift(bits, element))));
    }

    private static float exp(float x) {
        return (float) Math.exp(x);
    }

    /** A maximum to subtract: that of no score at all is -Infinity, and -Infinity - -Infinity is not a number. */
    private static float finite(float maximum) {
        return maximum == Float.NEGATIVE_INFINITY ? 0 : maximum;
    }
}
