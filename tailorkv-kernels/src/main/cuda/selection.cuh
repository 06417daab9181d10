// How the thread blocks of a KV head choose its dominant tokens; the steps are listed in decode.cu.
#pragma once

#include "cooperation.cuh"
#include "products.cuh"

namespace decoding {

struct Choice {
    // The critical channels, counted in the head and in the index.
    uint16_t channels[MAX_HEAD_SIZE];
    uint16_t places[MAX_HEAD_SIZE];
    __align__(16) float weights[MAX_HEAD_SIZE];
    float2 states[WARPS][MAX_GROUP];
    float logSumExp[MAX_GROUP];
    int scan[WARPS][2];
    int threshold;
    int above;
    int2 mine;
    int offsets[2];
};

// Approximate scores are products of matrices: the codes of the index, 16 tokens by 16 channels, times the queries, which
// carry the scales of the block's channels. Codes are exact in halves; the queries are scaled by a power of two so that they
// are in range there, and lose 2^-12 of themselves, far less than the codes do. Zero points make one bias for a block and row.
//
// A lane of a warp holds the codes of channels 2t, 2t + 1, 2t + 8 and 2t + 9 of tokens 8g .. 8g + 7, where t = lane % 4 and
// g = lane / 4: a string of bits each. Rows g and g + 8 of the i-th product are the tokens 8g + 2i and 8g + 2i + 1.
template <int BITS>
struct Strips {
    unsigned low[4];
    unsigned high[BITS == 8 ? 4 : 1];
    unsigned middle;    // of channel lane % 16
    unsigned scale;

    // `first`: the first of sixteen critical channels.
    __device__ __forceinline__ void load(
            const uint8_t *index, int parameters, const Choice &choice, int first, int headSize) {
        int lane = threadIdx.x % 32;
        const uint8_t *codes = index + lane / 4 * BITS;
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const uint8_t *at = codes + choice.places[first + lane % 4 * 2 + j % 2 + j / 2 * 8] * 8 * BITS;
            if constexpr (BITS == 2) {
                low[j] = *reinterpret_cast<const uint16_t *>(at);
            } else if constexpr (BITS == 4) {
                low[j] = *reinterpret_cast<const unsigned *>(at);
            } else {
                uint2 two = *reinterpret_cast<const uint2 *>(at);
                low[j] = two.x;
                high[j] = two.y;
            }
        }
        int own = choice.channels[first + lane % 16];
        middle = reinterpret_cast<const uint16_t *>(index + parameters)[own];
        scale = index[parameters + 2 * headSize + own];
    }

    // The codes of a token in channels 2t and 2t + 1 (`pair` 0) or 2t + 8 and 2t + 9 (1), as halves.
    __device__ __forceinline__ unsigned halves(int pair, int token) const {
        unsigned x = low[2 * pair];
        unsigned y = low[2 * pair + 1];
        unsigned both;
        if constexpr (BITS == 2) {
            both = __byte_perm(x, y, 0x5410) >> (2 * token);
        } else if constexpr (BITS == 4) {
            both = __byte_perm(x, y, token < 4 ? 0x5410 : 0x7632) >> (token % 4 * 4);
        } else {
            if (token >= 4) {
                x = high[2 * pair];
                y = high[2 * pair + 1];
            }
            both = __byte_perm(x, y, 0x4400 + 0x1111 * (token % 4));
        }
        // The bits of 1024 + code.
        unsigned raised = (both & ((1u << BITS) - 1) * 0x10001u) | 0x64006400u;
        __half2 exact = __hsub2(*reinterpret_cast<__half2 *>(&raised), __half2half2(__ushort_as_half(0x6400)));
        return *reinterpret_cast<unsigned *>(&exact);
    }
};

