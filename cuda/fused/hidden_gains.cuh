#pragma once
// Errors and gains of the hidden spikes of the fused step.
#include "common/block.cuh"
#include "fused/batch.cuh"
#include "fused/output_weights.cuh"
#include "fused/two.cuh"

template <typename real>
struct HiddenNeurons {
    const real* spike_q;
    real* spike_gains;
    const real* slopes;
    long long worst;
    int n_hidden, n_slots, first_neuron;
    real tau, reset, slope_floor;
    const real* rows2;  // [NEURONS, n_out]: second weights

    __device__ __forceinline__ const real* slopes_of(int s, int i) const { return slopes + (size_t)s * n_slots * n_hidden + i; }
};

// Copies of the outputs' spikes of a tile's samples in shared memory.
template <typename real>
struct OutputCopies {
    typename Two<real>::type* spikes;  // [capacity]: q, G
    unsigned short* neurons;
    int capacity;
    int *first, *total;                // [MOST_SAMPLES]; total: -1 if not copied
};

constexpr int MOST_SAMPLES = 128;  // of a tile

// Samples first ... first + n - 1, as long as there is room.
template <typename real>
__device__ __forceinline__ void copy_outputs(const OutputSpikes<real>& output, int first, int n, const OutputCopies<real>& copies) {
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, n_warps = blockDim.x >> 5;
    int before = 0;
    for (int chunk = 0; chunk < n; chunk += 32) {
        const int total = chunk + lane < n ? output.starts[(size_t)(first + chunk + lane + 1) * (output.n_out + 1) - 1] : 0;
        const int sum = warp_inclusive_sum(total), start = before + sum - total;
        before += __shfl_sync(FULL_WARP, sum, 31);
        for (int other = warp; other < min(32, n - chunk); other += n_warps) {
            const int to = __shfl_sync(FULL_WARP, start, other), count = __shfl_sync(FULL_WARP, total, other);
            const bool fits = to + count <= copies.capacity;
            const size_t from = (size_t)(first + chunk + other) * output.capacity;
            for (int k = lane; fits && k < count; k += 32) {
                copies.spikes[to + k] = output.spikes[from + k];
                copies.neurons[to + k] = output.neurons[from + k];
            }
            if (lane == 0) {
                copies.first[chunk + other] = to;
                copies.total[chunk + other] = fits ? count : -1;
            }
        }
    }
}

// dL/dt of a hidden spike e of a neuron of the block (docs/theory.md, (30)): over the outputs' spikes (Q, G) with e < Q, w G e (2 e - Q) / tau.
// in_tile: number of the sample s within the tile. Of the output spikes, only first, first + step, ...
template <typename real>
__device__ __forceinline__ real spike_error(const HiddenNeurons<real>& hidden, const OutputSpikes<real>& output, const OutputCopies<real>& copies,
                                            int s, int in_tile, int neuron, real e, int first, int step) {
    const real* w = hidden.rows2 + neuron * output.n_out;
    const real twice = 2 * e;
    real sum = 0;
    const int n_copied = copies.total[in_tile];
    if (n_copied >= 0) {
        const auto* spikes = copies.spikes + copies.first[in_tile];
        const unsigned short* neurons = copies.neurons + copies.first[in_tile];
#pragma unroll 4
        for (int k = first; k < n_copied; k += step) {
            const auto spike = spikes[k];
            const real strength = spike.y * w[neurons[k]];
            if (e < spike.x) sum = fma(strength, twice - spike.x, sum);
        }
    } else {
        const int n = output.starts[(size_t)(s + 1) * (output.n_out + 1) - 1];
        const size_t from = (size_t)s * output.capacity;
        for (int k = first; k < n; k += step) {
            const auto spike = output.spikes[from + k];
            const real strength = spike.y * w[output.neurons[from + k]];
            if (e < spike.x) sum = fma(strength, twice - spike.x, sum);
        }
    }
    return sum * e / hidden.tau;
}
