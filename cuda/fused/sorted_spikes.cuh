#pragma once
// The hidden spikes of one sample, sorted by (q, place), by all threads of a block.
//
// A bucket sort: spikes are counted per bucket of q, dropped into their bucket in any order, and ranked inside it by comparison with
// the others there. Integer atomics only decide the order before the ranking, so the result is the same every time.
#include "common/block.cuh"
#include "common/constants.cuh"

// Two lists of n spikes: q, and place = slot << 16 | neuron. In shared memory if they fit, else in global memory.
template <typename real>
struct SpikeLists {
    real *q, *other_q;
    unsigned *place, *other_place;
};

template <typename real>
__device__ __forceinline__ int bucket_of(real q, real q_min, real per_factor, int n_buckets) {
    return min(n_buckets - 1, (int)((q - q_min) * per_factor));
}

// Copies the spikes of one sample into lists.q, neuron by neuron; before that, the number of spikes must be known.
// Returns the least and the greatest factor to all threads. extremes: room for 2 * warps.
template <typename real>
__device__ __forceinline__ void gather_spikes(const SpikeLists<real>& lists, const real* factors, const int* counts, int n_neurons,
                                              real* extremes, real* q_min, real* q_max) {
    real low = Constants<real>::infinity(), high = 0;
    int before = 0;
    for (int first = 0; first < n_neurons; first += blockDim.x) {
        const int i = first + threadIdx.x, count = i < n_neurons ? counts[i] : 0;
        int total;
        const int start = before + block_exclusive_sum(count, &total);
        before += total;
#pragma unroll 4
        for (int k = 0; k < count; ++k) {
            const real q = factors[(size_t)k * n_neurons + i];
            lists.q[start + k] = q;
            lists.place[start + k] = (unsigned)k << 16 | (unsigned)i;
            low = min(low, q);
            high = max(high, q);
        }
    }
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
        low = min(low, __shfl_xor_sync(FULL_WARP, low, distance));
        high = max(high, __shfl_xor_sync(FULL_WARP, high, distance));
    }
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, n_warps = blockDim.x >> 5;
    if (lane == 0) {
        extremes[warp] = low;
        extremes[n_warps + warp] = high;
    }
    __syncthreads();
    for (int w = 0; w < n_warps; ++w) {
        low = min(low, extremes[w]);
        high = max(high, extremes[n_warps + w]);
    }
    *q_min = low;
    *q_max = high;
}

// Sorts lists.q (through lists.other_q, back into lists.q). buckets: blockDim.x + 1 integers of shared memory.
template <typename real>
__device__ __forceinline__ void sort_spikes(const SpikeLists<real>& lists, int n, int* buckets, real q_min, real q_max) {
    const int n_buckets = blockDim.x, t = threadIdx.x;
    const real per_factor = q_max > q_min ? n_buckets / (q_max - q_min) : real(0);
    buckets[t] = 0;
    __syncthreads();
    for (int j = t; j < n; j += blockDim.x) atomicAdd(&buckets[bucket_of(lists.q[j], q_min, per_factor, n_buckets)], 1);
    __syncthreads();
    int total;
    const int start = block_exclusive_sum(buckets[t], &total);
    __syncthreads();
    buckets[t] = start;
    __syncthreads();
    for (int j = t; j < n; j += blockDim.x) {  // buckets[k] moves from the start of bucket k to its end
        const real q = lists.q[j];
        const int to = atomicAdd(&buckets[bucket_of(q, q_min, per_factor, n_buckets)], 1);
        lists.other_q[to] = q;
        lists.other_place[to] = lists.place[j];
    }
    __syncthreads();
    for (int j = t; j < n; j += blockDim.x) {
        const real q = lists.other_q[j];
        const unsigned place = lists.other_place[j];
        const int bucket = bucket_of(q, q_min, per_factor, n_buckets);
        const int begin = bucket > 0 ? buckets[bucket - 1] : 0, end = buckets[bucket];
        int rank = begin;
        for (int other = begin; other < end; ++other) {
            const real other_q = lists.other_q[other];
            rank += other_q < q || (other_q == q && lists.other_place[other] < place);
        }
        lists.q[rank] = q;
        lists.place[rank] = place;
    }
    __syncthreads();
}
