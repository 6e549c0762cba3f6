// dL/dt of the spikes that a dense layer received: 1/tau sum_{i, k: t_k > t_j} w_ij gain_k (2 r^2 - r), r = e^{-(t_k - t_j) / tau}
// (docs/theory.md, section 3). A thread per received spike goes through the layer's own spikes, latest first, a tile of
// them at a time in shared memory.
#include "common/time_grid.cuh"

template <typename real>
__global__ void __launch_bounds__(128) presynaptic_errors(
        const real* __restrict__ event_times, const int* __restrict__ event_neurons, const int* __restrict__ event_positions,
        const int* __restrict__ event_counts, int capacity,
        const real* __restrict__ weights,  // [n_pre, n_post]
        const real* __restrict__ out_times, const int* __restrict__ out_neurons, const int* __restrict__ out_positions,
        const int* __restrict__ out_counts, int out_capacity,
        const real* __restrict__ gains,    // [B, n_slots * n_post] = out_capacity each
        int n_post, int n_pre_slots_total, real tau, real length,
        real* __restrict__ errors) {       // [B, n_pre * n_slots_pre], written at the events' positions
    constexpr int TILE = 128;
    __shared__ real tile_t[TILE], tile_gain[TILE], tile_y[TILE], tile_origin[TILE];
    __shared__ int tile_neuron[TILE];
    const size_t s = blockIdx.y;  // s in [0, B)
    const int n_events = event_counts[s], n_out = out_counts[s];
    if (blockIdx.x * blockDim.x >= n_events) return;
    const int e = blockIdx.x * blockDim.x + threadIdx.x;
    const bool mine = e < n_events;
    const real t = mine ? event_times[s * capacity + e] : real(0);
    const real* row = weights + (size_t)(mine ? event_neurons[s * capacity + e] : 0) * n_post;
    const real origin = origin_of(t, length);
    const real event_factor = factor(t, origin, length, tau);

    real sum = 0;
    for (int last = n_out; last > 0; last -= TILE) {
        const int first = max(last - TILE, 0), n_tile = last - first;
        __syncthreads();
        for (int k = threadIdx.x; k < n_tile; k += blockDim.x) {
            const size_t spike = s * out_capacity + first + k;
            tile_t[k] = out_times[spike];
            tile_neuron[k] = out_neurons[spike];
            tile_gain[k] = gains[s * out_capacity + out_positions[spike]];
            tile_origin[k] = origin_of(tile_t[k], length);
            tile_y[k] = 1 / factor(tile_t[k], tile_origin[k], length, tau);
        }
        __syncthreads();
        for (int k = n_tile - 1; k >= 0 && t < tile_t[k]; --k) {
            real r = event_factor * tile_y[k];
            if (tile_origin[k] != origin) r *= shift(origin, tile_origin[k], length, tau);
            sum += row[tile_neuron[k]] * (tile_gain[k] * (2 * r * r - r));
        }
    }
    if (mine) errors[s * n_pre_slots_total + event_positions[s * capacity + e]] = sum / tau;
}
