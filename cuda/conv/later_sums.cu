// For every spike of a layer, sums over it and the neuron's later spikes (docs/theory.md, equation 30). A thread per neuron
// and sample goes through its spikes, latest first.
#include "common/constants.cuh"
#include "common/time_grid.cuh"
#include "conv/later.cuh"

template <typename real>
__global__ void __launch_bounds__(256) later_sums(
        const real* __restrict__ times,   // [B, n_slots, N]
        const real* __restrict__ gains,   // [B, n_slots, N]
        const int* __restrict__ counts,   // [B * N]
        int batch, int n_neurons, int n_slots, real tau, real length,
        Later<real>* __restrict__ later) {  // [B, n_slots, N]: slots of spikes, and the one that closes a train
    const size_t unit = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (unit >= (size_t)batch * n_neurons) return;
    const size_t base = unit / n_neurons * n_slots * n_neurons + unit % n_neurons;
    const int count = counts[unit];
    if (count < n_slots) later[base + (size_t)count * n_neurons] = {Constants<real>::infinity(), 0, 0, 0};
    real p = 0, q = 0, origin = 0;
    for (int k = count - 1; k >= 0; --k) {
        const size_t spike = base + (size_t)k * n_neurons;
        const real t = times[spike], own = origin_of(t, length);
        if (own != origin && k < count - 1) {
            const real decay = shift(own, origin, length, tau);
            p *= decay;
            q *= decay * decay;
        }
        origin = own;
        const real y = 1 / factor(t, origin, length, tau);
        p += gains[spike] * y;
        q += gains[spike] * y * y;
        later[spike] = {t, p, q, origin};
    }
}
