#pragma once
// The spikes of one sample in the order of (q, place): a bucket sort over the range of q, and a rank within each bucket. Integer atomics only,
// and every pair (q, place) is different, so the result does not depend on the order in which threads run.
#include "common/block.cuh"
#include "common/constants.cuh"

template <typename real>
struct SpikeLists {
    real* q;
    unsigned* place;  // slot << 16 | neuron
    real* other_q;    // room for sorting
    unsigned* other_place;
};

template <typename real>
struct Buckets {
    int* ends;  // [count]: counts, then starts, then ends
    int count;  // 2 blockDim
    real q_min, per_factor;

    __device__ __forceinline__ int of(real q) const { return min(count - 1, (int)((q - q_min) * per_factor)); }
};

// Where the lists of the groups begin, and the range of q: the first warp, between two synchronizations. starts [n_groups + 1].
template <typename real>
__device__ __forceinline__ void add_up_groups(const int* list_counts, const real* extremes, int n_groups, int* starts,
                                              real* range) {
    const int lane = threadIdx.x & 31;
    int before = 0;
    real low = Constants<real>::infinity(), high = 0;
    for (int first = 0; first < n_groups; first += 32) {
        const int g = first + lane, count = g < n_groups ? list_counts[g] : 0;
        if (g < n_groups) {
            low = min(low, extremes[2 * g]);
            high = max(high, extremes[2 * g + 1]);
        }
        const int sum = warp_inclusive_sum(count);
        if (g < n_groups) starts[g] = before + sum - count;
        before += __shfl_sync(FULL_WARP, sum, 31);
    }
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
        low = min(low, __shfl_xor_sync(FULL_WARP, low, distance));
        high = max(high, __shfl_xor_sync(FULL_WARP, high, distance));
    }
    if (lane == 0) {
        starts[n_groups] = before;
        range[0] = low;
        range[1] = high;
    }
}

// Exclusive prefix sum in place over the 2 blockDim counts of the buckets. room [32].
template <typename real>
__device__ __forceinline__ void add_up_buckets(const Buckets<real>& buckets, int* room) {
    const int t = threadIdx.x, lane = t & 31, warp = t >> 5, n_warps = blockDim.x >> 5;
    int2* mine = reinterpret_cast<int2*>(buckets.ends) + t;
    const int2 counts = *mine;
    const int sum = warp_inclusive_sum(counts.x + counts.y);
    if (lane == 31) room[warp] = sum;
    __syncthreads();
    const int before_warps = warp_inclusive_sum(lane < n_warps ? room[lane] : 0);
    const int before = (warp ? __shfl_sync(FULL_WARP, before_warps, max(warp - 1, 0)) : 0) + sum - counts.x - counts.y;
    *mine = {before, before + counts.x};
    __syncthreads();
}

// Sorts the n spikes of the groups' lists [n_groups, capacity] into lists.q, lists.place, which may be the very memory of the lists.
// buckets.ends are 0 before; the block has been synchronized since.
template <typename real>
__device__ __forceinline__ void sort_spikes(const SpikeLists<real>& lists, int n, const real* group_q, const unsigned* group_place, int capacity,
                                            const int* group_starts, int n_groups, const Buckets<real>& buckets, int* room) {
    const int t = threadIdx.x, lane = t & 31, warp = t >> 5, n_warps = blockDim.x >> 5;
    unsigned* other_place = lists.other_place;
    for (int g = warp; g < n_groups; g += n_warps) {
        const int count = group_starts[g + 1] - group_starts[g];
        for (int e = lane; e < count; e += 32) atomicAdd(&buckets.ends[buckets.of(group_q[(size_t)g * capacity + e])], 1);
    }
    __syncthreads();
    add_up_buckets(buckets, room);
    for (int g = warp; g < n_groups; g += n_warps) {
        const int count = group_starts[g + 1] - group_starts[g];
        for (int e = lane; e < count; e += 32) {
            const real q = group_q[(size_t)g * capacity + e];
            const unsigned place = group_place[(size_t)g * capacity + e];
            const int to = atomicAdd(&buckets.ends[buckets.of(q)], 1);
            lists.other_q[to] = q;
            other_place[to] = place;
        }
    }
    __syncthreads();
    for (int j = t; j < n; j += blockDim.x) {
        const real q = lists.other_q[j];
        const unsigned place = other_place[j];
        const int bucket = buckets.of(q), begin = bucket > 0 ? buckets.ends[bucket - 1] : 0, end = buckets.ends[bucket];
        int rank = begin;
        for (int other = begin; other < end; ++other) {
            const real other_q = lists.other_q[other];
            rank += other_q < q || (other_q == q && other_place[other] < place);
        }
        lists.q[rank] = q;
        lists.place[rank] = place;
    }
    __syncthreads();
}