// Scores of the member's blocks [from, to) to `scores`, [row][token]; maximum and sum of each row and warp to `choice`.
// `selected`: [steps * 16][GROUP_ROWS], the rows' elements in the critical channels times `factor`, zeros behind them.
template <int GROUP_ROWS, int BITS>
__device__ __noinline__ void score(
        const Arguments *a, const Place &place, int from, int to, const float *selected, int steps, int rows,
        float factor, float *scores, Choice &choice) {
    constexpr int TILES = GROUP_ROWS > 8 ? 2 : 1;
    int lane = threadIdx.x % 32;
    int warp = threadIdx.x / 32;
    int g = lane / 4;
    int t = lane % 4;
    int headSize = a->headSize;
    int parameters = indexParameters(a);
    int levels = channelLevels(a);
    float multiple = static_cast<float>(levels / ((1 << BITS) - 1));
    float scale = a->scale / factor;
    float softCap = a->softCap;
    size_t stride = size_t(a->sealed) * BLOCK;
    float most[2 * TILES];
    float sum[2 * TILES];
#pragma unroll
    for (int r = 0; r < 2 * TILES; r++) {
        most[r] = -INFINITY;
        sum[r] = 0;
    }
    // Codes are loaded two products ahead, their addresses three; beyond the end the last block comes again.
    int items = from + warp < to ? (to - from - warp - 1) / WARPS + 1 : 0;
    int last = from + warp + (items - 1) * WARPS;
    auto advance = [&](int &block, int &step) {
        if (++step == steps) {
            step = 0;
            block = min(block + WARPS, last);
        }
    };
    int block = from + warp;
    int step = 0;
    int blockAhead = block;
    int stepAhead = 0;
    Strips<BITS> now;
    Strips<BITS> next;
    const uint8_t *ahead = nullptr;
    if (items > 0) {
        now.load(indexBlock(a, block, place.kvHead), parameters, choice, 0, headSize);
        advance(blockAhead, stepAhead);
        next.load(indexBlock(a, blockAhead, place.kvHead), parameters, choice, stepAhead * 16, headSize);
        advance(blockAhead, stepAhead);
        ahead = indexBlock(a, blockAhead, place.kvHead);
    }
    float acc[4][TILES][4];
    float bias[TILES];
    for (int item = 0; item < items * steps; item++) {
        Strips<BITS> afterNext;
        afterNext.load(ahead, parameters, choice, stepAhead * 16, headSize);
        advance(blockAhead, stepAhead);
        ahead = indexBlock(a, blockAhead, place.kvHead);
        if (step == 0) {
#pragma unroll
            for (int tile = 0; tile < TILES; tile++) {
                bias[tile] = 0;
#pragma unroll
                for (int i = 0; i < 4; i++) {
#pragma unroll
                    for (int j = 0; j < 4; j++) {
                        acc[i][tile][j] = 0;
                    }
                }
            }
        }
        Channel own = channelOf(now.middle, now.scale, levels);
        float ownScale = own.scale * multiple;
        float scales[4];
        float zeros[4];
#pragma unroll
        for (int j = 0; j < 4; j++) {
            scales[j] = __shfl_sync(~0u, ownScale, 2 * t + j % 2 + j / 2 * 8);
            zeros[j] = __shfl_sync(~0u, own.zero, 2 * t + j % 2 + j / 2 * 8);
        }
        unsigned b[TILES][2];
#pragma unroll
        for (int tile = 0; tile < TILES; tile++) {
            float q[4];
            int row = g + 8 * tile;
#pragma unroll
            for (int j = 0; j < 4; j++) {
                q[j] = row < GROUP_ROWS
                        ? selected[(step * 16 + 2 * t + j % 2 + j / 2 * 8) * GROUP_ROWS + row]
                        : 0.0f;
                bias[tile] += q[j] * zeros[j];
                q[j] *= scales[j];
            }
            b[tile][0] = inRange(q[0], q[1]);
            b[tile][1] = inRange(q[2], q[3]);
        }
#pragma unroll
        for (int i = 0; i < 4; i++) {
            unsigned codes[4] = {
                    now.halves(0, 2 * i), now.halves(0, 2 * i + 1), now.halves(1, 2 * i), now.halves(1, 2 * i + 1)};
#pragma unroll
            for (int tile = 0; tile < TILES; tile++) {
                multiply(acc[i][tile], codes, b[tile][0], b[tile][1]);
            }
        }
        if (step == steps - 1) {
#pragma unroll
            for (int tile = 0; tile < TILES; tile++) {
                float whole = bias[tile];
                whole += __shfl_xor_sync(~0u, whole, 1);
                whole += __shfl_xor_sync(~0u, whole, 2);
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    float offset = __shfl_sync(~0u, whole, (2 * t + e) * 4);
                    int row = 2 * t + e + 8 * tile;
                    if (row < rows) {
                        float x[8];
                        float high = most[2 * tile + e];
#pragma unroll
                        for (int i = 0; i < 8; i++) {
                            x[i] = capped(acc[i / 2][tile][i % 2 * 2 + e] + offset, scale, softCap);
                            high = fmaxf(high, x[i]);
                        }
                        float4 *target = reinterpret_cast<float4 *>(
                                scores + row * stride + size_t(block) * BLOCK + 8 * g);
                        target[0] = make_float4(x[0], x[1], x[2], x[3]);
                        target[1] = make_float4(x[4], x[5], x[6], x[7]);
                        float total = sum[2 * tile + e] * expDifference(most[2 * tile + e], high);
#pragma unroll
                        for (int i = 0; i < 8; i++) {
                            total += __expf(x[i] - high);
                        }
                        sum[2 * tile + e] = total;
                        most[2 * tile + e] = high;
                    }
                }
            }
        }
        advance(block, step);
        now = next;
        next = afterNext;
    }
