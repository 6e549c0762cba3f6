#pragma once
// What the second kernel of the fused step leaves of a sample: its spikes as the third kernel wants them, loss, prediction and counts.
#include "common/block.cuh"
#include "fused/batch.cuh"
#include "fused/output_loss.cuh"
#include "fused/output_spikes.cuh"
#include "fused/two.cuh"

// Arrays of all samples.
template <typename real>
struct OutputResults {
    Place* places;                            // [ceil(n_hidden / NEURONS), batch, NEURONS]
    real *spike_q, *spike_slopes;             // [worst]: of the sample
    typename Two<real>::type* out_spikes;     // [batch, n_out * n_slots]
    int* out_starts;                          // [batch, n_out + 1]
    real* loss;
    int *predictions, *out_counts, *labels;
    unsigned long long *status, *bounded;
    int batch, n_rows;
};

// The hidden spikes and their slopes, [n_slots, n_hidden], neuron by neuron; neuron_starts: where each one's begin. By n_threads threads.
template <typename real>
__device__ __forceinline__ void store_spikes(const OutputResults<real>& results, int s, const SpikeLists<real>& lists, int n,
                                             const real* slopes, const int* neuron_starts, int n_hidden, int rank, int n_threads) {
    constexpr int AT_ONCE = 2;  // loads on their way
#pragma unroll 1
    for (int first = rank; first < n; first += AT_ONCE * n_threads) {
        real q[AT_ONCE], slope[AT_ONCE];
        int to[AT_ONCE];
#pragma unroll
        for (int u = 0; u < AT_ONCE; ++u) {
            const int j = first + u * n_threads;
            if (j >= n) continue;
            const unsigned place = lists.place[j], neuron = place & 0xffffu, slot = place >> 16;
            q[u] = lists.q[j], slope[u] = slopes[(size_t)slot * n_hidden + neuron];
            to[u] = neuron_starts[neuron] + slot;
        }
#pragma unroll
        for (int u = 0; u < AT_ONCE; ++u) {
            if (first + u * n_threads < n) results.spike_q[to[u]] = q[u], results.spike_slopes[to[u]] = slope[u];
        }
    }
#pragma unroll 1
    for (int i = rank; i < n_hidden; i += n_threads) {
        const int start = neuron_starts[i], end = i + 1 < n_hidden ? neuron_starts[i + 1] : n;
        results.places[((size_t)(i / NEURONS) * results.batch + s) * NEURONS + i % NEURONS] = {start, end - start};
    }
}

// Where the spikes of output o begin, output by output, and how many there are of all. A warp, all lanes the same.
__device__ __forceinline__ int2 count_before(const int* counts, int n_out, int o) {
    int2 found = {0, 0};
#pragma unroll 1
    for (int first = 0; first < n_out; first += 32) {
        const int other = first + (threadIdx.x & 31), count = other < n_out ? counts[other] : 0;
        found.x += __reduce_add_sync(FULL_WARP, other < o ? count : 0);
        found.y += __reduce_add_sync(FULL_WARP, count);
    }
    return found;
}

// Spike counts of the outputs, where the spikes of each begin (also to shared_starts [n_out + 1]), and the layer's status. A warp.
template <typename real>
__device__ __forceinline__ void keep_counts(const OutputResults<real>& results, int s, const OutputState<real>& state, const real* carried,
                                            int n_out, int* shared_starts) {
    const int lane = threadIdx.x & 31;
    int* starts = results.out_starts + (size_t)s * (n_out + 1);
    int before = 0, silent = 0, overflowing = 0, bad = 0;
#pragma unroll 1
    for (int first = 0; first < n_out; first += 32) {
        const int o = first + lane;
        const bool exists = o < n_out;
        const int count = exists ? state.counts[o] : 0, sum = before + warp_inclusive_sum(count);
        if (exists) {
            results.out_counts[(size_t)s * n_out + o] = count;
            shared_starts[o + 1] = starts[o + 1] = sum;
        }
        before = __shfl_sync(FULL_WARP, sum, 31);
        silent += __popc(__ballot_sync(FULL_WARP, exists && count == 0));
        overflowing += __popc(__ballot_sync(FULL_WARP, exists && state.overflow[o]));
        bad += __popc(__ballot_sync(FULL_WARP, exists && !isfinite(carried[o / 2 * 4 + o % 2 * 2])));
    }
    if (lane == 0) shared_starts[0] = starts[0] = 0;
    const int mine = lane == 0 ? before : lane == 1 ? silent : lane == 2 ? overflowing : bad;
    if (lane < 4 && mine) atomicAdd(&results.status[(s % results.n_rows) * 4 + lane], (unsigned long long)mine);
}
