// Errors through a neuron's own resets on a time grid, backwards over its spikes (docs/time_discretization.md): spike m crosses at
// crossings_m, spike k resets at times_k: gain_k = delta_k tau / z_k, delta_k = error_k + sum_{m > k} delta_m D / z_m
// e^{-(crossings_m - times_k) / tau}. A spike with an infinite slope moves with the one before it: its delta goes there.
#include "common/constants.cuh"

// blocks ceil(B * N / 256): a thread per neuron and sample.
template <typename real>
__global__ void __launch_bounds__(256) grid_recurrent_errors(
        const real* errors, const real* __restrict__ times, const real* __restrict__ crossings,  // [B, n_slots, N]
        const real* __restrict__ slopes,   // [B, n_slots, N]
        const int* __restrict__ counts,    // [B * N]
        int batch, int n_neurons, int n_slots, real tau, real reset, real slope_floor,
        real* gains,                       // [B, n_slots, N]; may be errors itself
        unsigned long long* status) {      // [B, 4], column 0: spikes whose slope was raised to the floor
    const size_t unit = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (unit >= (size_t)batch * n_neurons) return;
    const size_t base = unit / n_neurons * n_slots * n_neurons + unit % n_neurons;
    real later = 0, passed_on = 0, t_later = 0;
    int bounded = 0;
    for (int k = counts[unit] - 1; k >= 0; --k) {
        const size_t spike = base + (size_t)k * n_neurons;
        const real t = times[spike];
        real slope = slopes[spike];
        if (later != 0) later *= exp((t - t_later) / tau);
        const real delta = errors[spike] + later + passed_on;
        if (slope == Constants<real>::infinity()) {
            gains[spike] = 0;
            passed_on = delta;
            t_later = t;
            continue;
        }
        if (slope < slope_floor) {
            slope = slope_floor;
            ++bounded;
        }
        passed_on = 0;
        gains[spike] = delta * tau / slope;
        t_later = crossings[spike];
        later = later * exp((t_later - t) / tau) + delta * reset / slope;
    }
    if (bounded) atomicAdd(&status[unit / n_neurons * 4], (unsigned long long)bounded);
}
