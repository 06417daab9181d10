// The dense preference of a layer: how much of their attention the newest queries leave outside their top tokens
// (DensePreference.java). Two walks over the keys, which `expand` has brought to BF16: the log-sum-exp of every row, then
// a histogram of the logarithms of the weights, 1/32 wide. The host reads the top mass off the histogram.
#include "layout.cuh"

namespace preferring {

constexpr int ROWS = 16;
constexpr int WEIGHT_BINS = 1024;
constexpr float WEIGHT_BINS_PER_NAT = 32.0f;
constexpr int THREADS = 256;

// Rows of the matrix of one KV head: query by query, head by head. The queries lie in the ring, the newest belongs to
// `length - 1`.
struct Rows {
    const Arguments *a;
    int count;
    int length;

    __device__ int position(int row) const { return length - count + row / groupSize(a); }

    __device__ const float *query(int row, int kvHead) const {
        int group = groupSize(a);
        return a->queries + (size_t(position(row) % a->ring) * a->heads + kvHead * group + row % group) * a->headSize;
    }
};

// Scores of four rows and one token: thread t % 64 takes a token, t / 64 a quarter of the rows.
__device__ void scores(
        const Arguments *a, const float *q, const __nv_bfloat16 *keys, int padded, float (&s)[4]) {
    int quarter = threadIdx.x / BLOCK;
    s[0] = s[1] = s[2] = s[3] = 0;
    const __nv_bfloat16 *key = keys + size_t(threadIdx.x % BLOCK) * padded;
    for (int c = 0; c < a->headSize; c += 8) {
        uint4 unit = *reinterpret_cast<const uint4 *>(key + c);
        const __nv_bfloat16 *k = reinterpret_cast<const __nv_bfloat16 *>(&unit);
        float x[8];
#pragma unroll
        for (int j = 0; j < 8; j++) {
            x[j] = __bfloat162float(k[j]);
        }
#pragma unroll
        for (int r = 0; r < 4; r++) {
            const float *row = q + (quarter * 4 + r) * a->headSize + c;
            float4 low = *reinterpret_cast<const float4 *>(row);
            float4 high = *reinterpret_cast<const float4 *>(row + 4);
            s[r] += x[0] * low.x + x[1] * low.y + x[2] * low.z + x[3] * low.w;
            s[r] += x[4] * high.x + x[5] * high.y + x[6] * high.z + x[7] * high.w;
        }
    }
#pragma unroll
    for (int r = 0; r < 4; r++) {
        s[r] = capped(s[r], a->scale, a->softCap);
    }
}

__device__ void loadQueries(const Rows &rows, int first, int total, int kvHead, float *q) {
    int headSize = rows.a->headSize;
    for (int i = threadIdx.x; i < ROWS * headSize; i += THREADS) {
        int row = first + i / headSize;
        q[i] = row < total ? rows.query(row, kvHead)[i % headSize] : 0.0f;
    }
    __syncthreads();
}

// Partial log-sum-exps of the tokens [first, end): parts [kvHead][row][part]. Grid: splits x row tiles x KV heads.
extern "C" __global__ void __launch_bounds__(THREADS) preferenceSums(
        const __grid_constant__ Arguments arguments, const __nv_bfloat16 *keys, int first, int end, int capacity,
        int padded, int queries, int length, float2 *parts, int part, int partCount) {
    const Arguments *a = &arguments;
    extern __shared__ __align__(16) float q[];
    __shared__ float2 reduced[ROWS][BLOCK];
    Rows rows = {a, queries, length};
    int kvHead = blockIdx.z;
    int total = queries * groupSize(a);
    int firstRow = blockIdx.y * ROWS;
    loadQueries(rows, firstRow, total, kvHead, q);
    keys += size_t(kvHead) * capacity * padded;
    float2 state[4] = {{-INFINITY, 0}, {-INFINITY, 0}, {-INFINITY, 0}, {-INFINITY, 0}};
    int quarter = threadIdx.x / BLOCK;
    int blocks = (end - first + BLOCK - 1) / BLOCK;
    for (int block = blockIdx.x; block < blocks; block += gridDim.x) {
        float s[4];
        scores(a, q, keys + size_t(block) * BLOCK * padded, padded, s);
        int token = first + block * BLOCK + threadIdx.x % BLOCK;
        for (int r = 0; r < 4; r++) {
            int row = firstRow + quarter * 4 + r;
            if (row < total && token <= rows.position(row) && token < end) {
                float most = fmaxf(state[r].x, s[r]);
                state[r].y = state[r].y * expDifference(state[r].x, most) + __expf(s[r] - most);
                state[r].x = most;
            }
        }
    }
    for (int r = 0; r < 4; r++) {
        reduced[quarter * 4 + r][threadIdx.x % BLOCK] = state[r];
    }
    __syncthreads();
    if (threadIdx.x < ROWS && firstRow + threadIdx.x < total) {
        float most = -INFINITY;
        for (int t = 0; t < BLOCK; t++) {
            most = fmaxf(most, reduced[threadIdx.x][t].x);
        }
        float sum = 0;
        for (int t = 0; t < BLOCK; t++) {
            sum += reduced[threadIdx.x][t].y * expDifference(reduced[threadIdx.x][t].x, most);
        }
        size_t row = size_t(kvHead) * total + firstRow + threadIdx.x;
        parts[row * partCount + part + blockIdx.x] = make_float2(most, sum);
    }
}

// Adds the tokens [first, end) to the histograms [kvHead][row][WEIGHT_BINS]. Grid as above.
extern "C" __global__ void __launch_bounds__(THREADS) preferenceWeights(
        const __grid_constant__ Arguments arguments, const __nv_bfloat16 *keys, int first, int end, int capacity,
        int padded, int queries, int length, const float2 *parts, int partCount, unsigned *histograms) {
    const Arguments *a = &arguments;
    extern __shared__ __align__(16) float q[];
    __shared__ float logSumExp[ROWS];
    Rows rows = {a, queries, length};
    int kvHead = blockIdx.z;
    int total = queries * groupSize(a);
    int firstRow = blockIdx.y * ROWS;
    unsigned *counts = reinterpret_cast<unsigned *>(q + ROWS * a->headSize);
    for (int i = threadIdx.x; i < ROWS * WEIGHT_BINS; i += THREADS) {
        counts[i] = 0;
    }
    if (threadIdx.x < ROWS && firstRow + threadIdx.x < total) {
        const float2 *mine = parts + (size_t(kvHead) * total + firstRow + threadIdx.x) * partCount;
        float most = -INFINITY;
        for (int i = 0; i < partCount; i++) {
            most = fmaxf(most, mine[i].x);
        }
        float sum = 0;
        for (int i = 0; i < partCount; i++) {
            sum += mine[i].y * expDifference(mine[i].x, most);
        }
        logSumExp[threadIdx.x] = most + logf(sum);
    }
    loadQueries(rows, firstRow, total, kvHead, q);
    keys += size_t(kvHead) * capacity * padded;
    int quarter = threadIdx.x / BLOCK;
    int blocks = (end - first + BLOCK - 1) / BLOCK;
    for (int block = blockIdx.x; block < blocks; block += gridDim.x) {
        float s[4];
        scores(a, q, keys + size_t(block) * BLOCK * padded, padded, s);
        int token = first + block * BLOCK + threadIdx.x % BLOCK;
        for (int r = 0; r < 4; r++) {
            int row = quarter * 4 + r;
            if (firstRow + row < total && token <= rows.position(firstRow + row) && token < end) {
                int bin = static_cast<int>(fminf((logSumExp[row] - s[r]) * WEIGHT_BINS_PER_NAT, WEIGHT_BINS - 1.0f));
                atomicAdd(counts + row * WEIGHT_BINS + max(bin, 0), 1u);
            }
        }
    }
    __syncthreads();
    for (int i = threadIdx.x; i < ROWS * WEIGHT_BINS; i += THREADS) {
        if (counts[i] != 0 && firstRow + i / WEIGHT_BINS < total) {
            atomicAdd(histograms + (size_t(kvHead) * total + firstRow) * WEIGHT_BINS + i, counts[i]);
        }
    }
}

}  // namespace preferring
