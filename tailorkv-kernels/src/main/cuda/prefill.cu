// Causal attention of a chunk of tokens on the tensor cores (FlashAttention-2, Dao 2023), over keys and values that
// `expand` has brought to BF16, segment by segment.
//
// The query heads that share a KV head are rows of one matrix, token by token: row r is head r % group of token r / group,
// so each tile of keys and values is read once for the whole group. A chunk has few rows and a long context, so the tokens
// of a segment are split over thread blocks too, and every split keeps its own running maximum, sum and unnormalised
// output in global memory between segments; `combine` merges them. Maxima are in units of log2(e).
#include "prefill.cuh"

namespace prefilling {

constexpr int WARPS = 4;

// Rows of `D` BF16 in units of 16 bytes; the low three bits of the unit are mixed with the row, so that the eight rows of
// an ldmatrix hit different banks.
template <int D>
__device__ __forceinline__ int swizzled(int row, int unit) {
    return row * D + ((unit ^ (row & 7)) * 8);
}

__device__ __forceinline__ void ldmatrix(uint32_t (&r)[4], uint32_t address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address));
}

__device__ __forceinline__ void ldmatrixTransposed(uint32_t (&r)[4], uint32_t address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address));
}

__device__ __forceinline__ void mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm volatile(
            "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
            : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ void copyAsync(uint32_t target, const void *source) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(target), "l"(source));
}

template <int D>
__device__ __forceinline__ void loadTile(__nv_bfloat16 *tile, const __nv_bfloat16 *source) {
    for (int i = threadIdx.x; i < BLOCK * D / 8; i += WARPS * 32) {
        int row = i / (D / 8);
        int unit = i % (D / 8);
        copyAsync(shared(tile + swizzled<D>(row, unit)), source + size_t(row) * D + unit * 8);
    }
}

// `ROWS` tiles of 16 rows for each warp, `STAGES` tiles of keys and values in flight.
template <int D, int ROWS, int STAGES>
__device__ void attendSegment(
        const Arguments *a, const __nv_bfloat16 *keys, const __nv_bfloat16 *values, int first, int end, int capacity,
        float2 *states, float *outputs, int paddedRows, bool fresh, int firstTile) {
    constexpr int TILE_ROWS = WARPS * 16 * ROWS;
    extern __shared__ __align__(128) __nv_bfloat16 prefillMemory[];
    __nv_bfloat16 *q = prefillMemory;
    __nv_bfloat16 *k = q + TILE_ROWS * D;
    __nv_bfloat16 *v = k + STAGES * BLOCK * D;

    int group = groupSize(a);
    int kvHead = blockIdx.y;
    int split = blockIdx.z;
    int splits = gridDim.z;
    int firstRow = (firstTile + blockIdx.x) * TILE_ROWS;
    int rows = a->n * group;
    int warp = threadIdx.x / 32;
    int lane = threadIdx.x % 32;
    float softCap = a->softCap;
    float scale = a->scale;
    // Of raw scores, or of capped ones.
    float factor = softCap == 0 ? scale * LOG2E : LOG2E;

    size_t stateAt = (size_t(split) * a->kvHeads + kvHead) * paddedRows + firstRow;
    states += stateAt;
    outputs += stateAt * D;

    int lastToken = min(a->n - 1, (firstRow + TILE_ROWS - 1) / group);
    int visibleEnd = min(end, a->length + lastToken + 1);
    int tiles = visibleEnd > first ? (visibleEnd - first + BLOCK - 1) / BLOCK : 0;
    int from = tiles * split / splits;
    int to = tiles * (split + 1) / splits;
    if (from == to && !fresh) {
        return;
    }

    for (int i = threadIdx.x; i < TILE_ROWS * D / 8; i += WARPS * 32) {
        int row = i / (D / 8);
        int unit = i % (D / 8);
        *reinterpret_cast<uint4 *>(q + swizzled<D>(row, unit)) = queryUnit(a, kvHead, firstRow + row, unit * 8);
    }

    float output[ROWS][D / 8][4];
    float maximum[ROWS][2];
    float sum[ROWS][2];
    int position[ROWS][2];
#pragma unroll
    for (int m = 0; m < ROWS; m++) {
        int row = (warp * ROWS + m) * 16;
        loadState(states, outputs, row, fresh, maximum[m], sum[m], output[m]);
#pragma unroll
        for (int h = 0; h < 2; h++) {
            int r = firstRow + row + h * 8 + lane / 4;
            position[m][h] = r < rows ? a->length + r / group : -1;
        }
    }

    size_t headAt = size_t(kvHead) * capacity * D;
    keys += headAt;
    values += headAt;
#pragma unroll
    for (int s = 0; s < STAGES; s++) {
        if (from + s < to) {
            loadTile<D>(k + s * BLOCK * D, keys + size_t(from + s) * BLOCK * D);
            loadTile<D>(v + s * BLOCK * D, values + size_t(from + s) * BLOCK * D);
        }
        asm volatile("cp.async.commit_group;");
    }

    for (int tile = from; tile < to; tile++) {
        int stage = (tile - from) % STAGES;
        asm volatile("cp.async.wait_group %0;" ::"n"(STAGES - 1));
        __syncthreads();
        const __nv_bfloat16 *kTile = k + stage * BLOCK * D;
        const __nv_bfloat16 *vTile = v + stage * BLOCK * D;

        float score[ROWS][8][4];
#pragma unroll
        for (int m = 0; m < ROWS; m++) {
#pragma unroll
            for (int t = 0; t < 8; t++) {
                score[m][t][0] = score[m][t][1] = score[m][t][2] = score[m][t][3] = 0;
            }
        }
#pragma unroll
        for (int c = 0; c < D / 16; c++) {
            uint32_t qFragment[ROWS][4];
#pragma unroll
            for (int m = 0; m < ROWS; m++) {
                int row = (warp * ROWS + m) * 16 + lane % 16;
                ldmatrix(qFragment[m], shared(q + swizzled<D>(row, c * 2 + lane / 16)));
            }
#pragma unroll
            for (int t = 0; t < 4; t++) {
                uint32_t kFragment[4];
                int row = t * 16 + lane % 8 + lane / 16 * 8;
                ldmatrix(kFragment, shared(kTile + swizzled<D>(row, c * 2 + lane / 8 % 2)));
#pragma unroll
                for (int m = 0; m < ROWS; m++) {
                    mma(score[m][2 * t], qFragment[m], kFragment[0], kFragment[1]);
                    mma(score[m][2 * t + 1], qFragment[m], kFragment[2], kFragment[3]);
                }
            }
        }

        int base = first + tile * BLOCK;
        bool edge = base + BLOCK > a->length + firstRow / group + 1 || base + BLOCK > end;
#pragma unroll
        for (int m = 0; m < ROWS; m++) {
            if (softCap != 0) {
                capScores(score[m], scale, softCap);
            }
            if (edge) {
                int before = base + lane % 4 * 2;
                int last[2] = {min(position[m][0], end - 1) - before, min(position[m][1], end - 1) - before};
                maskScores(score[m], last);
            }
            float correction[2];
            weighScores(score[m], factor, maximum[m], sum[m], correction);
            rescale(output[m], correction);
        }

#pragma unroll
        for (int t = 0; t < 4; t++) {
            uint32_t weights[ROWS][4];
#pragma unroll
            for (int m = 0; m < ROWS; m++) {
                weights[m][0] = pack(score[m][2 * t][0], score[m][2 * t][1]);
                weights[m][1] = pack(score[m][2 * t][2], score[m][2 * t][3]);
                weights[m][2] = pack(score[m][2 * t + 1][0], score[m][2 * t + 1][1]);
                weights[m][3] = pack(score[m][2 * t + 1][2], score[m][2 * t + 1][3]);
            }
#pragma unroll
            for (int d = 0; d < D / 16; d++) {
                uint32_t vFragment[4];
                ldmatrixTransposed(vFragment, shared(vTile + swizzled<D>(t * 16 + lane % 16, d * 2 + lane / 16)));
#pragma unroll
                for (int m = 0; m < ROWS; m++) {
                    mma(output[m][2 * d], weights[m], vFragment[0], vFragment[1]);
                    mma(output[m][2 * d + 1], weights[m], vFragment[2], vFragment[3]);
                }
            }
        }

        __syncthreads();
        if (tile + STAGES < to) {
            loadTile<D>(k + stage * BLOCK * D, keys + size_t(tile + STAGES) * BLOCK * D);
            loadTile<D>(v + stage * BLOCK * D, values + size_t(tile + STAGES) * BLOCK * D);
        }
        asm volatile("cp.async.commit_group;");
    }

#pragma unroll
    for (int m = 0; m < ROWS; m++) {
        storeState(states, outputs, (warp * ROWS + m) * 16, maximum[m], sum[m], output[m]);
    }
}

