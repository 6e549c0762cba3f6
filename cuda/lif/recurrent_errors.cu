// Errors through a neuron's own resets, backwards over its spikes (docs/theory.md, section 3):
// gain_k = delta_k tau / z_k with delta_k = error_k + sum_{m > k} delta_m D / z_m e^{-(t_m - t_k) / tau}.

template <typename real>
__global__ void __launch_bounds__(256) recurrent_errors(
        const real* errors,                // [B * N, n_slots]
        const real* __restrict__ times,    // [B * N, n_slots]
        const real* __restrict__ slopes,   // [B * N, n_slots]
        const int* __restrict__ counts,    // [B * N]
        int batch, int n_neurons, int n_slots, real tau, real reset, real slope_floor,
        real* gains,                       // [B * N, n_slots]; may be errors itself
        unsigned long long* status) {      // [B, 4], column 0: spikes whose slope was raised to the floor
    const size_t unit = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (unit >= (size_t)batch * n_neurons) return;
    const size_t base = unit * n_slots;
    real later = 0, t_later = 0;
    int bounded = 0;
    for (int k = counts[unit] - 1; k >= 0; --k) {
        real slope = slopes[base + k];
        if (slope < slope_floor) {
            slope = slope_floor;
            ++bounded;
        }
        const real t = times[base + k];
        if (later != 0) later *= exp((t - t_later) / tau);
        const real delta = errors[base + k] + later;
        gains[base + k] = delta * tau / slope;
        later += delta * reset / slope;
        t_later = t;
    }
    if (bounded) atomicAdd(&status[unit / n_neurons * 4], (unsigned long long)bounded);
}
