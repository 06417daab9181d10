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
#include "attention.cuh"
#include "selection.cuh"

namespace decoding {

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
