#pragma once
// Errors and gains of the hidden spikes of the fused step.
#include "fused/batch.cuh"
#include "fused/output_weights.cuh"
#include "fused/two.cuh"

// A (sample, neuron) pair with spikes, in shared memory.
struct Unit {
    long long first_event;
    int n_events, n_spikes, neuron, sample;  // neuron: of the block, 0 to NEURONS - 1
    int place, start;                        // of its first spike: in the list of the sample, among the spikes of the tile
};

template <typename real>
struct HiddenNeurons {
    const real* spike_q;
    real* spike_gains;
    const real* slopes;
    long long worst;
    int n_hidden, n_slots, first_neuron;
    real tau, reset, slope_floor;
    const real* rows2;  // [NEURONS, n_out]: second weights
};

// dL/dt of a hidden spike (docs/theory.md, (30)): over the outputs' spikes (Q, G) with e < Q, w G e (2 e - Q) / tau.
template <typename real>
__device__ __forceinline__ real spike_error(const HiddenNeurons<real>& hidden, const OutputSpikes<real>& output, const Unit& unit, real e) {
    const int* starts = output.starts + (size_t)unit.sample * (output.n_out + 1);
    const auto* spikes = output.spikes + (size_t)unit.sample * output.capacity;
    const real* w = hidden.rows2 + unit.neuron * output.n_out;
    real sum = 0;
    int k = 0;
    for (int o = 0; o < output.n_out; ++o) {
        const int end = starts[o + 1];
        real part = 0;
#pragma unroll 4
        for (; k < end; ++k) {
            const auto spike = spikes[k];
            if (e < spike.x) part = fma(spike.y, 2 * e - spike.x, part);
        }
        sum = fma(w[o], part, sum);
    }
    return sum * e / hidden.tau;
}

// Backward through the resets of neuron i in sample s: turns the errors in `gain` into gains. Returns the bound of recurrent_gains.
template <typename real>
__device__ __forceinline__ real neuron_gains(const HiddenNeurons<real>& hidden, int s, int i, int count, const real* q, real* gain, int& n_bounded) {
    const real* slopes = hidden.slopes + (size_t)s * hidden.n_slots * hidden.n_hidden + i;
    const int stride = hidden.n_hidden;
    return recurrent_gains(
        count, hidden.tau, hidden.reset, hidden.slope_floor, n_bounded, [=](int k) { return slopes[(size_t)k * stride]; },
        [=](int k) { return q[k]; }, [=](int k) { return gain[k]; }, [=](int k, real, real value) { gain[k] = value; });
}
