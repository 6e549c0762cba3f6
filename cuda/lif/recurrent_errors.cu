// Errors through a neuron's own resets, backwards over its spikes (docs/theory.md, section 3):
// gain_k = delta_k tau / z_k with delta_k = error_k + sum_{m > k} delta_m D / z_m e^{-(t_m - t_k) / tau}.

template <typename real>
__global__ void __launch_bounds__(256) recurrent_errors(
        const real* errors,                // [B, n_slots, N]
        const real* __restrict__ times,    // [B, n_slots, N]
        const real* __restrict__ slopes,   // [B, n_slots, N]
        const int* __restrict__ counts,    // [B * N]
        int batch, int n_neurons, int n_slots, real tau, real reset, real slope_floor,
        real* gains,                       // [B, n_slots, N]; may be errors itself
        unsigned long long* status) {      // [B, 4], column 0: spikes whose slope was raised to the floor
    const size_t unit = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (unit >= (size_t)batch * n_neurons) return;
    const size_t base = unit / n_neurons * n_slots * n_neurons + unit % n_neurons;
    real later = 0, t_later = 0;
    int bounded = 0;
    constexpr int AHEAD = 4;  // spikes loaded together: the recurrence then waits for memory once in four spikes
    for (int last = counts[unit] - 1; last >= 0; last -= AHEAD) {
        real slope[AHEAD], t[AHEAD], error[AHEAD];
#pragma unroll
        for (int u = 0; u < AHEAD; ++u) {
            const size_t spike = base + (size_t)max(last - u, 0) * n_neurons;
            slope[u] = slopes[spike];
            t[u] = times[spike];
            error[u] = errors[spike];
        }
#pragma unroll
        for (int u = 0; u < AHEAD; ++u) {
            if (last - u < 0) break;
            if (slope[u] < slope_floor) {
                slope[u] = slope_floor;
                ++bounded;
            }
            if (later != 0) later *= exp((t[u] - t_later) / tau);
            const real delta = error[u] + later;
            gains[base + (size_t)(last - u) * n_neurons] = delta * tau / slope[u];
            later += delta * reset / slope[u];
            t_later = t[u];
        }
    }
    if (bounded) atomicAdd(&status[unit / n_neurons * 4], (unsigned long long)bounded);
}
