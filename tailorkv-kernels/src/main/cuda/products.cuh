// Products of small matrices of halves on the tensor cores.
#pragma once

#include "layout.cuh"

namespace decoding {

// Two floats as halves, those beyond the largest half as that.
__device__ __forceinline__ unsigned inRange(float x, float y) {
    constexpr float MOST = 60000.0f;
    __half2 pair = __floats2half2_rn(fminf(fmaxf(x, -MOST), MOST), fminf(fmaxf(y, -MOST), MOST));
    return *reinterpret_cast<unsigned *>(&pair);
}

// c += a * b: 16 x 16 by 16 x 8, the registers of a lane as PTX lays them out for mma.m16n8k16.
__device__ __forceinline__ void multiply(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    asm volatile(
            "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

}  // namespace decoding
