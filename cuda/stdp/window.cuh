#pragma once
// The inputs that a neuron sees, as lists of those that fire, and the neuron's potential.
//
// All features at one place see the same inputs, so a block writes the list of a place's active inputs once, in the order
// of the additions, and each thread walks it for its own feature: no input that is silent costs anything.
// With a threshold: sorted by bin, then by index (a stable counting sort; equal bins find each other with match_any).
// Without: in CHUNKS groups of channels, each summed by its own thread, the sums then added in order.

#include "common/block.cuh"

typedef unsigned char byte;
typedef unsigned short index_t;
typedef unsigned long long winner_key;

constexpr int CHUNKS = 16;
constexpr int ROUNDS = 8;  // of a warp over the inputs, whose reads are issued together

struct Window {
    const int* offsets;  // [size]: where input k of the window lies, from the window's corner
    int size;            // K = channels * kernel rows * kernel columns
    int width;           // of a map of inputs
    int out_width;       // of a map of neurons
    int n_bins;
    int chunk;  // inputs in a group of channels; 0: neurons have a threshold
    int parts;  // warps that share the list of a place

    __device__ __forceinline__ int corner(int place) const { return (place / out_width) * width + place % out_width; }
    __device__ __forceinline__ int n_lists() const { return chunk ? CHUNKS : n_bins; }
};

// lists [n_places, size]; starts, ends [n_places, n_lists]; cursors [n_places, n_bins, parts] is scratch. Ends with a barrier.
__device__ void lists_by_chunk(const Window& window, const byte* image, int first, int n_places, index_t* lists, int* starts, int* ends) {
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, n_warps = blockDim.x >> 5;
    for (int task = warp; task < n_places * CHUNKS; task += n_warps) {
        const int place = task / CHUNKS, begin = min(window.size, task % CHUNKS * window.chunk);
        const int end = min(window.size, begin + window.chunk);
        const byte* seen = image + window.corner(first + place);
        index_t* list = lists + place * window.size + begin;
        int count = 0;
        for (int k0 = begin; k0 < end; k0 += 32 * ROUNDS) {
            int latency[ROUNDS];
#pragma unroll
            for (int j = 0; j < ROUNDS; ++j) latency[j] = window.offsets[min(k0 + 32 * j + lane, end - 1)];
#pragma unroll
            for (int j = 0; j < ROUNDS; ++j) latency[j] = seen[latency[j]];
#pragma unroll
            for (int j = 0; j < ROUNDS; ++j) {
                const int k = k0 + 32 * j + lane;
                const bool active = k < end && latency[j] < window.n_bins;
                const unsigned mask = __ballot_sync(FULL_WARP, active);
                if (active) list[count + __popc(mask & ((1u << lane) - 1))] = k;
                count += __popc(mask);
            }
        }
        if (lane == 0) {
            starts[task] = begin;
            ends[task] = begin + count;
        }
    }
    __syncthreads();
}

__device__ void lists_by_bin(
    const Window& window, const byte* image, int first, int n_places, index_t* lists, int* starts, int* ends, int* cursors
) {
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, n_warps = blockDim.x >> 5;
    const int n_bins = window.n_bins, parts = window.parts, per_place = n_bins * parts;
    const int per_part = ((window.size + parts - 1) / parts + 31) / 32 * 32;
    for (int i = threadIdx.x; i < n_places * per_place; i += blockDim.x) cursors[i] = 0;
    __syncthreads();
    for (int pass = 0; pass < 2; ++pass) {
        for (int task = warp; task < n_places * parts; task += n_warps) {
            const int place = task / parts, part = task % parts;
            const byte* seen = image + window.corner(first + place);
            int* cursor = cursors + place * per_place + part;
            const int end = min(window.size, (part + 1) * per_part);
            for (int k0 = part * per_part; k0 < end; k0 += 32) {
                const int k = k0 + lane;
                const int latency = k < end ? seen[window.offsets[k]] : n_bins;
                const unsigned mask = __match_any_sync(FULL_WARP, latency);
                const bool active = latency < n_bins;
                if (pass && active)
                    lists[place * window.size + cursor[latency * parts] + __popc(mask & ((1u << lane) - 1))] = k;
                __syncwarp();
                if (active && lane == __ffs(mask) - 1) cursor[latency * parts] += __popc(mask);
                __syncwarp();
            }
        }
        __syncthreads();
        if (pass) return;
        for (int place = warp; place < n_places; place += n_warps) {  // counts -> where each (bin, part) begins
            int* cursor = cursors + place * per_place;
            int before = 0;
            for (int e0 = 0; e0 < per_place; e0 += 32) {
                const int e = e0 + lane, mine = e < per_place ? cursor[e] : 0;
                const int inclusive = warp_inclusive_sum(mine);
                if (e < per_place) {
                    cursor[e] = before + inclusive - mine;
                    if (e % parts == 0) starts[place * n_bins + e / parts] = before + inclusive - mine;
                    if (e % parts == parts - 1) ends[place * n_bins + e / parts] = before + inclusive;
                }
                before += __shfl_sync(FULL_WARP, inclusive, 31);
            }
        }
        __syncthreads();
    }
}

__device__ __forceinline__ void build_lists(
    const Window& window, const byte* image, int first, int n_places, index_t* lists, int* starts, int* ends, int* cursors
) {
    if (window.chunk) lists_by_chunk(window, image, first, n_places, lists, starts, ends);
    else lists_by_bin(window, image, first, n_places, lists, starts, ends, cursors);
}

// potential + weights of list[begin .. end): one after the other; weights [size, stride] from the thread's feature on.
template <typename real>
__device__ __forceinline__ real add_list(real potential, const index_t* list, int begin, int end, const real* weights, int stride) {
    int e = begin;
    for (; e + 8 <= end; e += 8) {
        real value[8];
#pragma unroll
        for (int j = 0; j < 8; ++j) value[j] = weights[list[e + j] * stride];
#pragma unroll
        for (int j = 0; j < 8; ++j) potential += value[j];
    }
    for (; e < end; ++e) potential += weights[list[e] * stride];
    return potential;
}

// Bin of the first crossing (n_bins: none) and the potential there (0: none).
template <typename real>
__device__ __forceinline__ int first_crossing(
    const index_t* list, const int* starts, const int* ends, const real* weights, int stride, real threshold, int n_bins, real* potential
) {
    real sum = 0;
    for (int t = 0; t < n_bins; ++t) {
        sum = add_list(sum, list, starts[t], ends[t], weights, stride);
        if (sum > threshold) {
            *potential = sum;
            return t;
        }
    }
    *potential = 0;
    return n_bins;
}
