#pragma once
// All spikes of a sample in any order: forward kernels append to the list, the bucket sort starts from it. Whose turn it is when is left to
// chance, but not what the list holds, and the sort makes the same of every order.
#include "common/block.cuh"

// times null: no list is wanted.
template <typename real>
struct SpikeList {
    real* times;  // [B, room]
    int* ranks;   // [B, room]: neuron * n_slots + slot
    int* counts;  // [B]: 0 before the first spike of a pass; bucket_sort sets it back
    int room;     // of a sample

    __device__ __forceinline__ void put(size_t s, int place, real time, int rank) const {
        if (place >= room) return;
        times[s * room + place] = time;
        ranks[s * room + place] = rank;
    }
};

// Where the lanes of a warp put what they append, one lane behind the other.
struct Reserved {
    int start;   // of the warp, in the last lane
    int before;  // entries of the lanes before

    // The lane's first place. By a whole warp, which waits for the counter here and not before.
    __device__ __forceinline__ int first() const { return __shfl_sync(FULL_WARP, start, 31) + before; }
};

// Makes room for n more entries of every lane. By a whole warp.
__device__ __forceinline__ Reserved reserve(int* count, int n) {
    if (!__any_sync(FULL_WARP, n > 0)) return {};
    const int inclusive = warp_inclusive_sum(n);
    int start = 0;
    if ((threadIdx.x & 31) == 31) start = atomicAdd(count, inclusive);
    return {start, inclusive - n};
}
