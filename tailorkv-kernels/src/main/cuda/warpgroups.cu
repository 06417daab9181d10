// The attention of prefill.cu for Hopper, whose tensor cores four warps feed together, straight from shared memory (wgmma;
// the order of things is that of FlashAttention-3, Shah et al. 2024). Two warpgroups of consumers have 64 rows each; a
// third copies tiles of 128 keys and values as `expand` has laid them out, and lends them its registers. While the tensor
// cores multiply the weights of one tile by its values, the weights of the next are computed from its scores.
#include "prefill.cuh"

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

namespace prefilling {

constexpr int CONSUMERS = 2;
constexpr int CONSUMER_WARPS = CONSUMERS * 4;
constexpr int THREADS = (CONSUMERS + 1) * 128;
constexpr int GROUP_ROWS = 64;
constexpr int STAGES = 2;

// How many 16-byte units an operand goes on by in a step of 16 channels, and the bytes of eight rows.
constexpr int STEP = 2;
constexpr int ATOM_BYTES = 1024;

__device__ __forceinline__ void initBarrier(uint32_t barrier, int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals));
}

__device__ __forceinline__ void arrive(uint32_t barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

__device__ __forceinline__ void waitFor(uint32_t barrier, int parity) {
    asm volatile(
            "{\n"
            ".reg .pred done;\n"
            "again:\n"
            "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
            "@!done bra again;\n"
            "}" ::"r"(barrier),
            "r"(parity)
            : "memory");
}

// Copies a stretch of global memory; the barrier hears of its bytes.
__device__ __forceinline__ void copyBulk(uint32_t target, const void *source, int bytes, uint32_t barrier) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
    asm volatile(
            "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(target),
            "l"(source), "r"(bytes), "r"(barrier)
            : "memory");
}

// A matrix in shared memory in rows of 64 elements whose 16-byte units are mixed within eight rows (the 128-byte swizzle).
// `next`: bytes from 64 columns to the next 64, for a matrix that is read by columns.
__device__ __forceinline__ uint64_t descriptor(uint32_t address, int next) {
    return static_cast<uint64_t>((address & 0x3ffff) >> 4) | static_cast<uint64_t>(next >> 4) << 16
            | static_cast<uint64_t>(ATOM_BYTES >> 4) << 32 | 1ull << 62;
}

__device__ __forceinline__ void beginProducts() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }

__device__ __forceinline__ void commitProducts() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

// Waits until at most `LEFT` groups of products are under way.
template <int LEFT>
__device__ __forceinline__ void awaitProducts() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(LEFT) : "memory");
}

#define FOUR(x, t) "+f"(x[t][0]), "+f"(x[t][1]), "+f"(x[t][2]), "+f"(x[t][3])
#define THIRTY_TWO(x, t)                                                                                               \
    FOUR(x, t), FOUR(x, t + 1), FOUR(x, t + 2), FOUR(x, t + 3), FOUR(x, t + 4), FOUR(x, t + 5), FOUR(x, t + 6),        \
            FOUR(x, t + 7)

// score = or += 64 rows in shared memory times 128 keys, 16 channels of both.
__device__ __forceinline__ void multiplyKeys(float (&score)[16][4], uint64_t q, uint64_t k, int add) {
    asm volatile(
            "{\n"
            ".reg .pred add;\n"
            "setp.ne.b32 add, %66, 0;\n"
            "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
            "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, "
            "%23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, "
            "%44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
            "%64, %65, add, 1, 1, 0, 0;\n"
            "}"
            : THIRTY_TWO(score, 0), THIRTY_TWO(score, 8)
            : "l"(q), "l"(k), "r"(add));
}

// output += weights of 64 rows and 16 tokens in registers times the values of these tokens, read by columns.
__device__ __forceinline__ void multiplyValues(float (&output)[16][4], const uint32_t (&weights)[4], uint64_t v) {
    asm volatile(
            "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
            "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, "
            "%23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, "
            "%44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
            "{%64, %65, %66, %67}, %68, 1, 1, 1, 1;"
            : THIRTY_TWO(output, 0), THIRTY_TWO(output, 8)
            : "r"(weights[0]), "r"(weights[1]), "r"(weights[2]), "r"(weights[3]), "l"(v));
}

