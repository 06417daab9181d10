// What the kernels of the GPU share: the argument block, the layouts of a block of 64 tokens, and conversions.
//
// A block has up to five parts, each of all KV heads, whose addresses stand in a table. They may lie in GPU memory or in
// pinned host memory: unified addressing lets the same load serve both, so a block that found no room on the GPU is merely
// slower.
//
//   tile     F32, exact        [kvHead]{ key[64][headSize], value[64][headSize] }
//   index    retrieval, open   [kvHead]{ codes[indexed][8 * indexBits bytes], u16 middle[headSize], u8 scale[headSize] }
//   rows     retrieval, open   [kvHead][64]{ u8 key[headSize], u8 value[headSize], f16 scale[groups], f16 zero[groups] }
//                              or [kvHead][64]{ bf16 key[headSize], bf16 value[headSize] }
//   packed   quantized         [kvHead]{ key[64][headSize * bits / 8], value likewise, f16 keyScale[headSize],
//                                        f16 keyZero[headSize], f16 valueScale[64][groups], f16 valueZero[64][groups] }
//
// Codes are little-endian bit strings. The index is channel by channel, for a query reads few channels of all tokens; the
// rows are token by token, for it reads all channels of few tokens. Index and int8 rows share the parameters of a channel
// that lie beside the index, which holds codes of the channels that are critical to the newest queries of the prompt: it has
// room for them from the start, and gets them from the rows when the layer becomes one of retrieval. A code of the index is
// the rows' 8-bit code divided by 255 / most, rounded, so that its first and last levels are the smallest and the largest
// key of the block. A needle is such an extreme, and one that looks an eighth smaller than it is loses to tokens that are
// none.
//
// Three bytes keep the parameters: the middle between the extremes is a half without its two lowest bits, in whose place
// are the lowest of the scale's ten (5 exponent, 5 mantissa). The scale is rounded up so that the codes reach the extremes.
#pragma once

#include <cstdint>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

constexpr int BLOCK = 64;
constexpr int GROUP = 64;

// Tokens in a tile of keys or values that `expand` lays out for warpgroups.
constexpr int EXPANDED_TILE = 128;

constexpr int BINS = 4096;
constexpr float BINS_PER_NAT = 128.0f;

enum Kind { OPEN = 0, EXACT = 1, QUANTIZED = 2, RETRIEVAL = 3 };

// Addresses of the parts of a block; 0 for one that is not there.
struct Homes {
    uint64_t tile;
    uint64_t index;
    uint64_t rows;
    uint64_t packed;
    uint64_t hostRows;  // second home of the rows while a layer is open
};

// The parameter of every kernel, by value: nothing has to be copied before a launch. The offsets are those of
// GpuArguments.java.
struct Arguments {
    const Homes *blocks;        //   0
    unsigned *ranges;           //   8  [kvHead][2][headSize], floats in an order that atomicMin and atomicMax keep
    float *queries;             //  16  ring of the newest queries, 0 for none
    const float *q;             //  24
    const float *k;             //  32
    const float *v;             //  40
    float *out;                 //  48  of a decode step mapped host memory
    float *partials;            //  56
    unsigned *histogram;        //  64  [kvHead][BINS]
    uint16_t *bins;             //  72  [kvHead][sealed * 64]
    int *selected;              //  80  [kvHead][budget + sinks]
    float2 *shares;             //  88  [kvHead][members][16]
    int2 *counts;               //  96  [kvHead][members]
    float *scores;              // 104  [kvHead][row][sealed * 64]
    int heads;                  // 112
    int kvHeads;                // 116
    int headSize;               // 120
    int kind;                   // 124
    int bits;                   // 128
    int indexBits;              // 132
    int bfloat16Rows;           // 136
    int recordBytes;            // 140
    int indexBytes;             // 144
    int packedBytes;            // 148
    int sealed;                 // 152  blocks
    int length;                 // 156  tokens before this call
    int n;                      // 160
    int budget;                 // 164
    int sinks;                  // 168
    int channels;               // 172
    int perHead;                // 176
    int ring;                   // 180  capacity of the ring
    float scale;                // 184
    float softCap;              // 188
    unsigned *counters;         // 192  arrivals: [kvHead] for barriers, [64 + unit] and [128] for the last one out;
                                //      zero, and a launch leaves them so; [129] the ticket of the last launch
    const float *staged;        // 200  q, k and v of a decode step in mapped host memory; they go where q points
    unsigned *flag;             // 208  mapped host memory that a decode step writes its ticket to when out is there
    unsigned ticket;            // 216
    int touching;               // 220  pages that may be asked for at a time
    const Homes *nextBlocks;    // 224  of the retrieval layer whose turn is next, 0 for none
    int nextSealed;             // 232
    int indexedCount;           // 236  channels of a KV head that the index holds
    const uint16_t *indexed;    // 240  [kvHead][indexedCount], ascending; 0 while they are not chosen
};
static_assert(sizeof(Arguments) == 248);

__device__ __forceinline__ int groupSize(const Arguments *a) { return a->heads / a->kvHeads; }

__device__ __forceinline__ int valueGroups(int headSize) { return (headSize + GROUP - 1) / GROUP; }

__device__ __forceinline__ const float *tileKeys(const Arguments *a, int block, int head) {
    return reinterpret_cast<const float *>(a->blocks[block].tile) + size_t(head) * 2 * BLOCK * a->headSize;
}

__device__ __forceinline__ const uint8_t *indexBlock(const Arguments *a, int block, int head) {
    return reinterpret_cast<const uint8_t *>(a->blocks[block].index) + size_t(head) * a->indexBytes;
}

__device__ __forceinline__ const uint8_t *rowRecord(const Arguments *a, int block, int head, int token) {
    return reinterpret_cast<const uint8_t *>(a->blocks[block].rows) + (size_t(head) * BLOCK + token) * a->recordBytes;
}

