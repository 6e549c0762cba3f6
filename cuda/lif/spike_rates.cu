// Spike-rate regularization (docs/silent_neurons.md): mean spike counts of a layer's units, the errors that pull them into
// [minimum, maximum], and weights of silent units. A unit is a neuron, or the neurons of one channel of a convolution:
// neuron i belongs to unit i % n_units. Counts are integers, so their sum has the same bits in any order.

#include "common/block.cuh"

// One block of 128 threads per unit.
template <typename real>
__global__ void __launch_bounds__(128) spike_rates(
        const int* __restrict__ counts,  // [B, N]
        int batch, int n_neurons, int n_units,
        real* __restrict__ rates) {      // [n_units]
    __shared__ long long of_warp[4];
    const int unit = blockIdx.x, share = n_neurons / n_units;
    const long long n = (long long)batch * share;  // counts of this unit
    long long total = 0;
    for (long long at = threadIdx.x; at < n; at += 128) {
        total += counts[at / share * n_neurons + at % share * n_units + unit];
    }
    total = warp_sum(total);
    if ((threadIdx.x & 31) == 0) of_warp[threadIdx.x / 32] = total;
    __syncthreads();
    if (threadIdx.x == 0) {
        const double sum = (double)(of_warp[0] + of_warp[1] + of_warp[2] + of_warp[3]);
        rates[unit] = (real)(sum / (double)(n > 1 ? n : 1));
    }
}

// One thread per (sample, neuron).
template <typename real>
__global__ void __launch_bounds__(256) spike_rate_errors(
        const real* errors,              // [B, n_slots, N]
        const int* __restrict__ counts,  // [B, N]
        const real* __restrict__ rates,  // [n_units]
        real minimum, real maximum, real strength,
        int batch, int n_neurons, int n_slots, int n_units,
        real* total) {                   // [B, n_slots, N]; may be errors itself
    const size_t place = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (place >= (size_t)batch * n_neurons) return;
    const real rate = rates[place % n_neurons % n_units];
    const real extra = strength * (max(minimum - rate, (real)0) - max(rate - maximum, (real)0));
    const size_t base = place / n_neurons * n_slots * n_neurons + place % n_neurons;
    for (int k = 0; k < counts[place]; ++k) {
        total[base + (size_t)k * n_neurons] = errors[base + (size_t)k * n_neurons] + extra;
    }
}

// One thread per weight.
template <typename real>
__global__ void __launch_bounds__(256) raise_silent(
        const real* __restrict__ rates,  // [n_units]
        real amount, long long n_weights, int n_units,
        real* __restrict__ gradient) {   // [n_weights / n_units, n_units]
    const long long place = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (place < n_weights && rates[place % n_units] == 0) gradient[place] -= amount;
}