__device__ __forceinline__ void multiplyValues(float (&output)[8][4], const uint32_t (&weights)[4], uint64_t v) {
    asm volatile(
            "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
            "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, "
            "%23, %24, %25, %26, %27, %28, %29, %30, %31}, "
            "{%32, %33, %34, %35}, %36, 1, 1, 1, 1;"
            : THIRTY_TWO(output, 0)
            : "r"(weights[0]), "r"(weights[1]), "r"(weights[2]), "r"(weights[3]), "l"(v));
}

// Starts the products of a warpgroup's queries and a tile of keys.
template <int D>
__device__ __forceinline__ void startScores(float (&score)[16][4], uint32_t q, uint32_t k) {
    beginProducts();
#pragma unroll
    for (int half = 0; half < D / 64; half++) {
        uint64_t a = descriptor(q + half * GROUP_ROWS * 128, 16);
        uint64_t b = descriptor(k + half * EXPANDED_TILE * 128, 16);
#pragma unroll
        for (int c = 0; c < 4; c++) {
            multiplyKeys(score, a + c * STEP, b + c * STEP, half + c);
        }
    }
    commitProducts();
}

// Starts the products of weights and a tile of values.
template <int D>
__device__ __forceinline__ void startOutput(float (&output)[D / 8][4], const uint32_t (&weights)[8][4], uint32_t v) {
    beginProducts();
#pragma unroll
    for (int t = 0; t < 8; t++) {
        multiplyValues(output, weights[t], descriptor(v + t * 2 * ATOM_BYTES, EXPANDED_TILE * 128));
    }
    commitProducts();
}

__device__ __forceinline__ void packWeights(uint32_t (&weights)[8][4], const float (&score)[16][4]) {
#pragma unroll
    for (int t = 0; t < 8; t++) {
        weights[t][0] = pack(score[2 * t][0], score[2 * t][1]);
        weights[t][1] = pack(score[2 * t][2], score[2 * t][3]);
        weights[t][2] = pack(score[2 * t + 1][0], score[2 * t + 1][1]);
        weights[t][3] = pack(score[2 * t + 1][2], score[2 * t + 1][3]);
    }
}

// Barriers of the tiles on their way: a full one hears of bytes, an empty one of the warps that have read.
struct Barriers {
    uint32_t base;

    __device__ uint32_t at(int kind, int stage) const { return base + (kind * STAGES + stage) * 8; }
    __device__ uint32_t keysFull(int stage) const { return at(0, stage); }
    __device__ uint32_t keysEmpty(int stage) const { return at(1, stage); }
    __device__ uint32_t valuesFull(int stage) const { return at(2, stage); }
    __device__ uint32_t valuesEmpty(int stage) const { return at(3, stage); }
};

__device__ __forceinline__ void release(uint32_t barrier) {
    __syncwarp();
    if (threadIdx.x % 32 == 0) {
        arrive(barrier);
    }
}

template <int D>
__device__ void copyTiles(
        const __nv_bfloat16 *keys, const __nv_bfloat16 *values, int from, int to, uint32_t k, uint32_t v,
        Barriers barriers) {
    constexpr int TILE_BYTES = EXPANDED_TILE * D * 2;
    for (int tile = from; tile < to; tile++) {
        int stage = (tile - from) % STAGES;
        int parity = (tile - from) / STAGES % 2;
        // The first round finds the stages empty.
        waitFor(barriers.keysEmpty(stage), parity ^ 1);
        copyBulk(k + stage * TILE_BYTES, keys + size_t(tile) * EXPANDED_TILE * D, TILE_BYTES, barriers.keysFull(stage));
        waitFor(barriers.valuesEmpty(stage), parity ^ 1);
        copyBulk(
                v + stage * TILE_BYTES, values + size_t(tile) * EXPANDED_TILE * D, TILE_BYTES,
                barriers.valuesFull(stage));
    }
}

