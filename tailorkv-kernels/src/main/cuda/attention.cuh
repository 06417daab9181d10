// Attention of a thread block to its share of the tokens: rows read back, the exact window, packed blocks.
#pragma once

#include "cooperation.cuh"
#include "products.cuh"

namespace decoding {

// What a thread block holds of a chunk's output: element e = threadIdx.x + i * THREADS is channel e % headSize of head
// e / headSize.
struct Partial {
    float output[OWNED];
};

struct Softmax {
    float maximum[HEADS];
    float sum[HEADS];
    float correction[HEADS];
    float2 warps[WARPS][HEADS];    // maximum and sum
};

__device__ void rescale(Partial &partial, const Softmax &state, int headSize) {
#pragma unroll
    for (int i = 0; i < OWNED; i++) {
        int e = threadIdx.x + i * THREADS;
        if (e < HEADS * headSize) {
            partial.output[i] *= state.correction[e / headSize];
        }
    }
}

// What attention to up to BATCH tokens at a time needs: their keys and values as floats, their weights, and their rows as
// they are stored, each followed by the parameters of its keys' channels.
struct Batch {
    float *keys;       // [BATCH][keyStride]
    float *values;     // [BATCH][headSize]
    float *weights;    // [HEADS][BATCH]
    uint8_t *raw;      // [BATCH][rawBytes]
    int keyStride;
    int rawBytes;

