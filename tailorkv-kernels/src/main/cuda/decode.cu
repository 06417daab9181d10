// Attention of one token over one layer in one launch: append, selection, gather, attention, merge.
//
// Grid: P x chunks x KV heads, 256 threads. A chunk is up to four query heads of a head group; the thread blocks of a
// chunk share its tokens (split-K), each keeps a running maximum, a sum and an unnormalised output, and the last one to
// finish merges them and writes to mapped host memory.
//
// In a retrieval layer all thread blocks of a KV head first choose its dominant tokens together (TailorKV, section 3.3):
//
//   1  critical channels; log-sum-exp of the approximate scores of each query head        | barrier
//   2  rank of a token: the largest share it has in any head; a histogram of the ranks    | barrier
//   3  the bin in which the budget runs out; tokens above and in it, counted              | barrier
//   4  the list: all above, then those in the bin by position                             | barrier
//   5  the list's rows, read from where they lie (pinned host memory), and the exact window
//
// The ranks are never sorted. The bins are 1/128 of a nat wide, so tokens that compete for the last places differ by less
// than one percent in weight; among them the earlier wins, and the result is the same in every run. The barriers need all
// thread blocks of a launch to be resident: it is launched cooperatively.
#include "layout.cuh"

namespace decoding {

constexpr int THREADS = 256;
constexpr int WARPS = THREADS / 32;
constexpr int HEADS = 4;     // query heads of a chunk
constexpr int BATCH = 16;    // tokens staged at a time
constexpr int MAX_GROUP = 16;
constexpr int MOST_PARTS = 64;
constexpr int MAX_HEAD_SIZE = 256;
constexpr int OWNED = HEADS * MAX_HEAD_SIZE / THREADS;

struct Place {
    int part;      // of the chunk's tokens
    int parts;
    int chunk;
    int chunks;
    int kvHead;
    int member;    // of the KV head
    int members;
};

__device__ void barrier(unsigned *counter, unsigned members) {
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence();
        unsigned ticket = atomicAdd(counter, 1u);
        unsigned target = (ticket / members + 1) * members;
        while (*reinterpret_cast<volatile unsigned *>(counter) < target) {
        }
        __threadfence();
    }
    __syncthreads();
}

// ---- selection ---------------------------------------------------------------------------------------------------------

struct Choice {
    int channels[MAX_HEAD_SIZE];
    __align__(16) float weights[MAX_HEAD_SIZE];
    float2 states[WARPS][MAX_GROUP];
    float logSumExp[MAX_GROUP];
    int scan[WARPS][2];
    int threshold;
    int above;
    int offsets[2];
};

// Approximate scores of two tokens of a block, `2 * lane` and the next, for all rows. The loads of sixteen channels are under
// way at once: this is bound by latency, not by bytes.
template <int GROUP_ROWS>
__device__ __forceinline__ void approximate(
        const Arguments *a, const uint8_t *index, const Choice &choice, const float *q, int count,
        float (&first)[GROUP_ROWS], float (&second)[GROUP_ROWS]) {
    constexpr int AT_ONCE = 16;
    int lane = threadIdx.x % 32;
    int bits = a->indexBits;
    int headSize = a->headSize;
    const uint16_t *middles = indexMiddles(index, bits, headSize);
    const uint8_t *scales = indexScales(index, bits, headSize);
    int levels = channelLevels(a);
    int multiple = levels / ((1 << bits) - 1);
    int at = 2 * lane * bits;
    unsigned mask = (1u << bits) - 1;
#pragma unroll
    for (int g = 0; g < GROUP_ROWS; g++) {
        first[g] = second[g] = 0;
    }
    for (int base = 0; base < count; base += AT_ONCE) {
        int held = min(AT_ONCE, count - base);
        unsigned words[AT_ONCE];
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++) {
            int c = choice.channels[base + min(i, held - 1)];
            words[i] = reinterpret_cast<const unsigned *>(index + c * 8 * bits)[at / 32];
        }
        int mine = choice.channels[base + min(lane, held - 1)];
        Channel own = channelOf(middles[mine], scales[mine], levels);
        float laneScale = own.scale * multiple;
        float laneZero = own.zero;
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++) {
            float scale = __shfl_sync(~0u, laneScale, i);
            float zero = __shfl_sync(~0u, laneZero, i);
            if (i < held) {
                unsigned word = words[i] >> (at % 32);
                float x = zero + scale * (word & mask);
                float y = zero + scale * (word >> bits & mask);
                const float *row = q + (base + i) * GROUP_ROWS;
#pragma unroll
                for (int g = 0; g < GROUP_ROWS; g++) {
                    first[g] += x * row[g];
                    second[g] += y * row[g];
                }
            }
        }
    }