// What a warpgroup does: `firstRow` is its own, of all rows of the KV head; states and outputs are those of its rows.
template <int D>
__device__ void attendTiles(
        const Arguments *a, int kvHead, int firstRow, int first, int end, int from, int to, uint32_t q, uint32_t k,
        uint32_t v, __nv_bfloat16 *queries, Barriers barriers, float2 *states, float *outputs, bool fresh) {
    constexpr int TILE_BYTES = EXPANDED_TILE * D * 2;
    int group = groupSize(a);
    int rows = a->n * group;
    int lane = threadIdx.x % 32;
    int warpgroup = threadIdx.x / 128;
    int warpRow = threadIdx.x % 128 / 32 * 16;
    float softCap = a->softCap;
    float scale = a->scale;
    float factor = softCap == 0 ? scale * LOG2E : LOG2E;

    for (int i = threadIdx.x % 128; i < GROUP_ROWS * D / 8; i += 128) {
        int row = i / (D / 8);
        int unit = i % (D / 8);
        int at = (unit / 8 * GROUP_ROWS + row) * 64 + (unit % 8 ^ row % 8) * 8;
        *reinterpret_cast<uint4 *>(queries + at) = queryUnit(a, kvHead, firstRow + row, unit * 8);
    }
    // The tensor cores read what ordinary stores have written.
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    asm volatile("bar.sync %0, 128;" ::"r"(warpgroup + 1) : "memory");

    float maximum[2];
    float sum[2];
    float output[D / 8][4];
    loadState(states, outputs, warpRow, fresh, maximum, sum, output);
    int position[2];
#pragma unroll
    for (int h = 0; h < 2; h++) {
        int r = firstRow + warpRow + h * 8 + lane / 4;
        position[h] = r < rows ? a->length + r / group : -1;
    }
    // From here on a tile has columns that some row must not see.
    int edge = min(end, a->length + firstRow / group + 1);

    auto weigh = [&](float(&score)[16][4], int tile, float(&correction)[2]) {
        int base = first + tile * EXPANDED_TILE;
        if (softCap != 0) {
            capScores(score, scale, softCap);
        }
        if (base + EXPANDED_TILE > edge) {
            int before = base + lane % 4 * 2;
            int last[2] = {min(position[0], end - 1) - before, min(position[1], end - 1) - before};
            maskScores(score, last);
        }
        weighScores(score, factor, maximum, sum, correction);
    };

    if (from < to) {
        float score[16][4];
        float correction[2];
        uint32_t weights[8][4];
        waitFor(barriers.keysFull(0), 0);
        startScores<D>(score, q, k);
        awaitProducts<0>();
        release(barriers.keysEmpty(0));
        weigh(score, from, correction);
        rescale(output, correction);
        packWeights(weights, score);
        for (int tile = from + 1; tile < to; tile++) {
            int stage = (tile - from) % STAGES;
            int parity = (tile - from) / STAGES % 2;
            int stageBefore = (tile - from - 1) % STAGES;
            int parityBefore = (tile - from - 1) / STAGES % 2;
            waitFor(barriers.keysFull(stage), parity);
            startScores<D>(score, q, k + stage * TILE_BYTES);
            waitFor(barriers.valuesFull(stageBefore), parityBefore);
            startOutput<D>(output, weights, v + stageBefore * TILE_BYTES);
            awaitProducts<1>();
            release(barriers.keysEmpty(stage));
            weigh(score, tile, correction);
            awaitProducts<0>();
            release(barriers.valuesEmpty(stageBefore));
            rescale(output, correction);
            packWeights(weights, score);
        }
        int stage = (to - 1 - from) % STAGES;
        waitFor(barriers.valuesFull(stage), (to - 1 - from) / STAGES % 2);
        startOutput<D>(output, weights, v + stage * TILE_BYTES);
        awaitProducts<0>();
    }
    storeState(states, outputs, warpRow, maximum, sum, output);
}

