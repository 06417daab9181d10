// Moves tokens between their homes: the exact tiles, the index with its rows, and the packed blocks. One thread block
// handles one block of 64 tokens of one KV head. The arithmetic is that of ScalarAttentionKernels but for the
// parameters of the index (layout.cuh).
#include "layout.cuh"

namespace quantizing {

constexpr int THREADS = 256;

__device__ float keyOfRow(const Arguments *a, int block, int head, int token, int c) {
    const uint8_t *record = rowRecord(a, block, head, token);
    if (a->bfloat16Rows) {
        return __bfloat162float(reinterpret_cast<const __nv_bfloat16 *>(record)[c]);
    }
    Channel channel = channelIn(a, indexBlock(a, block, head), c);
    return channel.zero + channel.scale * record[c];
}

__device__ float valueOfRow(const Arguments *a, int block, int head, int token, int c) {
    const uint8_t *record = rowRecord(a, block, head, token);
    int headSize = a->headSize;
    if (a->bfloat16Rows) {
        return __bfloat162float(reinterpret_cast<const __nv_bfloat16 *>(record)[headSize + c]);
    }
    const __half *scales = reinterpret_cast<const __half *>(record + 2 * headSize);
    int group = c / GROUP;
    return __half2float(scales[valueGroups(headSize) + group]) + __half2float(scales[group]) * record[headSize + c];
}

__device__ float keyOfPacked(const Arguments *a, int block, int head, int token, int c) {
    int headSize = a->headSize;
    const uint8_t *base = packedBlock(a, block, head);
    int rowBytes = headSize * a->bits / 8;
    const __half *scales = reinterpret_cast<const __half *>(base + 2 * BLOCK * rowBytes);
    unsigned code = codeAt(base + token * rowBytes, a->bits, c);
    return __half2float(scales[headSize + c]) + __half2float(scales[c]) * code;
}

__device__ float valueOfPacked(const Arguments *a, int block, int head, int token, int c) {
    int headSize = a->headSize;
    int groups = valueGroups(headSize);
    const uint8_t *base = packedBlock(a, block, head);
    int rowBytes = headSize * a->bits / 8;
    const __half *scales = reinterpret_cast<const __half *>(base + 2 * BLOCK * rowBytes) + 2 * headSize;
    int group = token * groups + c / GROUP;
    unsigned code = codeAt(base + (BLOCK + token) * rowBytes, a->bits, c);
    return __half2float(scales[BLOCK * groups + group]) + __half2float(scales[group]) * code;
}

__device__ float keyOf(const Arguments *a, int block, int head, int token, int c, bool fromTile) {
    if (fromTile) {
        return tileKeys(a, block, head)[token * a->headSize + c];
    }
    return a->kind == QUANTIZED ? keyOfPacked(a, block, head, token, c) : keyOfRow(a, block, head, token, c);
}

__device__ float valueOf(const Arguments *a, int block, int head, int token, int c, bool fromTile) {
    if (fromTile) {
        return tileKeys(a, block, head)[(BLOCK + token) * a->headSize + c];
    }
    return a->kind == QUANTIZED ? valueOfPacked(a, block, head, token, c) : valueOfRow(a, block, head, token, c);
}

__device__ __forceinline__ uint4 packed(const float (&x)[8]) {
    uint4 words;
    unsigned *word = reinterpret_cast<unsigned *>(&words);
#pragma unroll
    for (int j = 0; j < 4; j++) {
        __nv_bfloat162 pair = __floats2bfloat162_rn(x[2 * j], x[2 * j + 1]);
        word[j] = *reinterpret_cast<unsigned *>(&pair);
    }
    return words;
}

// Scale and zero point of 64 channels of a token, computed by a warp.
__device__ void valueGroup(float low, float high, int levels, __half &scale, __half &zero) {
    low = warpMin(low);
    high = warpMax(high);
    zero = halfFloor(low == INFINITY ? 0.0f : low);
    float z = __half2float(zero);
    scale = high > z ? halfCeil((high - z) / levels) : __float2half(0.0f);
}

// Writes the tokens of a call behind those that are there. Grid: tokens x KV heads.
extern "C" __global__ void append(const __grid_constant__ Arguments arguments) {
    const Arguments *a = &arguments;
    int headSize = a->headSize;
    int i = blockIdx.x;
    int head = blockIdx.y;
    int position = a->length + i;
    float *tile = const_cast<float *>(tileKeys(a, position / BLOCK, head));
    size_t source = (size_t(i) * a->kvHeads + head) * headSize;
    for (int c = threadIdx.x; c < headSize; c += blockDim.x) {
        tile[position % BLOCK * headSize + c] = a->k[source + c];
        tile[(BLOCK + position % BLOCK) * headSize + c] = a->v[source + c];
    }
}

// Remembers the newest queries of a call, as many as there are or the ring holds. Grid: these x KV heads.
extern "C" __global__ void remember(const __grid_constant__ Arguments arguments) {
    const Arguments *a = &arguments;
    int i = a->n - gridDim.x + blockIdx.x;
    int count = groupSize(a) * a->headSize;
    size_t width = size_t(a->heads) * a->headSize;
    const float *q = a->q + i * width + blockIdx.y * count;
    float *ring = a->queries + (a->length + i) % a->ring * width + blockIdx.y * count;
    for (int c = threadIdx.x; c < count; c += blockDim.x) {
        ring[c] = q[c];
    }
}

// Writes the codes of the indexed channels of a block from its rows.
__device__ void writeIndex(const Arguments *a, int head, uint8_t *index, const uint8_t *records) {
    int bits = a->indexBits;
    int perWord = 32 / bits;
    int most = (1 << bits) - 1;
    int multiple = channelLevels(a) / most;
    for (int i = threadIdx.x; i < a->indexedCount; i += THREADS) {
        int c = a->indexed[head * a->indexedCount + i];
        Channel channel = channelIn(a, index, c);
        float inverse = channel.scale == 0 ? 0.0f : 1.0f / channel.scale;
        unsigned *codes = reinterpret_cast<unsigned *>(index + i * 8 * bits);
        unsigned word = 0;
        for (int t = 0; t < BLOCK; t++) {
            const uint8_t *record = records + t * a->recordBytes;
            unsigned code = a->bfloat16Rows
                    ? quantize(
                            __bfloat162float(reinterpret_cast<const __nv_bfloat16 *>(record)[c]), inverse, channel.zero,
                            most)
                    : (record[c] + multiple / 2) / multiple;
            word |= code << (t % perWord * bits);
            if (t % perWord == perWord - 1) {
                codes[t / perWord] = word;
                word = 0;
            }
        }
    }
}

// Seals tiles of an open or retrieval layer: index, rows, and the second home of the rows. Grid: KV heads x blocks.
extern "C" __global__ void __launch_bounds__(THREADS) sealRows(
        const __grid_constant__ Arguments arguments, int firstBlock) {
    const Arguments *a = &arguments;
    extern __shared__ __align__(16) uint8_t records[];
    int headSize = a->headSize;
    int head = blockIdx.x;
    int block = firstBlock + blockIdx.y;
    int recordBytes = a->recordBytes;
    const float *keys = tileKeys(a, block, head);
    const float *values = keys + BLOCK * headSize;
    uint8_t *index = const_cast<uint8_t *>(indexBlock(a, block, head));
    bool wide = a->bfloat16Rows;

    for (int i = threadIdx.x; i < BLOCK * recordBytes / 4; i += THREADS) {
        reinterpret_cast<unsigned *>(records)[i] = 0;
    }
    __syncthreads();

    int c = threadIdx.x;
    if (c < headSize) {
        float low = INFINITY;
        float high = -INFINITY;
        for (int t = 0; t < BLOCK; t++) {
            float x = keys[t * headSize + c];
            low = fminf(low, x);
            high = fmaxf(high, x);
        }
        int levels = channelLevels(a);
        uint8_t *parameters = index + indexParameters(a);
        Channel channel = channelFor(
                low, high, levels, reinterpret_cast<uint16_t *>(parameters)[c], parameters[2 * headSize + c]);
        float inverse = channel.scale == 0 ? 0.0f : 1.0f / channel.scale;
        for (int t = 0; t < BLOCK; t++) {
            float x = keys[t * headSize + c];
            if (wide) {
                reinterpret_cast<__nv_bfloat16 *>(records + t * recordBytes)[c] = __float2bfloat16_rn(x);
            } else {
                records[t * recordBytes + c] = static_cast<uint8_t>(quantize(x, inverse, channel.zero, levels));
            }
        }
        if (low <= high) {
            unsigned *range = a->ranges + size_t(head) * 2 * headSize;
            atomicMin(range + c, ordered(low));
            atomicMax(range + headSize + c, ordered(high));
        }
    }

    int lane = threadIdx.x % 32;
    int groups = valueGroups(headSize);
    for (int t = threadIdx.x / 32; t < BLOCK; t += THREADS / 32) {
        uint8_t *record = records + t * recordBytes;
        if (wide) {
            for (int e = lane; e < headSize; e += 32) {
                reinterpret_cast<__nv_bfloat16 *>(record)[headSize + e] =
                        __float2bfloat16_rn(values[t * headSize + e]);
            }
            continue;
        }
        __half *fields = reinterpret_cast<__half *>(record + 2 * headSize);
        for (int g = 0; g < groups; g++) {
            int end = min(headSize, (g + 1) * GROUP);
            float low = INFINITY;
            float high = -INFINITY;
            for (int e = g * GROUP + lane; e < end; e += 32) {
                low = fminf(low, values[t * headSize + e]);
                high = fmaxf(high, values[t * headSize + e]);
            }
            __half scale;
            __half zero;
            valueGroup(low, high, 255, scale, zero);
            if (lane == 0) {
                fields[g] = scale;
                fields[groups + g] = zero;
            }
            float s = __half2float(scale);
            float inverse = s == 0 ? 0.0f : 1.0f / s;
            for (int e = g * GROUP + lane; e < end; e += 32) {
                record[headSize + e] = quantize(values[t * headSize + e], inverse, __half2float(zero), 255);
            }
        }
    }
    __syncthreads();

    if (a->indexed != nullptr) {
        writeIndex(a, head, index, records);
    }
    size_t at = size_t(head) * BLOCK * recordBytes;
    uint64_t homes[2] = {a->blocks[block].rows, a->blocks[block].hostRows};
    for (uint64_t home : homes) {
        if (home != 0) {
            uint4 *target = reinterpret_cast<uint4 *>(home + at);
            for (int i = threadIdx.x; i < BLOCK * recordBytes / 16; i += THREADS) {
                target[i] = reinterpret_cast<const uint4 *>(records)[i];
            }
        }
    }
}

// Writes the index of sealed blocks whose channels have been chosen since. Grid: KV heads x blocks.
extern "C" __global__ void __launch_bounds__(THREADS) fillIndex(const __grid_constant__ Arguments arguments) {
    const Arguments *a = &arguments;
    int head = blockIdx.x;
    int block = blockIdx.y;
    writeIndex(a, head, const_cast<uint8_t *>(indexBlock(a, block, head)), rowRecord(a, block, head, 0));
}

// Chooses the channels that the index will hold: those of the largest |query| times extent of the keys, in sum over the newest
// queries. Grid: KV heads.
extern "C" __global__ void __launch_bounds__(THREADS) chooseIndexed(
        const __grid_constant__ Arguments arguments, int queries) {
    const Arguments *a = &arguments;
    __shared__ float weights[THREADS];
    __shared__ bool kept[THREADS];
    int headSize = a->headSize;
    int head = blockIdx.x;
    int group = groupSize(a);
    int c = threadIdx.x;
    if (c < headSize) {
        float weight = 0;
        for (int i = 0; i < queries; i++) {
            int slot = (a->length - 1 - i) % a->ring;
            const float *q = a->queries + (size_t(slot) * a->heads + head * group) * headSize;
            float largest = 0;
            float sum = 0;
            for (int g = 0; g < group; g++) {
                largest = fmaxf(largest, fabsf(q[g * headSize + c]));
                sum += q[g * headSize + c];
            }
            weight += a->perHead ? largest : fabsf(sum / group);
        }
        weights[c] = weight * extentOf(a, head, c);
    }
    __syncthreads();
    if (c < headSize) {
        int before = 0;
        for (int other = 0; other < headSize; other++) {
            before += weights[other] > weights[c] || (weights[other] == weights[c] && other < c);
        }
        kept[c] = before < a->indexedCount;
    }
    __syncthreads();
    if (c < headSize && kept[c]) {
        int at = 0;
        for (int other = 0; other < c; other++) {
            at += kept[other];
        }
        const_cast<uint16_t *>(a->indexed)[head * a->indexedCount + at] = static_cast<uint16_t>(c);
    }
}

// Quantizes blocks for a quantized layer, from the tiles or from the rows of a layer that was open, as `fromTile` says.
// Grid: KV heads x blocks.
extern "C" __global__ void __launch_bounds__(THREADS) sealPacked(
        const __grid_constant__ Arguments arguments, int firstBlock, int fromTile) {
    const Arguments *a = &arguments;
    extern __shared__ __align__(16) float numbers[];
    __shared__ __half keyScale[256];
    __shared__ __half keyZero[256];
    int headSize = a->headSize;
    int head = blockIdx.x;
    int block = firstBlock + blockIdx.y;
    int bits = a->bits;
    int most = (1 << bits) - 1;
    int rowBytes = headSize * bits / 8;
    int groups = valueGroups(headSize);
    uint8_t *base = const_cast<uint8_t *>(packedBlock(a, block, head));
    __half *fields = reinterpret_cast<__half *>(base + 2 * BLOCK * rowBytes);

    for (int i = threadIdx.x; i < BLOCK * headSize; i += THREADS) {
        numbers[i] = fromTile ? keyOf(a, block, head, i / headSize, i % headSize, true)
                              : keyOfRow(a, block, head, i / headSize, i % headSize);
    }
    __syncthreads();
    int c = threadIdx.x;
    if (c < headSize) {
        float low = INFINITY;
        float high = -INFINITY;
        for (int t = 0; t < BLOCK; t++) {
            low = fminf(low, numbers[t * headSize + c]);
            high = fmaxf(high, numbers[t * headSize + c]);
        }
        keyZero[c] = halfFloor(low == INFINITY ? 0.0f : low);
        float z = __half2float(keyZero[c]);
        keyScale[c] = high > z ? halfCeil((high - z) / most) : __float2half(0.0f);
        fields[c] = keyScale[c];
        fields[headSize + c] = keyZero[c];
    }
    __syncthreads();
    int perByte = 8 / bits;
    for (int i = threadIdx.x; i < BLOCK * rowBytes; i += THREADS) {
        int t = i / rowBytes;
        unsigned byte = 0;
        for (int j = 0; j < perByte; j++) {
            int e = i % rowBytes * perByte + j;
            float s = __half2float(keyScale[e]);
            unsigned code = quantize(
                    numbers[t * headSize + e], s == 0 ? 0.0f : 1.0f / s, __half2float(keyZero[e]), most);
            byte |= code << (j * bits);
        }
        base[i] = static_cast<uint8_t>(byte);
    }
    __syncthreads();

    for (int i = threadIdx.x; i < BLOCK * headSize; i += THREADS) {
        numbers[i] = fromTile ? valueOf(a, block, head, i / headSize, i % headSize, true)
                              : valueOfRow(a, block, head, i / headSize, i % headSize);
    }
    __syncthreads();
    __half *valueScales = fields + 2 * headSize;
    __half *valueZeros = valueScales + BLOCK * groups;
    int lane = threadIdx.x % 32;
    for (int t = threadIdx.x / 32; t < BLOCK; t += THREADS / 32) {
        for (int g = 0; g < groups; g++) {
            int end = min(headSize, (g + 1) * GROUP);
            float low = INFINITY;
            float high = -INFINITY;
            for (int e = g * GROUP + lane; e < end; e += 32) {
                low = fminf(low, numbers[t * headSize + e]);
                high = fmaxf(high, numbers[t * headSize + e]);
            }
            __half scale;
            __half zero;
            valueGroup(low, high, most, scale, zero);
            if (lane == 0) {
                valueScales[t * groups + g] = scale;
                valueZeros[t * groups + g] = zero;
            }
            float s = __half2float(scale);
            float inverse = s == 0 ? 0.0f : 1.0f / s;
            int firstByte = g * GROUP / perByte;
            int bytes = (end - g * GROUP) / perByte;
            for (int i = lane; i < bytes; i += 32) {
                unsigned byte = 0;
                for (int j = 0; j < perByte; j++) {
                    int e = (firstByte + i) * perByte + j;
                    byte |= quantize(numbers[t * headSize + e], inverse, __half2float(zero), most) << (j * bits);
                }
                base[(BLOCK + t) * rowBytes + firstByte + i] = static_cast<uint8_t>(byte);
            }
        }
    }
}

// Restores the tile of a sealed block. Grid: KV heads.
extern "C" __global__ void __launch_bounds__(THREADS) restore(
        const __grid_constant__ Arguments arguments, int block, float *tile) {
    const Arguments *a = &arguments;
    int headSize = a->headSize;
    int head = blockIdx.x;
    float *keys = tile + size_t(head) * 2 * BLOCK * headSize;
    for (int i = threadIdx.x; i < BLOCK * headSize; i += THREADS) {
        keys[i] = keyOf(a, block, head, i / headSize, i % headSize, false);
        keys[BLOCK * headSize + i] = valueOf(a, block, head, i / headSize, i % headSize, false);
    }
}

// Where eight channels of a token lie in tiles as warpgroups multiply them: [tile][64 channels][128 tokens], the eight
// units of 16 bytes of a row mixed by its lowest three bits (the 128-byte swizzle of wgmma).
__device__ __forceinline__ size_t inTile(int token, int channel, int padded) {
    int t = token % EXPANDED_TILE;
    int unit = channel / 8 % 8 ^ t % 8;
    return size_t(token - t) * padded + (channel / 64 * EXPANDED_TILE + t) * 64 + unit * 8;
}

// Brings blocks to BF16 for the tensor cores: keys and values [kvHead][capacity][padded], or in `tiles`. Tokens and
// channels beyond the end are zero. Grid: blocks, as many as fill the last tile, x KV heads.
extern "C" __global__ void __launch_bounds__(THREADS) expand(
        const __grid_constant__ Arguments arguments, int firstBlock, int length, int capacity, int padded, int tiles,
        __nv_bfloat16 *k, __nv_bfloat16 *v) {
    const Arguments *a = &arguments;
    __shared__ float keyScale[256];
    __shared__ float keyZero[256];
    int headSize = a->headSize;
    int block = firstBlock + blockIdx.x;
    int head = blockIdx.y;
    size_t at = size_t(head) * capacity * padded;
    int tokens = min(BLOCK, length - block * BLOCK);
    bool tile = tokens > 0 && block >= a->sealed;
    bool rows = tokens > 0 && !tile && a->kind != QUANTIZED && !a->bfloat16Rows;
    const uint8_t *records = rows ? rowRecord(a, block, head, 0) : nullptr;
    const float *exact = tile ? tileKeys(a, block, head) : nullptr;
    if (rows) {
        const uint8_t *index = indexBlock(a, block, head);
        for (int c = threadIdx.x; c < headSize; c += THREADS) {
            Channel channel = channelIn(a, index, c);
            keyScale[c] = channel.scale;
            keyZero[c] = channel.zero;
        }
        __syncthreads();
    }
    int chunks = padded / 8;
    for (int i = threadIdx.x; i < BLOCK * chunks; i += THREADS) {
        int t = i / chunks;
        int c = i % chunks * 8;
        float key[8];
        float value[8];
        bool inside = t < tokens && c < headSize;
        if (inside && rows) {
            const uint8_t *record = records + size_t(t) * a->recordBytes;
            uint2 keyCodes = *reinterpret_cast<const uint2 *>(record + c);
            uint2 valueCodes = *reinterpret_cast<const uint2 *>(record + headSize + c);
            const __half *fields = reinterpret_cast<const __half *>(record + 2 * headSize);
            float scale = __half2float(fields[c / GROUP]);
            float zero = __half2float(fields[valueGroups(headSize) + c / GROUP]);
#pragma unroll
            for (int j = 0; j < 8; j++) {
                unsigned keyCode = (j < 4 ? keyCodes.x : keyCodes.y) >> (j % 4 * 8) & 255;
                unsigned valueCode = (j < 4 ? valueCodes.x : valueCodes.y) >> (j % 4 * 8) & 255;
                key[j] = keyZero[c + j] + keyScale[c + j] * keyCode;
                value[j] = zero + scale * valueCode;
            }
        } else if (inside && tile) {
            const float *source = exact + t * headSize + c;
#pragma unroll
            for (int j = 0; j < 8; j++) {
                key[j] = source[j];
                value[j] = source[BLOCK * headSize + j];
            }
        } else {
#pragma unroll
            for (int j = 0; j < 8; j++) {
                key[j] = inside ? keyOf(a, block, head, t, c + j, false) : 0.0f;
                value[j] = inside ? valueOf(a, block, head, t, c + j, false) : 0.0f;
            }
        }
        int token = blockIdx.x * BLOCK + t;
        size_t to = at + (tiles ? inTile(token, c, padded) : size_t(token) * padded + c);
        *reinterpret_cast<uint4 *>(k + to) = packed(key);
        *reinterpret_cast<uint4 *>(v + to) = packed(value);
    }
}

// Empties the ranges of the key channels, and lists the first channels as indexed, which is right where all are. Grid: KV
// heads.
extern "C" __global__ void clearRanges(unsigned *ranges, int headSize, uint16_t *indexed, int indexedCount) {
    unsigned *range = ranges + size_t(blockIdx.x) * 2 * headSize;
    for (int c = threadIdx.x; c < headSize; c += blockDim.x) {
        range[c] = ordered(INFINITY);
        range[headSize + c] = ordered(-INFINITY);
        if (c < indexedCount) {
            indexed[blockIdx.x * indexedCount + c] = static_cast<uint16_t>(c);
        }
    }
}

}  // namespace quantizing