    __device__ Batch(const Arguments *a, float *work) {
        int headSize = a->headSize;
        // Two lanes read a row, four rows are read at once: those lie 8 banks apart.
        keyStride = headSize + 8;
        keys = work;
        values = keys + BATCH * keyStride;
        weights = values + BATCH * headSize;
        raw = reinterpret_cast<uint8_t *>(weights + HEADS * BATCH);
        rawBytes = a->recordBytes + (a->bfloat16Rows ? 0 : 3 * headSize);
    }
};

struct Sources {
    const uint8_t *records[BATCH];
    const uint8_t *parameters[BATCH];
};

// Reads the rows of entries [first, first + held) of a list of sealed tokens (all of them, where it is null). Plain loads, all
// under way at once: from host memory cp.async and bulk copies take twice as long.
__device__ __noinline__ void fetchRows(
        const Arguments *a, const Place &place, const int *list, int first, int held, const Batch &batch,
        Sources &sources) {
    constexpr int AT_ONCE = 4;
    if (threadIdx.x < held) {
        int entry = first + threadIdx.x;
        int token = list == nullptr ? entry : __ldcg(list + entry);
        int block = token / BLOCK;
        sources.records[threadIdx.x] = rowRecord(a, block, place.kvHead, token % BLOCK);
        sources.parameters[threadIdx.x] = indexBlock(a, block, place.kvHead) + indexParameters(a);
    }
    __syncthreads();
    int recordUnits = a->recordBytes / 16;
    int parameterUnits = batch.rawBytes / 16 - recordUnits;
    int records = held * recordUnits;
    int all = records + held * parameterUnits;
    for (int base = threadIdx.x; base < all; base += AT_ONCE * THREADS) {
        uint4 units[AT_ONCE];
        uint8_t *targets[AT_ONCE];
#pragma unroll
        for (int j = 0; j < AT_ONCE; j++) {
            int i = base + j * THREADS;
            if (i < all) {
                bool ofRecord = i < records;
                int unit = ofRecord ? i : i - records;
                int each = ofRecord ? recordUnits : parameterUnits;
                int t = unit / each;
                int at = unit % each * 16;
                units[j] = *reinterpret_cast<const uint4 *>((ofRecord ? sources.records[t] : sources.parameters[t]) + at);
                targets[j] = batch.raw + t * batch.rawBytes + (ofRecord ? 0 : a->recordBytes) + at;
            }
        }
#pragma unroll
        for (int j = 0; j < AT_ONCE; j++) {
            if (base + j * THREADS < all) {
                *reinterpret_cast<uint4 *>(targets[j]) = units[j];
            }
        }
    }
    __syncthreads();
}

// Sixteen channels of a row that has been fetched.
__device__ __forceinline__ void unpack(
        const Arguments *a, const uint8_t *record, bool value, int c, float (&x)[16]) {
    int headSize = a->headSize;
    if (a->bfloat16Rows) {
        const uint4 *source = reinterpret_cast<const uint4 *>(record + ((value ? headSize : 0) + c) * 2);
        uint4 units[2] = {source[0], source[1]};
        const __nv_bfloat16 *numbers = reinterpret_cast<const __nv_bfloat16 *>(units);
#pragma unroll
        for (int j = 0; j < 16; j++) {
            x[j] = __bfloat162float(numbers[j]);
        }
        return;
    }
    uint4 unit = *reinterpret_cast<const uint4 *>(record + (value ? headSize : 0) + c);
    unsigned words[4] = {unit.x, unit.y, unit.z, unit.w};
    if (value) {
        const __half *fields = reinterpret_cast<const __half *>(record + 2 * headSize);
        float scale = __half2float(fields[c / GROUP]);
        float zero = __half2float(fields[valueGroups(headSize) + c / GROUP]);
#pragma unroll
        for (int j = 0; j < 16; j++) {
            x[j] = zero + scale * (words[j / 4] >> (j % 4 * 8) & 255);
        }
        return;
    }
    const uint8_t *parameters = record + a->recordBytes;
    const uint4 *middles = reinterpret_cast<const uint4 *>(parameters + 2 * c);
    uint4 middleUnits[2] = {middles[0], middles[1]};
    uint4 scaleUnit = *reinterpret_cast<const uint4 *>(parameters + 2 * headSize + c);
    const uint16_t *middle = reinterpret_cast<const uint16_t *>(middleUnits);
    unsigned scales[4] = {scaleUnit.x, scaleUnit.y, scaleUnit.z, scaleUnit.w};
#pragma unroll
    for (int j = 0; j < 16; j++) {
        Channel channel = channelOf(middle[j], scales[j / 4] >> (j % 4 * 8) & 255, 255);
        x[j] = channel.zero + channel.scale * (words[j / 4] >> (j % 4 * 8) & 255);
    }
}

__device__ __forceinline__ void put(const Batch &batch, int headSize, int t, bool value, int c, const float (&x)[16]) {
    float *target = value ? batch.values + t * headSize + c : batch.keys + t * batch.keyStride + c;
#pragma unroll
    for (int j = 0; j < 16; j += 4) {
        *reinterpret_cast<float4 *>(target + j) = make_float4(x[j], x[j + 1], x[j + 2], x[j + 3]);
    }
}

// Attends to the `held` tokens whose keys and values are in the batch.
__device__ __noinline__ void attendBatch(
        const Arguments *a, const Batch &batch, int held, const float *q, Partial &partial, Softmax &state) {
    int headSize = a->headSize;
    float *weights = batch.weights;
    int lane = threadIdx.x % 32;
    int warp = threadIdx.x / 32;
    static_assert(BATCH * HEADS * 2 <= THREADS && BATCH <= 32);
    if (threadIdx.x < BATCH * HEADS * 2) {
        int dot = threadIdx.x / 2;
        int t = dot % BATCH;
        int h = dot / BATCH;
        float sum = 0;
        for (int c = threadIdx.x % 2 * 4; c < headSize; c += 8) {
            float4 x = *reinterpret_cast<const float4 *>(batch.keys + t * batch.keyStride + c);
            float4 y = *reinterpret_cast<const float4 *>(q + h * headSize + c);
            sum += x.x * y.x + x.y * y.y + x.z * y.z + x.w * y.w;
        }
        sum += __shfl_xor_sync(~0u, sum, 1);
        if (threadIdx.x % 2 == 0) {
            weights[h * BATCH + t] = t < held ? capped(sum, a->scale, a->softCap) : -INFINITY;
        }
    }
    __syncthreads();
    if (warp < HEADS) {
        float s = lane < BATCH ? weights[warp * BATCH + lane] : -INFINITY;
        float most = fmaxf(warpMax(s), state.maximum[warp]);
        float weight = expDifference(s, most);
        float sum = warpSum(weight);
        __syncwarp();
        if (lane < BATCH) {
            weights[warp * BATCH + lane] = weight;
        }
        if (lane == 0) {
            float correction = expDifference(state.maximum[warp], most);
            state.correction[warp] = correction;
            state.sum[warp] = state.sum[warp] * correction + sum;
            state.maximum[warp] = most;
        }
    }
    __syncthreads();
    rescale(partial, state, headSize);
#pragma unroll
    for (int i = 0; i < OWNED; i++) {
        int e = threadIdx.x + i * THREADS;
        if (e < HEADS * headSize) {
            const float *weight = weights + e / headSize * BATCH;
            const float *column = batch.values + e % headSize;
            float sum = 0;
            for (int t = 0; t < held; t++) {
                sum += weight[t] * column[t * headSize];
            }
            partial.output[i] += sum;
        }
    }
    __syncthreads();
}

// Attends to the tokens [from, to) of the exact window.
__device__ __noinline__ void attendWindow(
        const Arguments *a, const Place &place, int from, int to, const float *q, const Batch &batch,
        Partial &partial, Softmax &state) {
    int headSize = a->headSize;
    int units = headSize / 16;
    for (int first = from; first < to; first += BATCH) {
        int held = min(BATCH, to - first);
        for (int i = threadIdx.x; i < held * 2 * units; i += THREADS) {
            int t = i / (2 * units);
            bool value = i % (2 * units) >= units;
            int c = i % units * 16;
            int token = first + t;
            const float *source = token == a->length
                    ? (value ? a->v : a->k) + size_t(place.kvHead) * headSize
                    : tileKeys(a, token / BLOCK, place.kvHead) + ((value ? BLOCK : 0) + token % BLOCK) * headSize;
            float x[16];
#pragma unroll
            for (int j = 0; j < 16; j += 4) {
                float4 four = *reinterpret_cast<const float4 *>(source + c + j);
                x[j] = four.x;
                x[j + 1] = four.y;
                x[j + 2] = four.z;
                x[j + 3] = four.w;
            }
            put(batch, headSize, t, value, c, x);
        }
        __syncthreads();
        attendBatch(a, batch, held, q, partial, state);
    }
}

// Attends to entries [from, to) of a list of sealed tokens (all of them, where it is null).
__device__ __noinline__ void attendRows(
        const Arguments *a, const Place &place, const int *list, int from, int to, const float *q, const Batch &batch,
        Partial &partial, Softmax &state, Sources &sources) {
    int headSize = a->headSize;
    int units = headSize / 16;
    for (int first = from; first < to; first += BATCH) {
        int held = min(BATCH, to - first);
        fetchRows(a, place, list, first, held, batch, sources);
        for (int i = threadIdx.x; i < held * 2 * units; i += THREADS) {
            int t = i / (2 * units);
            bool value = i % (2 * units) >= units;
            int c = i % units * 16;
            float x[16];
            unpack(a, batch.raw + t * batch.rawBytes, value, c, x);
            put(batch, headSize, t, value, c, x);
        }
        __syncthreads();
        attendBatch(a, batch, held, q, partial, state);
    }
}

template <int BITS>
struct Codes {
    // `count` codes (8 or 16) as words of 32 bits.
    template <int COUNT>
    static __device__ __forceinline__ void read(const uint8_t *at, unsigned (&words)[(COUNT * BITS + 31) / 32]) {
        constexpr int BYTES = COUNT * BITS / 8;
        if constexpr (BYTES == 1) {
            words[0] = *at;
        } else if constexpr (BYTES == 2) {
            words[0] = *reinterpret_cast<const uint16_t *>(at);
        } else if constexpr (BYTES == 4) {
            words[0] = *reinterpret_cast<const unsigned *>(at);
        } else if constexpr (BYTES == 8) {
            uint2 two = *reinterpret_cast<const uint2 *>(at);
            words[0] = two.x;
            words[1] = two.y;
        } else {
            uint4 four = *reinterpret_cast<const uint4 *>(at);
            words[0] = four.x;
            words[1] = four.y;
            words[2] = four.z;
            words[3] = four.w;
        }
    }