// Attends from the chunk's tokens to the tokens [first, end) of the context, which lie in `keys` and `values`,
// [kvHead][capacity][D] each. `fresh`: the first segment. Grid: tiles of rows from `firstTile` on x KV heads x splits.
#define PREFILL(D, ROWS, STAGES)                                                                                       \
    extern "C" __global__ void __launch_bounds__(WARPS * 32) prefill##D(                                               \
            const __grid_constant__ Arguments arguments, const __nv_bfloat16 *keys, const __nv_bfloat16 *values,       \
            int first, int end, int capacity, float2 *states, float *outputs, int paddedRows, int fresh,               \
            int firstTile) {                                                                                           \
        attendSegment<D, ROWS, STAGES>(                                                                                \
                &arguments, keys, values, first, end, capacity, states, outputs, paddedRows, fresh != 0, firstTile);   \
    }

// Shared memory of each: (64 * ROWS + 2 * 64 * STAGES) * D * 2 bytes, at most 96 KiB.
PREFILL(64, 2, 2)
PREFILL(128, 2, 2)
PREFILL(192, 1, 1)
PREFILL(256, 1, 1)

// Merges the splits and writes the output of the tokens from `firstToken` on. Grid: tokens x query heads; one thread a
// channel.
extern "C" __global__ void combine(
        const __grid_constant__ Arguments arguments, const float2 *states, const float *outputs, int paddedRows,
        int padded, int splits, int firstToken) {
    const Arguments *a = &arguments;
    int group = groupSize(a);
    int head = blockIdx.y;
    int token = firstToken + blockIdx.x;
    int row = token * group + head % group;
    float most = -INFINITY;
    for (int s = 0; s < splits; s++) {
        most = fmaxf(most, states[(size_t(s) * a->kvHeads + head / group) * paddedRows + row].x);
    }
    for (int c = threadIdx.x; c < a->headSize; c += blockDim.x) {
        float total = 0;
        float value = 0;
        for (int s = 0; s < splits; s++) {
            size_t at = (size_t(s) * a->kvHeads + head / group) * paddedRows + row;
            float2 state = states[at];
            float weight = state.x == -INFINITY ? 0.0f : exp2f(state.x - most);
            total += weight * state.y;
            value += weight * outputs[at * padded + c];
        }
        a->out[(size_t(token) * a->heads + head) * a->headSize + c] = total == 0 ? 0.0f : value / total;
    }
}

}  // namespace prefilling
