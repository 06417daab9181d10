// Attention of one token over one layer in one launch: staging, append, selection, gather, attention, merge.
//
// Grid: P x chunks x KV heads, 256 threads. A chunk is up to four query heads of a head group; the thread blocks of a
// chunk share its tokens (split-K), each keeps a running maximum, a sum and an unnormalised output, and the last one to
// finish merges them and writes to mapped host memory. The arguments come with the launch, q, k and v from mapped host
// memory, and the end is a word that the host polls: a step is one call of the driver.
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
//
// What the link to the host is slow at is translating addresses, page by page of 64 KiB, some 13 ns each, and 4,096 rows
// anywhere in 256 MiB lie on most of the pages. So a thread block of each KV head asks for one word of every page of the next
// layer's rows meanwhile, and the pages are known to the link when its turn comes.
#include "layout.cuh"

namespace decoding {

constexpr int THREADS = 256;
constexpr int WARPS = THREADS / 32;
constexpr int HEADS = 4;     // query heads of a chunk
constexpr int BATCH = 20;    // tokens staged at a time
constexpr int MAX_GROUP = 16;
constexpr int MOST_PARTS = 64;
constexpr int MAX_HEAD_SIZE = 256;
constexpr int OWNED = HEADS * MAX_HEAD_SIZE / THREADS;
constexpr int ARRIVALS = 64;       // of the counters
constexpr int FINISHED = 128;
constexpr int DONE = 129;          // the ticket of the last launch
constexpr uint64_t LINK_PAGE = 64 << 10;

struct Place {
    int part;      // of the chunk's tokens
    int parts;
    int chunk;
    int chunks;
    int kvHead;
    int member;    // of the KV head
    int members;
};

// The two halves of a barrier: what a thread block wrote before it arrives, others see after they have waited.
__device__ __forceinline__ unsigned arrive(unsigned *counter, unsigned members) {
    __syncthreads();
    unsigned target = 0;
    if (threadIdx.x == 0) {
        unsigned ticket;
        asm volatile("atom.add.acq_rel.gpu.global.u32 %0, [%1], 1;" : "=r"(ticket) : "l"(counter) : "memory");
        target = (ticket / members + 1) * members;
    }
    return target;
}

__device__ __forceinline__ void await(unsigned *counter, unsigned target) {
    if (threadIdx.x == 0) {
        unsigned arrived;
        do {
            asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(arrived) : "l"(counter) : "memory");
        } while (arrived < target);
    }
    __syncthreads();
}

__device__ __forceinline__ void barrier(unsigned *counter, unsigned members) { await(counter, arrive(counter, members)); }

// Brings q, k and v of a KV head from host memory to where its thread blocks read them.
__device__ void stage(const Arguments *a, const Place &place) {
    int each = a->headSize / 4;
    int group = groupSize(a) * each;
    float4 *target = reinterpret_cast<float4 *>(const_cast<float *>(a->q));
    const float4 *source = reinterpret_cast<const float4 *>(a->staged);
    for (int i = place.member * THREADS + threadIdx.x; i < group + 2 * each; i += place.members * THREADS) {
        int at = i < group ? place.kvHead * group + i
                           : (a->heads + place.kvHead) * each + i - group + (i < group + each ? 0 : (a->kvHeads - 1) * each);
        target[at] = __ldcv(source + at);
    }
}