    static __device__ __forceinline__ float at(const unsigned *words, int i) {
        // The bits of 2^23 + code; cheaper than a conversion.
        unsigned code = words[i * BITS / 32] >> (i * BITS % 32) & ((1u << BITS) - 1);
        return __uint_as_float(0x4b000000u | code) - 8388608.0f;
    }
};

// Pair `p` of sixteen codes, as halves: codes that lie 16 bits apart, so that one shift and one mask serve both.
template <int BITS>
struct Pairs {
    static constexpr int DISTANCE = BITS == 8 ? 2 : BITS == 4 ? 4 : 8;

    static __device__ __forceinline__ constexpr int first(int p) { return p / DISTANCE * 2 * DISTANCE + p % DISTANCE; }

    static __device__ __forceinline__ unsigned halves(const unsigned *words, int p) {
        unsigned both = words[0];
        if constexpr (BITS == 1) {
            both = (both & 0xff) | (both & 0xff00) << 8;
        }
        both = BITS == 1 ? both >> p : words[p / DISTANCE] >> (p % DISTANCE * BITS);
        unsigned raised = (both & ((1u << BITS) - 1) * 0x10001u) | 0x64006400u;
        __half2 exact = __hsub2(*reinterpret_cast<__half2 *>(&raised), __half2half2(__ushort_as_half(0x6400)));
        return *reinterpret_cast<unsigned *>(&exact);
    }
};

// Attends to the packed blocks [from, to), each warp to blocks of its own; nothing has been attended to before. Scores are
// products of matrices as in the selection: 16 tokens by 16 channels of codes times the queries, which carry the scales of
// the keys, whose zero points go into a bias. A lane holds sixteen codes in a row of eight tokens, 8r + g, for each 64
// channels. Values go through plain arithmetic: each lane has four channels of all tokens.
template <int BITS>
__device__ __noinline__ void attendPacked(
        const Arguments *a, const Place &place, int from, int to, const float *q, float *work, Partial &partial,
        Softmax &state) {
    constexpr int WORDS = (16 * BITS + 31) / 32;
    constexpr int AT_ONCE = 8;
    int headSize = a->headSize;
    int groups = valueGroups(headSize);
    int rowBytes = headSize * BITS / 8;
    int lane = threadIdx.x % 32;
    int warp = threadIdx.x / 32;
    int g = lane / 4;
    int t = lane % 4;
    int quads = headSize / 4;
    float *weights = work + warp * BLOCK * (HEADS + 2 * groups);                // [BLOCK][HEADS]
    float2 *scalesAndZeros = reinterpret_cast<float2 *>(weights + BLOCK * HEADS);  // [BLOCK][groups]
    float most[2] = {-INFINITY, -INFINITY};    // of heads 2t and 2t + 1
    float sum[2] = {0, 0};
    float output[2][4][HEADS];
#pragma unroll
    for (int k = 0; k < 2; k++) {
#pragma unroll
        for (int j = 0; j < 4; j++) {
#pragma unroll
            for (int h = 0; h < HEADS; h++) {
                output[k][j][h] = 0;
            }
        }
    }
    for (int block = from + warp; block < to; block += WARPS) {
        const uint8_t *base = packedBlock(a, block, place.kvHead);
        const __half *fields = reinterpret_cast<const __half *>(base + 2 * BLOCK * rowBytes);
        const __half *valueScales = fields + 2 * headSize;
        if (block + WARPS < to) {
            const uint8_t *next = packedBlock(a, block + WARPS, place.kvHead);
            for (int i = lane * 128; i < a->packedBytes; i += 32 * 128) {
                asm volatile("prefetch.global.L2 [%0];" ::"l"(next + i));
            }
        }
        for (int i = lane; i < BLOCK * groups; i += 32) {
            scalesAndZeros[i] = make_float2(__half2float(valueScales[i]), __half2float(valueScales[BLOCK * groups + i]));
        }
        float acc[4][4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
#pragma unroll
            for (int j = 0; j < 4; j++) {
                acc[i][j] = 0;
            }
        }
        float bias = 0;
        for (int c = 16 * t; c - 16 * t < headSize; c += 64) {
            bool inside = c < headSize;
            unsigned words[8][WORDS];
#pragma unroll
            for (int r = 0; r < 8; r++) {
                if (inside) {
                    Codes<BITS>::template read<16>(base + (8 * r + g) * rowBytes + c * BITS / 8, words[r]);
                } else {
#pragma unroll
                    for (int w = 0; w < WORDS; w++) {
                        words[r][w] = 0;
                    }
                }
            }
            unsigned b[8] = {0, 0, 0, 0, 0, 0, 0, 0};
            if (inside && g < HEADS) {
                float x[16];
#pragma unroll
                for (int j = 0; j < 16; j += 4) {
                    float4 four = *reinterpret_cast<const float4 *>(q + g * headSize + c + j);
                    x[j] = four.x;
                    x[j + 1] = four.y;
                    x[j + 2] = four.z;
                    x[j + 3] = four.w;
                }
#pragma unroll
                for (int j = 0; j < 16; j += 8) {
                    uint4 zeros = *reinterpret_cast<const uint4 *>(fields + headSize + c + j);
                    uint4 scales = *reinterpret_cast<const uint4 *>(fields + c + j);
                    const __half *zero = reinterpret_cast<const __half *>(&zeros);
                    const __half *scale = reinterpret_cast<const __half *>(&scales);
#pragma unroll
                    for (int i = 0; i < 8; i++) {
                        bias += x[j + i] * __half2float(zero[i]);
                        x[j + i] *= __half2float(scale[i]);
                    }
                }
#pragma unroll
                for (int p = 0; p < 8; p++) {
                    b[p] = inRange(x[Pairs<BITS>::first(p)], x[Pairs<BITS>::first(p) + Pairs<BITS>::DISTANCE]);
                }
            }
#pragma unroll
            for (int s = 0; s < 4; s++) {
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    unsigned codes[4] = {
                            Pairs<BITS>::halves(words[2 * i], 2 * s), Pairs<BITS>::halves(words[2 * i + 1], 2 * s),
                            Pairs<BITS>::halves(words[2 * i], 2 * s + 1),
                            Pairs<BITS>::halves(words[2 * i + 1], 2 * s + 1)};
                    multiply(acc[i], codes, b[2 * s], b[2 * s + 1]);
                }
            }
        }
        bias += __shfl_xor_sync(~0u, bias, 1);
        bias += __shfl_xor_sync(~0u, bias, 2);
        float correction[2];
#pragma unroll
        for (int e = 0; e < 2; e++) {
            float offset = __shfl_sync(~0u, bias, (2 * t + e) * 4);
            float x[8];
            float high = most[e];
#pragma unroll
            for (int r = 0; r < 8; r++) {
                x[r] = capped(acc[r / 2][r % 2 * 2 + e] + offset, a->scale, a->softCap);
                high = fmaxf(high, x[r]);
            }
#pragma unroll
            for (int i = 4; i < 32; i *= 2) {
                high = fmaxf(high, __shfl_xor_sync(~0u, high, i));
            }
            correction[e] = expDifference(most[e], high);
            most[e] = high;
            sum[e] *= correction[e];
#pragma unroll
            for (int r = 0; r < 8; r++) {
                float weight = __expf(x[r] - high);
                sum[e] += weight;
                if (t < HEADS / 2) {
                    weights[(8 * r + g) * HEADS + 2 * t + e] = weight;
                }
            }
        }
        __syncwarp();
        float corrections[HEADS];
#pragma unroll
        for (int h = 0; h < HEADS; h++) {
            corrections[h] = __shfl_sync(~0u, correction[h % 2], h / 2);
        }
        const uint8_t *values = base + BLOCK * rowBytes;
#pragma unroll
        for (int k = 0; k < 2; k++) {
            int quad = lane + 32 * k;
            if (quad < quads) {
#pragma unroll
                for (int j = 0; j < 4; j++) {
#pragma unroll
                    for (int h = 0; h < HEADS; h++) {
                        output[k][j][h] *= corrections[h];
                    }
                }
                const uint8_t *column = values + quad * BITS / 2;
                int shift = BITS == 1 ? quad % 2 * 4 : 0;
                int group = quad * 4 / GROUP;
                for (int first = 0; first < BLOCK; first += AT_ONCE) {
                    unsigned codes[AT_ONCE];
#pragma unroll
                    for (int i = 0; i < AT_ONCE; i++) {
                        const uint8_t *at = column + (first + i) * rowBytes;
                        codes[i] = BITS == 8   ? *reinterpret_cast<const unsigned *>(at)
                                   : BITS == 4 ? *reinterpret_cast<const uint16_t *>(at)
                                               : unsigned(*at) >> shift;
                    }
#pragma unroll
                    for (int i = 0; i < AT_ONCE; i++) {
                        float4 w = *reinterpret_cast<const float4 *>(weights + (first + i) * HEADS);
                        float2 parameters = scalesAndZeros[(first + i) * groups + group];
#pragma unroll
                        for (int j = 0; j < 4; j++) {
                            float x = parameters.y + parameters.x * Codes<BITS>::at(&codes[i], j);
                            output[k][j][0] += w.x * x;
                            output[k][j][1] += w.y * x;
                            output[k][j][2] += w.z * x;
                            output[k][j][3] += w.w * x;
                        }
                    }
                }
            }
        }
        __syncwarp();
    }
#pragma unroll
    for (int e = 0; e < 2; e++) {
#pragma unroll
        for (int i = 4; i < 32; i *= 2) {
            sum[e] += __shfl_xor_sync(~0u, sum[e], i);
        }
        if (g == 0 && t < HEADS / 2) {
            state.warps[warp][2 * t + e] = make_float2(most[e], sum[e]);
        }
    }
    __syncthreads();
    // The warps' outputs relative to the largest maximum: [warp][HEADS][headSize].
    float factors[HEADS];
#pragma unroll
    for (int h = 0; h < HEADS; h++) {
        float all = -INFINITY;
        for (int w = 0; w < WARPS; w++) {
            all = fmaxf(all, state.warps[w][h].x);
        }
        factors[h] = expDifference(state.warps[warp][h].x, all);
    }
#pragma unroll
    for (int k = 0; k < 2; k++) {
        int quad = lane + 32 * k;
        if (quad < quads) {
#pragma unroll
            for (int h = 0; h < HEADS; h++) {
                *reinterpret_cast<float4 *>(work + (warp * HEADS + h) * headSize + 4 * quad) = make_float4(
                        output[k][0][h] * factors[h], output[k][1][h] * factors[h], output[k][2][h] * factors[h],
                        output[k][3][h] * factors[h]);
            }
        }
    }
    if (threadIdx.x < HEADS) {
        float all = -INFINITY;
        float total = 0;
        for (int w = 0; w < WARPS; w++) {
            all = fmaxf(all, state.warps[w][threadIdx.x].x);
        }
        for (int w = 0; w < WARPS; w++) {
            float2 theirs = state.warps[w][threadIdx.x];
            total += theirs.y * expDifference(theirs.x, all);
        }
        state.maximum[threadIdx.x] = all;
        state.sum[threadIdx.x] = total;
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < OWNED; i++) {
        int e = threadIdx.x + i * THREADS;
        if (e < HEADS * headSize) {
            float total = 0;
            for (int w = 0; w < WARPS; w++) {
                total += work[w * HEADS * headSize + e];
            }
            partial.output[i] = total;
        }
    }
    __syncthreads();
}

}  // namespace decoding
