#pragma once
// The hidden spikes of the fused step, as the second kernel leaves them for the block of the third that owns their neurons.
#include "fused/batch.cuh"

constexpr int MOST_SAMPLES = 128;  // of a tile

// [batch, worst] each, neuron by neuron.
template <typename real>
struct HiddenNeurons {
    const real *spike_q, *spike_errors, *spike_slopes;  // errors: dL/dt
    real* spike_gains;                                  // room for those that outgrow shared memory
    long long worst;
    real tau, reset, slope_floor;
};