// Asks for a word of every page that rows of the next layer lie on, a few at a time: other thread blocks' addresses are
// translated in between. Ends when this layer is done.
__device__ void touchPages(const Arguments *a, const Place &place) {
    if (place.chunk > 0 || threadIdx.x >= a->touching) {
        return;
    }
    uint64_t bytes = uint64_t(a->kvHeads) * BLOCK * a->recordBytes;
    int step = a->kvHeads * a->touching;
    unsigned zero = 0;
    for (int block = place.kvHead + threadIdx.x * a->kvHeads; block < a->nextSealed; block += step) {
        uint64_t first = a->nextBlocks[block].rows;
        uint64_t at = block > 0 && a->nextBlocks[block - 1].rows + bytes == first
                ? (first + LINK_PAGE - 1) & -LINK_PAGE
                : first;
        while (at < first + bytes) {
            unsigned word = *reinterpret_cast<volatile unsigned *>(at + zero);
            // Zero, but only known when the word has come.
            asm volatile("and.b32 %0, %1, 0;" : "=r"(zero) : "r"(word));
            at = (at & -LINK_PAGE) + LINK_PAGE;
        }
        if (*reinterpret_cast<volatile unsigned *>(a->counters + DONE) == a->ticket) {
            return;
        }
    }
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

    __device__ __forceinline__ void load(const uint8_t *index, const int *channels, int headSize) {
        int lane = threadIdx.x % 32;
        const uint8_t *codes = index + lane / 4 * BITS;
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const uint8_t *at = codes + channels[lane % 4 * 2 + j % 2 + j / 2 * 8] * 8 * BITS;
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
        int own = channels[lane % 16];
        middle = indexMiddles(index, BITS, headSize)[own];
        scale = indexScales(index, BITS, headSize)[own];
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

__device__ __forceinline__ unsigned inRange(float x, float y) {
    constexpr float MOST = 60000.0f;
    __half2 pair = __floats2half2_rn(fminf(fmaxf(x, -MOST), MOST), fminf(fmaxf(y, -MOST), MOST));
    return *reinterpret_cast<unsigned *>(&pair);
}

__device__ __forceinline__ void multiply(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    asm volatile(
            "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

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
        now.load(indexBlock(a, block, place.kvHead), choice.channels, headSize);
        advance(blockAhead, stepAhead);
        next.load(indexBlock(a, blockAhead, place.kvHead), choice.channels + stepAhead * 16, headSize);
        advance(blockAhead, stepAhead);
        ahead = indexBlock(a, blockAhead, place.kvHead);
    }
    float acc[4][TILES][4];
    float bias[TILES];
    for (int item = 0; item < items * steps; item++) {
        Strips<BITS> afterNext;
        afterNext.load(ahead, choice.channels + stepAhead * 16, headSize);
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
    int exponent = static_cast<int>(__float_as_uint(choice.weights[choice.channels[0]]) >> 23 & 255) - 127;
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
        sources.parameters[threadIdx.x] = reinterpret_cast<const uint8_t *>(
                indexMiddles(indexBlock(a, block, place.kvHead), a->indexBits, a->headSize));
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

// Writes the thread block's part; the last of a chunk merges all parts, and the last chunk tells the host.
__device__ __noinline__ void finish(
        const Arguments *a, const Place &place, const Partial &partial, const Softmax &state, int heads, float *weights,
        bool &last) {
    int headSize = a->headSize;
    int stride = HEADS * (headSize + 2);
    float *parts = a->partials + size_t(place.kvHead * place.chunks + place.chunk) * place.parts * stride;
    float *mine = parts + size_t(place.part) * stride;
    unsigned *arrivals = a->counters + ARRIVALS + place.kvHead * place.chunks + place.chunk;
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
    __threadfence_system();
    __syncthreads();
    if (threadIdx.x == 0) {
        *arrivals = 0;
        unsigned chunks = place.chunks * a->kvHeads;
        if (atomicAdd(a->counters + FINISHED, 1u) == chunks - 1) {
            __threadfence_system();
            *reinterpret_cast<volatile unsigned *>(a->flag) = a->ticket;
            // All thread blocks are past their last barrier, and the next launch comes after this one.
            a->counters[DONE] = a->ticket;
            a->counters[FINISHED] = 0;
            for (int head = 0; head < a->kvHeads; head++) {
                a->counters[head] = 0;
            }
        }
    }
}

template <int GROUP_ROWS>
__device__ void decode(const Arguments &parameters) {
    extern __shared__ __align__(16) float decodeMemory[];
    __shared__ Arguments arguments;
    __shared__ Choice choice;
    __shared__ Softmax state;
    __shared__ Sources sources;
    __shared__ bool last;
    if (threadIdx.x < sizeof(Arguments) / sizeof(unsigned)) {
        reinterpret_cast<unsigned *>(&arguments)[threadIdx.x] = reinterpret_cast<const unsigned *>(&parameters)[threadIdx.x];
    }
    __syncthreads();
    const Arguments *a = &arguments;
    int headSize = a->headSize;
    int group = groupSize(a);
    Place place;
    place.part = blockIdx.x;
    place.parts = a->nextBlocks == nullptr ? gridDim.x : gridDim.x - 1;
    place.chunk = blockIdx.y;
    place.chunks = gridDim.y;
    place.kvHead = blockIdx.z;
    place.member = place.chunk * place.parts + place.part;
    place.members = place.parts * place.chunks;
    if (place.part == place.parts) {
        touchPages(a, place);
        return;
    }
    int firstHead = place.chunk * HEADS;
    int heads = min(HEADS, group - firstHead);

    unsigned *counter = a->counters + place.kvHead;
    stage(a, place);
    barrier(counter, place.members);
    int sealedTokens = a->sealed * BLOCK;
    int wanted = a->budget + min(a->sinks, sealedTokens);
    bool selecting = a->kind == RETRIEVAL && sealedTokens > wanted;

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

    const int *list = nullptr;
    int listed = a->kind == QUANTIZED ? 0 : sealedTokens;
    unsigned target = 0;
    if (selecting) {
        float *selected = work;
        unsigned *bins = reinterpret_cast<unsigned *>(selected + MAX_HEAD_SIZE * (GROUP_ROWS + 1));
        target = select<GROUP_ROWS>(a, place, wanted, queries, selected, bins, choice, counter);
        list = a->selected + size_t(place.kvHead) * wanted;
        listed = wanted;
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
    auto share = [&](int tokens, int part) { return static_cast<int>(static_cast<long long>(tokens) * part / place.parts); };
    Batch batch(a, work);
    int window = a->length + 1 - sealedTokens;
    attendWindow(
            a, place, sealedTokens + share(window, place.part), sealedTokens + share(window, place.part + 1), q, batch,
            partial, state);
    if (selecting) {
        await(counter, target);
    }
    attendRows(
            a, place, list, share(listed, place.part), share(listed, place.part + 1), q, batch, partial, state, sources);
    finish(a, place, partial, state, heads, work, last);
}

// Dynamic shared memory: (rows + 4) * headSize floats for the queries, and the largest of what the phases need:
// 256 * (rows + 1) + BINS, 20 * (2 * headSize + 12) and 20 rows as they are stored with 3 * headSize bytes each, 8192 floats.
#define DECODE(ROWS)                                                                                                   \
    extern "C" __global__ void __launch_bounds__(THREADS, 2) decode##ROWS(                                             \
            const __grid_constant__ Arguments arguments) {                                                             \
        decode<ROWS>(arguments);                                                                                       \
    }

DECODE(1)
DECODE(4)
DECODE(8)
DECODE(16)

}  // namespace decoding