#pragma unroll
    for (int g = 0; g < GROUP_ROWS; g++) {
        first[g] = capped(first[g], a->scale, a->softCap);
        second[g] = capped(second[g], a->scale, a->softCap);
    }
}

// The critical channels: the largest |query| times extent of the keys. Published is the largest magnitude of the keys; a
// channel with a large mean and a small range shifts all scores alike, so the range is used where ranking is per head.
__device__ __noinline__ int chooseChannels(const Arguments *a, const Place &place, const float *q, int rows, Choice &choice) {
    int headSize = a->headSize;
    const unsigned *range = a->ranges + size_t(place.kvHead) * 2 * headSize;
    int c = threadIdx.x;
    if (c < headSize) {
        float low = unordered(range[c]);
        float high = unordered(range[headSize + c]);
        float extent = a->perHead ? high - low : fmaxf(fabsf(low), fabsf(high));
        float largest = 0;
        for (int g = 0; g < rows; g++) {
            largest = fmaxf(largest, fabsf(q[g * headSize + c]));
        }
        choice.weights[c] = largest * extent;
    }
    __syncthreads();
    int count = min(a->channels, headSize);
    if (c < headSize) {
        float mine = choice.weights[c];
        int before = 0;
        for (int other = 0; other < headSize; other += 4) {
            float4 four = *reinterpret_cast<const float4 *>(choice.weights + other);
            float theirs[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
            for (int j = 0; j < 4; j++) {
                before += theirs[j] > mine || (theirs[j] == mine && other + j < c);
            }
        }
        if (before < count) {
            choice.channels[before] = c;
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

// Writes the dominant tokens of a KV head to its list. `queries`: the group's rows; `work`: BINS words.
template <int GROUP_ROWS>
__device__ void select(
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
    for (int i = threadIdx.x; i < count * GROUP_ROWS; i += THREADS) {
        int g = i % GROUP_ROWS;
        selected[i] = g < rows ? q[g * headSize + choice.channels[i / GROUP_ROWS]] : 0.0f;
    }
    unsigned *histogram = a->histogram + size_t(place.kvHead) * BINS;
    for (int i = BINS * place.member / place.members + threadIdx.x; i < BINS * (place.member + 1) / place.members;
         i += THREADS) {
        histogram[i] = 0;
    }
    __syncthreads();

    int from = static_cast<int>(static_cast<long long>(a->sealed) * place.member / place.members);
    int to = static_cast<int>(static_cast<long long>(a->sealed) * (place.member + 1) / place.members);
    float most[GROUP_ROWS];
    float sum[GROUP_ROWS];
#pragma unroll
    for (int g = 0; g < GROUP_ROWS; g++) {
        most[g] = -INFINITY;
        sum[g] = 0;
    }
    // Scores are kept [row][token]: the second walk is a plain stream.
    size_t stride = size_t(a->sealed) * BLOCK;
    float *scores = a->scores + size_t(place.kvHead) * rows * stride;
    const uint8_t *ahead = from + warp < to ? indexBlock(a, from + warp, place.kvHead) : nullptr;
    for (int block = from + warp; block < to; block += WARPS) {
        const uint8_t *index = ahead;
        if (block + WARPS < to) {
            ahead = indexBlock(a, block + WARPS, place.kvHead);
        }
        float x[GROUP_ROWS];
        float y[GROUP_ROWS];
        approximate<GROUP_ROWS>(a, index, choice, selected, count, x, y);
#pragma unroll
        for (int g = 0; g < GROUP_ROWS; g++) {
            if (g < rows) {
                *reinterpret_cast<float2 *>(scores + g * stride + block * BLOCK + 2 * lane) = make_float2(x[g], y[g]);
            }
            float next = fmaxf(most[g], fmaxf(x[g], y[g]));
            sum[g] = sum[g] * expDifference(most[g], next) + __expf(x[g] - next) + __expf(y[g] - next);
            most[g] = next;
        }
    }
#pragma unroll
    for (int g = 0; g < GROUP_ROWS; g++) {
        float all = warpMax(most[g]);
        float scaled = warpSum(sum[g] * expDifference(most[g], all));
        if (lane == 0) {
            choice.states[warp][g] = make_float2(all, scaled);
        }
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
    int mine = 0;
    for (int i = 0; i < SPAN; i += 4) {
        uint4 four = __ldcg(reinterpret_cast<const uint4 *>(histogram + threadIdx.x * SPAN + i));
        held[i] = four.x;
        held[i + 1] = four.y;
        held[i + 2] = four.z;
        held[i + 3] = four.w;
        mine += four.x + four.y + four.z + four.w;
    }
    int2 before;
    scanPairs(make_int2(mine, 0), before, choice);
    if (before.x < wanted && wanted <= before.x + mine) {
        int above = before.x;
        bool found = false;
#pragma unroll
        for (int i = 0; i < SPAN; i++) {
            if (!found && above + held[i] >= wanted) {
                choice.threshold = threadIdx.x * SPAN + i;
                choice.above = above;
                found = true;
            }
            above += found ? 0 : held[i];
        }
    }
    __syncthreads();
    int threshold = choice.threshold;
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
    int2 total = scanPairs(own, before, choice);
    int2 *counts = a->counts + size_t(place.kvHead) * place.members;
    if (threadIdx.x == 0) {
        counts[place.member] = total;
    }
    barrier(counter, place.members);

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
    barrier(counter, place.members);
}

// ---- attention ---------------------------------------------------------------------------------------------------------

// What a thread block holds of a chunk's output: element e = threadIdx.x + i * THREADS is channel e % headSize of head
// e / headSize.
struct Partial {
    float output[OWNED];
};

struct Softmax {
    float maximum[HEADS];
    float sum[HEADS];
    float correction[HEADS];
    float bias[HEADS];
    float reduced[WARPS];
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

// Reads sixteen channels of a key or value.
__device__ void readUnit(
        const Arguments *a, const Place &place, int token, bool inWindow, bool value, int c, float (&x)[16]) {
    int headSize = a->headSize;
    if (inWindow) {
        const float *source;
        if (token == a->length) {
            source = (value ? a->v : a->k) + size_t(place.kvHead) * headSize;
        } else {
            source = tileKeys(a, token / BLOCK, place.kvHead) + ((value ? BLOCK : 0) + token % BLOCK) * headSize;
        }
#pragma unroll
        for (int j = 0; j < 16; j += 4) {
            float4 four = *reinterpret_cast<const float4 *>(source + c + j);
            x[j] = four.x;
            x[j + 1] = four.y;
            x[j + 2] = four.z;
            x[j + 3] = four.w;
        }
        return;
    }
    int block = token / BLOCK;
    const uint8_t *record = rowRecord(a, block, place.kvHead, token % BLOCK);
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
    const uint8_t *index = indexBlock(a, block, place.kvHead);
    const uint4 *middles = reinterpret_cast<const uint4 *>(indexMiddles(index, a->indexBits, headSize) + c);
    uint4 middleUnits[2] = {middles[0], middles[1]};
    uint4 scaleUnit = *reinterpret_cast<const uint4 *>(indexScales(index, a->indexBits, headSize) + c);
    const uint16_t *middle = reinterpret_cast<const uint16_t *>(middleUnits);
    unsigned scales[4] = {scaleUnit.x, scaleUnit.y, scaleUnit.z, scaleUnit.w};
#pragma unroll
    for (int j = 0; j < 16; j++) {
        Channel channel = channelOf(middle[j], scales[j / 4] >> (j % 4 * 8) & 255, 255);
        x[j] = channel.zero + channel.scale * (words[j / 4] >> (j % 4 * 8) & 255);
    }
}

// Attends to entries [from, to) of: `listed` sealed tokens (all, where list is null), then the window's.
__device__ __noinline__ void attendTokens(
        const Arguments *a, const Place &place, const int *list, int listed, int from, int to, const float *q,
        float *work, Partial &partial, Softmax &state) {
    int headSize = a->headSize;
    int keyStride = headSize + 16;
    float *keys = work;
    float *values = keys + BATCH * keyStride;
    float *weights = values + BATCH * headSize;
    int units = headSize / 16;
    int lane = threadIdx.x % 32;
    int warp = threadIdx.x / 32;
    for (int first = from; first < to; first += BATCH) {
        int held = min(BATCH, to - first);
        for (int i = threadIdx.x; i < held * 2 * units; i += THREADS) {
            int t = i / (2 * units);
            bool value = i % (2 * units) >= units;
            int c = i % units * 16;
            int entry = first + t;
            bool inWindow = entry >= listed;
            int token = inWindow ? a->sealed * BLOCK + entry - listed : list == nullptr ? entry : __ldcg(list + entry);
            float x[16];
            readUnit(a, place, token, inWindow, value, c, x);
            float *target = value ? values + t * headSize + c : keys + t * keyStride + c;
#pragma unroll
            for (int j = 0; j < 16; j += 4) {
                *reinterpret_cast<float4 *>(target + j) = make_float4(x[j], x[j + 1], x[j + 2], x[j + 3]);
            }
        }
        __syncthreads();
        {
            int dot = threadIdx.x / 4;
            int t = dot % BATCH;
            int h = dot / BATCH;
            float sum = 0;
            for (int c = threadIdx.x % 4 * 4; c < headSize; c += 16) {
                float4 x = *reinterpret_cast<const float4 *>(keys + t * keyStride + c);
                float4 y = *reinterpret_cast<const float4 *>(q + h * headSize + c);
                sum += x.x * y.x + x.y * y.y + x.z * y.z + x.w * y.w;
            }
            sum += __shfl_xor_sync(~0u, sum, 1);
            sum += __shfl_xor_sync(~0u, sum, 2);
            if (threadIdx.x % 4 == 0) {
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
                const float *column = values + e % headSize;
                float sum = 0;
                for (int t = 0; t < held; t++) {
                    sum += weight[t] * column[t * headSize];
                }
                partial.output[i] += sum;
            }
        }
        __syncthreads();
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

// Attends to the packed blocks [from, to). The scales of the keys go into the query, their zero points into a bias.
template <int BITS>
__device__ __noinline__ void attendPacked(
        const Arguments *a, const Place &place, int from, int to, const float *q, float *work, Partial &partial,
        Softmax &state) {
    int headSize = a->headSize;
    int groups = valueGroups(headSize);
    int rowBytes = headSize * BITS / 8;
    int lane = threadIdx.x % 32;
    int warp = threadIdx.x / 32;
    float *scaled = work;                                // [headSize][HEADS]
    float *scores = scaled + MAX_HEAD_SIZE * HEADS;      // [4][HEADS][BLOCK]
    float *weights = scores + 4 * HEADS * BLOCK;         // [BLOCK][HEADS]
    int eighths = headSize / 8;
    int slices = THREADS / eighths;
    int slice = threadIdx.x / eighths;
    int c8 = threadIdx.x % eighths * 8;
    float output[HEADS][8];
#pragma unroll
    for (int h = 0; h < HEADS; h++) {
#pragma unroll
        for (int j = 0; j < 8; j++) {
            output[h][j] = 0;
        }
    }
    for (int block = from; block < to; block++) {
        const uint8_t *base = packedBlock(a, block, place.kvHead);
        const __half *fields = reinterpret_cast<const __half *>(base + 2 * BLOCK * rowBytes);
        if (block + 1 < to) {
            const uint8_t *next = packedBlock(a, block + 1, place.kvHead);
            for (int i = threadIdx.x * 128; i < a->packedBytes; i += THREADS * 128) {
                asm volatile("prefetch.global.L2 [%0];" ::"l"(next + i));
            }
        }
        if (warp < HEADS) {
            float bias = 0;
            for (int c = lane; c < headSize; c += 32) {
                float x = q[warp * headSize + c];
                scaled[c * HEADS + warp] = x * __half2float(fields[c]);
                bias += x * __half2float(fields[headSize + c]);
            }
            bias = warpSum(bias);
            if (lane == 0) {
                state.bias[warp] = bias;
            }
        }
        __syncthreads();
        {
            int t = threadIdx.x % BLOCK;
            int quarter = threadIdx.x / BLOCK;
            float s[HEADS] = {0, 0, 0, 0};
            const uint8_t *row = base + t * rowBytes;
            for (int c = quarter * 16; c < headSize; c += 64) {
                unsigned words[(16 * BITS + 31) / 32];
                Codes<BITS>::template read<16>(row + c * BITS / 8, words);
#pragma unroll
                for (int j = 0; j < 16; j++) {
                    float x = Codes<BITS>::at(words, j);
                    float4 y = *reinterpret_cast<const float4 *>(scaled + (c + j) * HEADS);
                    s[0] += x * y.x;
                    s[1] += x * y.y;
                    s[2] += x * y.z;
                    s[3] += x * y.w;
                }
            }
#pragma unroll
            for (int h = 0; h < HEADS; h++) {
                scores[(quarter * HEADS + h) * BLOCK + t] = s[h];
            }
        }
        __syncthreads();
        int h = threadIdx.x / BLOCK;
        float s = state.bias[h];
        for (int quarter = 0; quarter < 4; quarter++) {
            s += scores[quarter * HEADS * BLOCK + threadIdx.x];
        }
        s = capped(s, a->scale, a->softCap);
        float most = warpMax(s);
        if (lane == 0) {
            state.reduced[warp] = most;
        }
        __syncthreads();
        most = fmaxf(fmaxf(state.reduced[2 * h], state.reduced[2 * h + 1]), state.maximum[h]);
        float weight = __expf(s - most);
        weights[threadIdx.x % BLOCK * HEADS + h] = weight;
        float sum = warpSum(weight);
        __syncthreads();
        if (lane == 0) {
            state.reduced[warp] = sum;
        }
        __syncthreads();
        if (threadIdx.x % BLOCK == 0) {
            float correction = expDifference(state.maximum[h], most);
            state.correction[h] = correction;
            state.sum[h] = state.sum[h] * correction + state.reduced[2 * h] + state.reduced[2 * h + 1];
            state.maximum[h] = most;
        }
        __syncthreads();
        if (slice < slices) {
#pragma unroll
            for (int i = 0; i < HEADS; i++) {
                float correction = state.correction[i];
#pragma unroll
                for (int j = 0; j < 8; j++) {
                    output[i][j] *= correction;
                }
            }
            const __half *valueScales = fields + 2 * headSize;
            for (int t = slice; t < BLOCK; t += slices) {
                unsigned words[(8 * BITS + 31) / 32];
                Codes<BITS>::template read<8>(base + (BLOCK + t) * rowBytes + c8 * BITS / 8, words);
                float scale = __half2float(valueScales[t * groups + c8 / GROUP]);
                float zero = __half2float(valueScales[(BLOCK + t) * groups + c8 / GROUP]);
                float4 w = *reinterpret_cast<const float4 *>(weights + t * HEADS);
#pragma unroll
                for (int j = 0; j < 8; j++) {
                    float x = zero + scale * Codes<BITS>::at(words, j);
                    output[0][j] += w.x * x;
                    output[1][j] += w.y * x;
                    output[2][j] += w.z * x;
                    output[3][j] += w.w * x;
                }
            }
        }
        __syncthreads();
    }
    if (slice < slices) {
        for (int h = 0; h < HEADS; h++) {
            for (int j = 0; j < 8; j++) {
                work[(slice * HEADS + h) * headSize + c8 + j] = output[h][j];
            }
        }
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < OWNED; i++) {
        int e = threadIdx.x + i * THREADS;
        if (e < HEADS * headSize) {
            float sum = 0;
            for (int s = 0; s < slices; s++) {
                sum += work[s * HEADS * headSize + e];
            }
            partial.output[i] += sum;
        }
    }
    __syncthreads();
}

// Writes the thread block's part; the last of a chunk merges all parts.
__device__ __noinline__ void finish(
        const Arguments *a, const Place &place, unsigned *arrivals, const Partial &partial, const Softmax &state,
        int heads, float *weights, bool &last) {
    int headSize = a->headSize;
    int stride = HEADS * (headSize + 2);
    float *parts = a->partials + size_t(place.kvHead * place.chunks + place.chunk) * place.parts * stride;
    float *mine = parts + size_t(place.part) * stride;
#pragma unroll
    for (int i = 0; i < OWNED; i++) {
        int e = threadIdx.x + i * THREADS;
        if (e < HEADS * headSize) {
            mine[2 * HEADS + e] = partial.output[i];
        }
    }
    if (threadIdx.x < HEADS) {
        mine[2 * threadIdx.x] = state.maximum[threadIdx.x];
        mine[2 * threadIdx.x + 1] = state.sum[threadIdx.x];
    }
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        last = atomicAdd(arrivals, 1u) == static_cast<unsigned>(place.parts) - 1;
    }
    __syncthreads();
    if (!last) {
        return;
    }
    __threadfence();
    int firstHead = place.kvHead * groupSize(a) + place.chunk * HEADS;
    int lane = threadIdx.x % 32;
    int warp = threadIdx.x / 32;
    if (warp < HEADS) {
        float maxima[MOST_PARTS / 32];
        float sums[MOST_PARTS / 32];
        float most = -INFINITY;
#pragma unroll
        for (int i = 0; i < MOST_PARTS / 32; i++) {
            int p = lane + i * 32;
            maxima[i] = p < place.parts ? __ldcg(parts + size_t(p) * stride + 2 * warp) : -INFINITY;
            sums[i] = p < place.parts ? __ldcg(parts + size_t(p) * stride + 2 * warp + 1) : 0.0f;
            most = fmaxf(most, maxima[i]);
        }
        most = warpMax(most);
        float total = 0;
#pragma unroll
        for (int i = 0; i < MOST_PARTS / 32; i++) {
            maxima[i] = expDifference(maxima[i], most);
            total += maxima[i] * sums[i];
        }
        total = warpSum(total);
#pragma unroll
        for (int i = 0; i < MOST_PARTS / 32; i++) {
            weights[(lane + i * 32) * HEADS + warp] = total == 0 ? 0.0f : maxima[i] / total;
        }
    }
    __syncthreads();
    for (int e = threadIdx.x; e < heads * headSize; e += THREADS) {
        int h = e / headSize;
        float value = 0;
#pragma unroll 16
        for (int p = 0; p < place.parts; p++) {
            value += weights[p * HEADS + h] * __ldcg(parts + size_t(p) * stride + 2 * HEADS + e);
        }
        a->out[size_t(firstHead) * headSize + e] = value;
    }
}

template <int GROUP_ROWS>
__device__ void decode(Arguments *a) {
    extern __shared__ __align__(16) float decodeMemory[];
    __shared__ Choice choice;
    __shared__ Softmax state;
    __shared__ bool last;
    int headSize = a->headSize;
    int group = groupSize(a);
    Place place;
    place.part = blockIdx.x;
    place.parts = gridDim.x;
    place.chunk = blockIdx.y;
    place.chunks = gridDim.y;
    place.kvHead = blockIdx.z;
    place.member = place.chunk * place.parts + place.part;
    place.members = place.parts * place.chunks;
    int firstHead = place.chunk * HEADS;
    int heads = min(HEADS, group - firstHead);

    // The group's queries, with rows of zeros behind them so that every chunk has four.
    float *queries = decodeMemory;
    float *work = queries + (GROUP_ROWS + HEADS) * headSize;
    for (int i = threadIdx.x; i < (GROUP_ROWS + HEADS) * headSize; i += THREADS) {
        queries[i] = i < group * headSize ? a->q[size_t(place.kvHead) * group * headSize + i] : 0.0f;
    }
    if (threadIdx.x < HEADS) {
        state.maximum[threadIdx.x] = -INFINITY;
        state.sum[threadIdx.x] = 0;
    }
    if (place.member == 0) {
        // Nobody reads these slots before the next call: the newest token is taken from the staging memory.
        float *tile = const_cast<float *>(tileKeys(a, a->length / BLOCK, place.kvHead));
        for (int c = threadIdx.x; c < headSize; c += THREADS) {
            tile[a->length % BLOCK * headSize + c] = a->k[place.kvHead * headSize + c];
            tile[(BLOCK + a->length % BLOCK) * headSize + c] = a->v[place.kvHead * headSize + c];
        }
        if (a->queries != nullptr) {
            float *ring = a->queries + (size_t(a->length % a->ring) * a->heads + place.kvHead * group) * headSize;
            for (int i = threadIdx.x; i < group * headSize; i += THREADS) {
                ring[i] = a->q[size_t(place.kvHead) * group * headSize + i];
            }
        }
    }
    __syncthreads();

    int sealedTokens = a->sealed * BLOCK;
    const int *list = nullptr;
    int listed = a->kind == QUANTIZED ? 0 : sealedTokens;
    if (a->kind == RETRIEVAL) {
        int wanted = a->budget + min(a->sinks, sealedTokens);
        if (sealedTokens > wanted) {
            float *selected = work;
            unsigned *bins = reinterpret_cast<unsigned *>(selected + MAX_HEAD_SIZE * (GROUP_ROWS + 1));
            select<GROUP_ROWS>(
                    a, place, wanted, queries, selected, bins, choice, a->counters + place.kvHead);
            list = a->selected + size_t(place.kvHead) * wanted;
            listed = wanted;
        }
    }

    Partial partial;
#pragma unroll
    for (int i = 0; i < OWNED; i++) {
        partial.output[i] = 0;
    }
    const float *q = queries + firstHead * headSize;
    if (a->kind == QUANTIZED) {
        int from = static_cast<int>(static_cast<long long>(a->sealed) * place.part / place.parts);
        int to = static_cast<int>(static_cast<long long>(a->sealed) * (place.part + 1) / place.parts);
        if (from < to) {
            switch (a->bits) {
                case 1: attendPacked<1>(a, place, from, to, q, work, partial, state); break;
                case 2: attendPacked<2>(a, place, from, to, q, work, partial, state); break;
                case 4: attendPacked<4>(a, place, from, to, q, work, partial, state); break;
                default: attendPacked<8>(a, place, from, to, q, work, partial, state); break;
            }
        }
    }
    int entries = listed + a->length + 1 - sealedTokens;
    int from = static_cast<int>(static_cast<long long>(entries) * place.part / place.parts);
    int to = static_cast<int>(static_cast<long long>(entries) * (place.part + 1) / place.parts);
    attendTokens(a, place, list, listed, from, to, q, work, partial, state);
    finish(
            a, place, a->counters + 64 + place.kvHead * place.chunks + place.chunk, partial, state, heads, work, last);
}

// Dynamic shared memory: (rows + 4) * headSize floats for the queries, and the largest of what the phases need:
// 256 * (rows + 1) + BINS, 16 * (2 * headSize + 20), 8192 floats.
#define DECODE(ROWS)                                                                                                   \
    extern "C" __global__ void __launch_bounds__(THREADS) decode##ROWS(Arguments *a) {                                 \
        decode<ROWS>(a);                                                                                               \
    }

DECODE(1)
DECODE(4)
DECODE(8)
DECODE(16)

}  // namespace decoding