#pragma unroll
    for (int r = 0; r < 2 * TILES; r++) {
        float all = most[r];
        for (int i = 4; i < 32; i *= 2) {
            all = fmaxf(all, __shfl_xor_sync(~0u, all, i));
        }
        float total = sum[r] * expDifference(most[r], all);
        for (int i = 4; i < 32; i *= 2) {
            total += __shfl_xor_sync(~0u, total, i);
        }
        int row = 2 * t + r % 2 + r / 2 * 8;
        if (g == 0 && row < rows) {
            choice.states[warp][row] = make_float2(all, total);
        }
    }
}

// The critical channels: those of the index with the largest |query| times extent of the keys.
__device__ __noinline__ int chooseChannels(const Arguments *a, const Place &place, const float *q, int rows, Choice &choice) {
    int headSize = a->headSize;
    int indexed = a->indexedCount;
    int i = threadIdx.x;
    int c = 0;
    if (i < indexed) {
        c = a->indexed[place.kvHead * indexed + i];
        float largest = 0;
        for (int g = 0; g < rows; g++) {
            largest = fmaxf(largest, fabsf(q[g * headSize + c]));
        }
        choice.weights[i] = largest * extentOf(a, place.kvHead, c);
    } else if (i < (indexed + 3) / 4 * 4) {
        choice.weights[i] = -1;
    }
    __syncthreads();
    int count = min(a->channels, indexed);
    if (i < indexed) {
        float mine = choice.weights[i];
        int before = 0;
        for (int other = 0; other < indexed; other += 4) {
            float4 four = *reinterpret_cast<const float4 *>(choice.weights + other);
            float theirs[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
            for (int j = 0; j < 4; j++) {
                before += theirs[j] > mine || (theirs[j] == mine && other + j < i);
            }
        }
        if (before < count) {
            choice.channels[before] = static_cast<uint16_t>(c);
            choice.places[before] = static_cast<uint16_t>(i);
        }
    }
    __syncthreads();
    return count;
}

// Exclusive prefix sums of two counts over the threads; returns the totals.
__device__ __noinline__ int2 scanPairs(int2 mine, int2 &before, Choice &choice) {
    int lane = threadIdx.x % 32;
    int warp = threadIdx.x / 32;
    int2 sum = mine;
    for (int i = 1; i < 32; i *= 2) {
        int x = __shfl_up_sync(~0u, sum.x, i);
        int y = __shfl_up_sync(~0u, sum.y, i);
        if (lane >= i) {
            sum.x += x;
            sum.y += y;
        }
    }
    if (lane == 31) {
        choice.scan[warp][0] = sum.x;
        choice.scan[warp][1] = sum.y;
    }
    __syncthreads();
    int2 total = make_int2(0, 0);
    before = make_int2(sum.x - mine.x, sum.y - mine.y);
    for (int w = 0; w < WARPS; w++) {
        if (w < warp) {
            before.x += choice.scan[w][0];
            before.y += choice.scan[w][1];
        }
        total.x += choice.scan[w][0];
        total.y += choice.scan[w][1];
    }
    __syncthreads();
    return total;
}

// Writes the dominant tokens of a KV head to its list, which is complete after await() with the number returned. `queries`:
// the group's rows; `work`: BINS words.
template <int GROUP_ROWS>
__device__ unsigned select(
        const Arguments *a, const Place &place, int wanted, float *queries, float *selected, unsigned *work,
        Choice &choice, unsigned *counter) {
    int headSize = a->headSize;
    int group = groupSize(a);
    int rows = a->perHead ? group : 1;
    int lane = threadIdx.x % 32;
    int warp = threadIdx.x / 32;
    float *averaged = selected + MAX_HEAD_SIZE * GROUP_ROWS;
    const float *q = queries;
    if (!a->perHead) {
        if (threadIdx.x < headSize) {
            float sum = 0;
            for (int g = 0; g < group; g++) {
                sum += queries[g * headSize + threadIdx.x];
            }
            averaged[threadIdx.x] = sum / group;
        }
        __syncthreads();
        q = averaged;
    }
    int count = chooseChannels(a, place, q, rows, choice);
    int steps = (count + 15) / 16;
    // The largest product of a query and a step of its channel becomes about 2^12.
    int exponent = static_cast<int>(__float_as_uint(choice.weights[choice.places[0]]) >> 23 & 255) - 127;
    float factor = __uint_as_float((127 + min(max(12 - exponent, -100), 100)) << 23);
    for (int i = threadIdx.x; i < steps * 16 * GROUP_ROWS; i += THREADS) {
        int g = i % GROUP_ROWS;
        int at = i / GROUP_ROWS;
        selected[i] = g < rows && at < count ? q[g * headSize + choice.channels[at]] * factor : 0.0f;
    }
    unsigned *histogram = a->histogram + size_t(place.kvHead) * BINS;
    for (int i = BINS * place.member / place.members + threadIdx.x; i < BINS * (place.member + 1) / place.members;
         i += THREADS) {
        histogram[i] = 0;
    }
    __syncthreads();
    if (threadIdx.x >= count && threadIdx.x < steps * 16) {
        choice.channels[threadIdx.x] = choice.channels[0];
        choice.places[threadIdx.x] = choice.places[0];
    }
    __syncthreads();

    int from = static_cast<int>(static_cast<long long>(a->sealed) * place.member / place.members);
    int to = static_cast<int>(static_cast<long long>(a->sealed) * (place.member + 1) / place.members);
    // Scores are kept [row][token]: the second walk is a plain stream.
    size_t stride = size_t(a->sealed) * BLOCK;
    float *scores = a->scores + size_t(place.kvHead) * rows * stride;
    switch (a->indexBits) {
        case 2: score<GROUP_ROWS, 2>(a, place, from, to, selected, steps, rows, factor, scores, choice); break;
        case 4: score<GROUP_ROWS, 4>(a, place, from, to, selected, steps, rows, factor, scores, choice); break;
        default: score<GROUP_ROWS, 8>(a, place, from, to, selected, steps, rows, factor, scores, choice); break;
    }
    __syncthreads();
    float2 *shares = a->shares + size_t(place.kvHead) * place.members * MAX_GROUP;
    if (threadIdx.x < rows) {
        float all = -INFINITY;
        float total = 0;
        for (int w = 0; w < WARPS; w++) {
            all = fmaxf(all, choice.states[w][threadIdx.x].x);
        }
        for (int w = 0; w < WARPS; w++) {
            float2 state = choice.states[w][threadIdx.x];
            total += state.y * expDifference(state.x, all);
        }
        shares[place.member * MAX_GROUP + threadIdx.x] = make_float2(all, total);
    }
    barrier(counter, place.members);

    for (int g = warp; g < rows; g += WARPS) {
        float all = -INFINITY;
        float total = 0;
        for (int m = lane; m < place.members; m += 32) {
            float2 state = __ldcg(shares + m * MAX_GROUP + g);
            float next = fmaxf(all, state.x);
            total = total * expDifference(all, next) + state.y * expDifference(state.x, next);
            all = next;
        }
        float whole = warpMax(all);
        total = warpSum(total * expDifference(all, whole));
        if (lane == 0) {
            choice.logSumExp[g] = whole + logf(total);
        }
    }
    for (int i = threadIdx.x; i < BINS; i += THREADS) {
        work[i] = 0;
    }
    __syncthreads();
    uint16_t *bins = a->bins + size_t(place.kvHead) * a->sealed * BLOCK;
#pragma unroll 4
    for (int block = from + warp; block < to; block += WARPS) {
        float first = -INFINITY;
        float second = -INFINITY;
#pragma unroll
        for (int g = 0; g < GROUP_ROWS; g++) {
            if (g < rows) {
                float2 pair = *reinterpret_cast<const float2 *>(scores + g * stride + block * BLOCK + 2 * lane);
                first = fmaxf(first, pair.x - choice.logSumExp[g]);
                second = fmaxf(second, pair.y - choice.logSumExp[g]);
            }
        }
        int token = block * BLOCK + 2 * lane;
        // Not a number, as -first would be here, becomes the last bin.
        int low = static_cast<int>(fminf(fmaxf(-first * BINS_PER_NAT, 0.0f), BINS - 1.0f));
        int high = static_cast<int>(fminf(fmaxf(-second * BINS_PER_NAT, 0.0f), BINS - 1.0f));
        low = token < a->sinks ? 0 : low;
        high = token + 1 < a->sinks ? 0 : high;
        atomicAdd(work + low, 1u);
        atomicAdd(work + high, 1u);
        *reinterpret_cast<ushort2 *>(bins + token) = make_ushort2(low, high);
    }
    __syncthreads();
    for (int i = threadIdx.x; i < BINS; i += THREADS) {
        if (work[i] != 0) {
            atomicAdd(histogram + i, work[i]);
        }
    }
    barrier(counter, place.members);

    constexpr int SPAN = BINS / THREADS;
    int held[SPAN];
    int2 mine = make_int2(0, 0);
    for (int i = 0; i < SPAN; i += 4) {
        uint4 four = __ldcg(reinterpret_cast<const uint4 *>(histogram + threadIdx.x * SPAN + i));
        uint4 own = *reinterpret_cast<const uint4 *>(work + threadIdx.x * SPAN + i);
        held[i] = four.x;
        held[i + 1] = four.y;
        held[i + 2] = four.z;
        held[i + 3] = four.w;
        mine.x += four.x + four.y + four.z + four.w;
        mine.y += own.x + own.y + own.z + own.w;
    }
    int2 before;
    scanPairs(mine, before, choice);
    if (before.x < wanted && wanted <= before.x + mine.x) {
        int above = before.x;
        int ownAbove = before.y;
        bool found = false;
#pragma unroll
        for (int i = 0; i < SPAN; i++) {
            int own = work[threadIdx.x * SPAN + i];
            if (!found && above + held[i] >= wanted) {
                choice.threshold = threadIdx.x * SPAN + i;
                choice.above = above;
                choice.mine = make_int2(ownAbove, own);
                found = true;
            }
            above += found ? 0 : held[i];
            ownAbove += found ? 0 : own;
        }
    }
    __syncthreads();
    int threshold = choice.threshold;
    int2 *counts = a->counts + size_t(place.kvHead) * place.members;
    if (threadIdx.x == 0) {
        counts[place.member] = choice.mine;
    }
    unsigned target = arrive(counter, place.members);

    // Eight bins are one load; a thread's stretch of tokens is a multiple of that.
    int eighths = (to - from) * (BLOCK / 8);
    int span = (eighths + THREADS - 1) / THREADS;
    int begin = min(eighths, static_cast<int>(threadIdx.x) * span);
    int end = min(eighths, (static_cast<int>(threadIdx.x) + 1) * span);
    const uint4 *eight = reinterpret_cast<const uint4 *>(bins + from * BLOCK);
    int2 own = make_int2(0, 0);
#pragma unroll 4
    for (int i = begin; i < end; i++) {
        uint4 unit = eight[i];
        unsigned words[4] = {unit.x, unit.y, unit.z, unit.w};
#pragma unroll
        for (int j = 0; j < 8; j++) {
            int bin = words[j / 2] >> (j % 2 * 16) & 0xffff;
            own.x += bin < threshold;
            own.y += bin == threshold;
        }
    }
    scanPairs(own, before, choice);
    await(counter, target);

    if (warp == 0) {
        int above = 0;
        int equal = 0;
        for (int m = lane; m < place.member; m += 32) {
            int2 theirs = __ldcg(counts + m);
            above += theirs.x;
            equal += theirs.y;
        }
        for (int i = 16; i > 0; i /= 2) {
            above += __shfl_xor_sync(~0u, above, i);
            equal += __shfl_xor_sync(~0u, equal, i);
        }
        if (lane == 0) {
            choice.offsets[0] = above;
            choice.offsets[1] = equal;
        }
    }
    __syncthreads();
    int *list = a->selected + size_t(place.kvHead) * wanted;
    int atAbove = choice.offsets[0] + before.x;
    int atEqual = choice.above + choice.offsets[1] + before.y;
    if (own.x + own.y > 0) {
        for (int i = begin; i < end; i++) {
            uint4 unit = eight[i];
            unsigned words[4] = {unit.x, unit.y, unit.z, unit.w};
#pragma unroll
            for (int j = 0; j < 8; j++) {
                int bin = words[j / 2] >> (j % 2 * 16) & 0xffff;
                int token = from * BLOCK + i * 8 + j;
                if (bin < threshold) {
                    list[atAbove++] = token;
                } else if (bin == threshold && atEqual < wanted) {
                    list[atEqual++] = token;
                }
            }
        }
    }
    return arrive(counter, place.members);
}

}  // namespace decoding
