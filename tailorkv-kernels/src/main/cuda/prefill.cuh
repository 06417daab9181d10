// What both kernels of prefill share: the softmax of a tile of scores that lies in the registers of a warp as tensor cores
// leave it. A thread holds two rows of 16, `lane / 4` and that plus 8, and of each the columns 8 t + 2 (lane % 4) and the
// next: score[t][0] and [1] of the first row, [2] and [3] of the second.
#pragma once

#include "layout.cuh"

namespace prefilling {

constexpr float LOG2E = 1.44269504088896f;

__device__ __forceinline__ uint32_t shared(const void *p) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

__device__ __forceinline__ uint32_t pack(float low, float high) {
    __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<uint32_t *>(&pair);
}

__device__ __forceinline__ float exp2Fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// Eight channels of a query in BF16, zeros beyond the last row or channel. Row r of a KV head is head r % group of token
// r / group.
__device__ __forceinline__ uint4 queryUnit(const Arguments *a, int kvHead, int row, int channel) {
    int group = groupSize(a);
    if (row >= a->n * group || channel >= a->headSize) {
        return make_uint4(0, 0, 0, 0);
    }
    const float *source =
            a->q + (size_t(row / group) * a->heads + kvHead * group + row % group) * a->headSize + channel;
    float4 x = *reinterpret_cast<const float4 *>(source);
    float4 y = *reinterpret_cast<const float4 *>(source + 4);
    return make_uint4(pack(x.x, x.y), pack(x.z, x.w), pack(y.x, y.y), pack(y.z, y.w));
}

template <int T>
__device__ __forceinline__ void capScores(float (&score)[T][4], float scale, float softCap) {
#pragma unroll
    for (int t = 0; t < T; t++) {
#pragma unroll
        for (int e = 0; e < 4; e++) {
            score[t][e] = capped(score[t][e], scale, softCap);
        }
    }
}

// Hides the columns behind `last`, counted from the thread's first, of either row.
template <int T>
__device__ __forceinline__ void maskScores(float (&score)[T][4], const int (&last)[2]) {
#pragma unroll
    for (int t = 0; t < T; t++) {
#pragma unroll
        for (int e = 0; e < 4; e++) {
            score[t][e] = t * 8 + e % 2 > last[e / 2] ? -INFINITY : score[t][e];
        }
    }
}

// Turns scores into weights against the running maximum, in units of log2(e) as `factor` makes them, adds them up, each
// thread its own columns, and says by what everything summed before must be multiplied.
template <int T>
__device__ __forceinline__ void weighScores(
        float (&score)[T][4], float factor, float (&maximum)[2], float (&sum)[2], float (&correction)[2]) {
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float most = -INFINITY;
#pragma unroll
        for (int t = 0; t < T; t++) {
            most = fmaxf(most, fmaxf(score[t][2 * h], score[t][2 * h + 1]));
        }
        most = fmaxf(most, __shfl_xor_sync(~0u, most, 1));
        most = fmaxf(most, __shfl_xor_sync(~0u, most, 2));
        most = fmaxf(most * factor, maximum[h]);
        float shift = most == -INFINITY ? 0.0f : most;
        correction[h] = exp2Fast(maximum[h] - shift);
        maximum[h] = most;
        float total = 0;
#pragma unroll
        for (int t = 0; t < T; t++) {
#pragma unroll
            for (int e = 0; e < 2; e++) {
                float &s = score[t][2 * h + e];
                s = exp2Fast(fmaf(s, factor, -shift));
                total += s;
            }
        }
        sum[h] = sum[h] * correction[h] + total;
    }
}

template <int T>
__device__ __forceinline__ void rescale(float (&output)[T][4], const float (&correction)[2]) {
#pragma unroll
    for (int t = 0; t < T; t++) {
#pragma unroll
        for (int e = 0; e < 4; e++) {
            output[t][e] *= correction[e / 2];
        }
    }
}

// What a split has of a tile of 16 rows between segments; T is an eighth of the head size. `sum` of the first of the four
// threads of a row is all of it, that of the others zero.
template <int T>
__device__ __forceinline__ void loadState(
        const float2 *states, const float *outputs, int firstRow, bool fresh, float (&maximum)[2], float (&sum)[2],
        float (&output)[T][4]) {
    int lane = threadIdx.x % 32;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        int row = firstRow + h * 8 + lane / 4;
        float2 state = fresh ? make_float2(-INFINITY, 0.0f) : states[row];
        maximum[h] = state.x;
        sum[h] = lane % 4 == 0 ? state.y : 0.0f;
#pragma unroll
        for (int t = 0; t < T; t++) {
            float2 old = make_float2(0.0f, 0.0f);
            if (!fresh) {
                old = *reinterpret_cast<const float2 *>(outputs + size_t(row) * T * 8 + t * 8 + lane % 4 * 2);
            }
            output[t][2 * h] = old.x;
            output[t][2 * h + 1] = old.y;
        }
    }
}

template <int T>
__device__ __forceinline__ void storeState(
        float2 *states, float *outputs, int firstRow, const float (&maximum)[2], const float (&sum)[2],
        const float (&output)[T][4]) {
    int lane = threadIdx.x % 32;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        int row = firstRow + h * 8 + lane / 4;
        // Every thread summed its own columns.
        float total = sum[h];
        total += __shfl_xor_sync(~0u, total, 1);
        total += __shfl_xor_sync(~0u, total, 2);
        if (lane % 4 == 0) {
            states[row] = make_float2(maximum[h], total);
        }
#pragma unroll
        for (int t = 0; t < T; t++) {
            *reinterpret_cast<float2 *>(outputs + size_t(row) * T * 8 + t * 8 + lane % 4 * 2) =
                    make_float2(output[t][2 * h], output[t][2 * h + 1]);
        }
    }
}

}  // namespace prefilling
