// The thread blocks of a decode step: their places, their barriers, and what they do for each other.
#pragma once

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

}  // namespace decoding
