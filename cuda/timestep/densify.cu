// Samples that are stored compactly become waves [B, T, N], a number for every time step and neuron.
// Latencies: one byte per neuron says the step of its only spike, 255 never; a thread owns a neuron and a stretch of steps.
// Events: sorted cells step * N + neuron, one per event; the first event of a cell counts the run and writes it, so that
// no atomic is needed. The zeros of the cells without events are written before, by clear_waves.
#include "common/block.cuh"

constexpr int STEPS_PER_THREAD = 16;

template <typename real>
__global__ void densify_latencies(
        const unsigned char* __restrict__ latencies,  // [n, N]
        const int* __restrict__ indices,              // [B]: rows of latencies
        int n_neurons, int n_steps,
        real* __restrict__ waves) {                   // [B, T, N]
    const int n = blockIdx.x * blockDim.x + threadIdx.x;  // n in [0, N)
    const int first = blockIdx.y * STEPS_PER_THREAD;      // t in [first, last)
    const int last = min(first + STEPS_PER_THREAD, n_steps);
    const size_t b = blockIdx.z;                          // b in [0, B)
    if (n >= n_neurons) return;
    const int step = latencies[(size_t)indices[b] * n_neurons + n];
    real* row = waves + (b * n_steps + first) * n_neurons + n;
    for (int t = first; t < last; ++t, row += n_neurons) *row = t == step ? real(1) : real(0);
}

template <typename real>
__global__ void clear_waves(real* __restrict__ waves, long long size) {
    const long long stride = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < size; i += stride) waves[i] = real(0);
}

template <typename real>
__global__ void densify_events(
        const unsigned* __restrict__ cells,     // [n_events], ascending within a sample
        const long long* __restrict__ offsets,  // [n + 1]: sample i has the events offsets[i] ... offsets[i + 1] - 1
        const int* __restrict__ indices,        // [B]: samples
        long long wave_size,                    // T * N
        real* __restrict__ waves) {             // [B, T, N], all zero
    const size_t b = blockIdx.y;  // b in [0, B)
    const long long begin = offsets[indices[b]], end = offsets[indices[b] + 1];
    const long long stride = (long long)gridDim.x * blockDim.x;
    for (long long i = begin + (long long)blockIdx.x * blockDim.x + threadIdx.x; i < end; i += stride) {
        const unsigned cell = cells[i];
        if (i > begin && cells[i - 1] == cell) continue;  // not the first of its run
        int count = 1;
        while (i + count < end && cells[i + count] == cell) ++count;
        waves[b * wave_size + cell] = real(count);
    }
}