__device__ __forceinline__ const uint8_t *packedBlock(const Arguments *a, int block, int head) {
    return reinterpret_cast<const uint8_t *>(a->blocks[block].packed) + size_t(head) * a->packedBytes;
}

// Where the parameters of the channels begin in an index block; a multiple of 16.
__device__ __forceinline__ int indexParameters(const Arguments *a) { return a->indexedCount * 8 * a->indexBits; }

// The largest code that the scales of the index are for.
__device__ __forceinline__ int channelLevels(const Arguments *a) {
    return a->bfloat16Rows ? (1 << a->indexBits) - 1 : 255;
}

// Of a channel in a block: an element is zero + scale * code.
struct Channel {
    float scale;
    float zero;
};

__device__ __forceinline__ Channel channelOf(unsigned middle, unsigned scale, int levels) {
    Channel channel;
    channel.scale = __half2float(__ushort_as_half(static_cast<unsigned short>((scale << 2 | (middle & 3)) << 5)));
    channel.zero = __half2float(__ushort_as_half(static_cast<unsigned short>(middle & ~3u))) - 0.5f * levels * channel.scale;
    return channel;
}

// The parameters of a channel in an index block.
__device__ __forceinline__ Channel channelIn(const Arguments *a, const uint8_t *index, int c) {
    const uint8_t *parameters = index + indexParameters(a);
    return channelOf(
            reinterpret_cast<const uint16_t *>(parameters)[c], parameters[2 * a->headSize + c], channelLevels(a));
}

__device__ __forceinline__ __half halfFloor(float x) {
    return __float2half_rd(fminf(fmaxf(x, -65504.0f), 65504.0f));
}

__device__ __forceinline__ __half halfCeil(float x) {
    return __float2half_ru(fminf(fmaxf(x, -65504.0f), 65504.0f));
}

// Parameters of a channel whose elements lie in [low, high]; of one without elements, where low > high, zeros.
__device__ __forceinline__ Channel channelFor(float low, float high, int levels, uint16_t &middle, uint8_t &scale) {
    float wanted = low <= high ? 0.5f * low + 0.5f * high : 0.0f;
    unsigned bits = __half_as_ushort(__float2half_rn(fminf(fmaxf(wanted, -65504.0f), 65504.0f)));
    unsigned rounded = (bits & 0x8000u) | (min((bits & 0x7fffu) + 2, 0x7bffu) & ~3u);
    float centre = __half2float(__ushort_as_half(static_cast<unsigned short>(rounded)));
    float reach = low <= high ? fmaxf(high - centre, centre - low) : 0.0f;
    unsigned ten = min((static_cast<unsigned>(__half_as_ushort(halfCeil(2 * reach / levels))) + 31) >> 5, 0x3dfu);
    middle = static_cast<uint16_t>(rounded | (ten & 3));
    scale = static_cast<uint8_t>(ten >> 2);
    return channelOf(middle, scale, levels);
}

__device__ __forceinline__ int quantize(float x, float inverse, float zero, int most) {
    return min(max(static_cast<int>((x - zero) * inverse + 0.5f), 0), most);
}

// Floats as integers in the same order.
__device__ __forceinline__ unsigned ordered(float x) {
    unsigned bits = __float_as_uint(x);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

__device__ __forceinline__ float unordered(unsigned x) {
    return __uint_as_float(x & 0x80000000u ? x & 0x7fffffffu : ~x);
}

// What the keys do in a channel. Published is their largest magnitude; a channel with a large mean and a small range shifts
// all scores alike, so the range is used where ranking is per head.
__device__ __forceinline__ float extentOf(const Arguments *a, int head, int c) {
    const unsigned *range = a->ranges + size_t(head) * 2 * a->headSize;
    float low = unordered(range[c]);
    float high = unordered(range[a->headSize + c]);
    return a->perHead ? high - low : fmaxf(fabsf(low), fabsf(high));
}

__device__ __forceinline__ float warpMax(float x) {
    for (int i = 16; i > 0; i /= 2) {
        x = fmaxf(x, __shfl_xor_sync(~0u, x, i));
    }
    return x;
}

__device__ __forceinline__ float warpMin(float x) {
    for (int i = 16; i > 0; i /= 2) {
        x = fminf(x, __shfl_xor_sync(~0u, x, i));
    }
    return x;
}

__device__ __forceinline__ float warpSum(float x) {
    for (int i = 16; i > 0; i /= 2) {
        x += __shfl_xor_sync(~0u, x, i);
    }
    return x;
}

// Its absolute error is that of the exponential, 1e-7: softCap * tanh only has to be good against softCap.
__device__ __forceinline__ float fastTanh(float x) { return 1.0f - 2.0f / (__expf(2.0f * x) + 1.0f); }

__device__ __forceinline__ float capped(float score, float scale, float softCap) {
    score *= scale;
    return softCap == 0 ? score : softCap * fastTanh(score / softCap);
}

// exp(x - y) that is 0 where x is minus infinity, whatever y is.
__device__ __forceinline__ float expDifference(float x, float y) {
    return x == -INFINITY ? 0.0f : __expf(x - y);
}

// The code at element `at` of a bit string; `BITS` divides 8.
template <int BITS>
__device__ __forceinline__ unsigned codeAt(const uint8_t *codes, int at) {
    if constexpr (BITS == 8) {
        return codes[at];
    } else {
        return codes[at * BITS / 8] >> (at * BITS % 8) & ((1 << BITS) - 1);
    }
}

__device__ __forceinline__ unsigned codeAt(const uint8_t *codes, int bits, int at) {
    return codes[at * bits / 8] >> (at * bits % 8) & ((1 << bits) - 1);
}