template <int D>
__device__ void attendSegmentInWarpgroups(
        const Arguments *a, const __nv_bfloat16 *keys, const __nv_bfloat16 *values, int first, int end, int capacity,
        float2 *states, float *outputs, int paddedRows, bool fresh, int firstTile) {
    constexpr int TILE_ROWS = CONSUMERS * GROUP_ROWS;
    constexpr int TILE_BYTES = EXPANDED_TILE * D * 2;
    extern __shared__ __align__(128) uint8_t warpgroupMemory[];
    __shared__ uint64_t barrierMemory[4 * STAGES];

    int group = groupSize(a);
    int kvHead = blockIdx.y;
    int split = blockIdx.z;
    int splits = gridDim.z;
    int firstRow = (firstTile + blockIdx.x) * TILE_ROWS;
    int lastToken = min(a->n - 1, (firstRow + TILE_ROWS - 1) / group);
    int visibleEnd = min(end, a->length + lastToken + 1);
    int tiles = visibleEnd > first ? (visibleEnd - first + EXPANDED_TILE - 1) / EXPANDED_TILE : 0;
    int from = tiles * split / splits;
    int to = tiles * (split + 1) / splits;
    if (from == to && !fresh) {
        return;
    }

    // Swizzled rows begin at multiples of 1024 bytes.
    uint8_t *memory = warpgroupMemory + (-shared(warpgroupMemory) & (ATOM_BYTES - 1));
    uint32_t q = shared(memory);
    uint32_t k = q + TILE_ROWS * D * 2;
    uint32_t v = k + STAGES * TILE_BYTES;
    Barriers barriers = {shared(barrierMemory)};
    if (threadIdx.x == 0) {
        for (int stage = 0; stage < STAGES; stage++) {
            initBarrier(barriers.keysFull(stage), 1);
            initBarrier(barriers.keysEmpty(stage), CONSUMER_WARPS);
            initBarrier(barriers.valuesFull(stage), 1);
            initBarrier(barriers.valuesEmpty(stage), CONSUMER_WARPS);
        }
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    }
    __syncthreads();

    size_t headAt = size_t(kvHead) * capacity * D;
    int warpgroup = threadIdx.x / 128;
    if (warpgroup == CONSUMERS) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");
        if (threadIdx.x == CONSUMERS * 128) {
            copyTiles<D>(keys + headAt, values + headAt, from, to, k, v, barriers);
        }
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 240;");
        size_t stateAt = (size_t(split) * a->kvHeads + kvHead) * paddedRows + firstRow + warpgroup * GROUP_ROWS;
        int offset = warpgroup * GROUP_ROWS * D * 2;
        attendTiles<D>(
                a, kvHead, firstRow + warpgroup * GROUP_ROWS, first, end, from, to, q + offset, k, v,
                reinterpret_cast<__nv_bfloat16 *>(memory + offset), barriers, states + stateAt,
                outputs + stateAt * D, fresh);
    }
}

// As the kernels of prefill.cu, with keys and values in tiles. Shared memory: (128 + 4 * 128) * D * 2 + 1024 bytes.
#define WARPGROUP_PREFILL(D)                                                                                           \
    extern "C" __global__ void __launch_bounds__(THREADS, 1) warpgroupPrefill##D(                                      \
            const __grid_constant__ Arguments arguments, const __nv_bfloat16 *keys, const __nv_bfloat16 *values,       \
            int first, int end, int capacity, float2 *states, float *outputs, int paddedRows, int fresh,               \
            int firstTile) {                                                                                           \
        attendSegmentInWarpgroups<D>(                                                                                  \
                &arguments, keys, values, first, end, capacity, states, outputs, paddedRows, fresh != 0, firstTile);   \
    }

WARPGROUP_PREFILL(64)
WARPGROUP_PREFILL(128)

}  // namespace prefilling

#endif
