#pragma once
// The samples of a small batch by number of events, so that all blocks of the first kernel, and in a block all schedulers, get about as many.
#include "common/block.cuh"
#include "fused/batch.cuh"

constexpr int SORTED = 64;  // batches up to this size are spread over the warps by number of events

// Visits the samples of a batch with what n_events_of(s) says of each: visit(sample, its rank). A block; lane 0 of a warp per sample.
template <typename Count, typename Visit>
__device__ __forceinline__ void each_rank(int batch, Count n_events_of, Visit visit) {
    constexpr int NONE = 0x7fffffff;
    const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, n_warps = blockDim.x >> 5;
    const int one = lane < batch ? n_events_of(lane) : NONE, two = lane + 32 < batch ? n_events_of(lane + 32) : NONE;
    for (int s = warp; s < batch; s += n_warps) {
        const int n_events = __shfl_sync(FULL_WARP, s < 32 ? one : two, s & 31);
        const unsigned fewer = __ballot_sync(FULL_WARP, one < n_events || (one == n_events && lane < s));
        const unsigned fewer_too = __ballot_sync(FULL_WARP, two < n_events || (two == n_events && lane + 32 < s));
        if (lane == 0) visit(s, __popc(fewer) + __popc(fewer_too));
    }
}

// Of the sample that this warp of the first kernel takes. Blocks take samples in turn, there and back. In a block the schedulers with a warp
// more take the shorter samples.
__device__ __forceinline__ int rank_of_warp() {
    const int warp = threadIdx.x >> 5, n_warps = blockDim.x >> 5;
    const int scheduler = warp & 3, round = warp >> 2, n_longer = n_warps & 3, n_rounds = n_warps >> 2;
    const bool longer = scheduler < n_longer;
    const int first = longer ? 0 : n_longer, n = longer ? n_longer : 4 - n_longer, turn = scheduler - first;
    const int place = (longer ? 0 : (n_rounds + 1) * n_longer) + round * n + (round & 1 ? n - 1 - turn : turn);
    return place * gridDim.y + (place & 1 ? gridDim.y - 1 - blockIdx.y : blockIdx.y);
}

// The next batch for the first kernel, by rank: samples, and their places in the batch.
struct Upcoming {
    Sample* samples;
    int* places;

    // From in_order [n_order], beginning at `position`; what lies past the end has no events. A block.
    __device__ __forceinline__ void prepare(const Sample* in_order, long long n_order, long long position, int batch) const {
        const auto sample = [&](int s) { return position + s < n_order ? in_order[position + s] : Sample{0, 0, 0}; };
        each_rank(batch, [&](int s) { return sample(s).n_events; }, [&](int s, int rank) {
            samples[rank] = sample(s);
            places[rank] = s;
        });
    }
};
