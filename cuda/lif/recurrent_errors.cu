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
    for (int k = counts[unit] - 1; k >= 0; --k) {
        const size_t spike = base + (size_t)k * n_neurons;
        real slope = slopes[spike];
        if (slope < slope_floor) {
            slope = slope_floor;
            ++bounded;
        }
        const real t = times[spike];
        if (later != 0) later *= exp((t - t_later) / tau);
        const real delta = errors[spike] + later;
        gains[spike] = delta * tau / slope;
        later += delta * reset / slope;
        t_later = t;
    }
    if (bounded) atomicAdd(&status[unit / n_neurons * 4], (unsigned long long)bounded);
}
