// Pooling: the spikes of a window of neurons become those of one. An event list is sorted already, so its events keep their
// order and are only renamed; they still point at the spikes they came from, and errors find their way back without a kernel.
// Events outside all windows are dropped. A block per sample; the order is that of the list, so nothing can vary.
#include "common/block.cuh"

template <typename real>
__global__ void __launch_bounds__(1024) pool_events(
        const real* __restrict__ event_times, const int* __restrict__ event_neurons, const int* __restrict__ event_positions,
        const int* __restrict__ event_counts, int capacity,
        int pre_y, int channels, int window_x, int window_y, int stride_x, int stride_y, int post_x, int post_y, int out_capacity,
        real* __restrict__ times, int* __restrict__ neurons, int* __restrict__ positions, int* __restrict__ counts) {
    const size_t s = blockIdx.x, from = s * capacity, to = s * out_capacity;
    const int n_events = event_counts[s];
    int kept = 0;
    for (int first = 0; first < n_events; first += blockDim.x) {
        const int e = first + threadIdx.x;
        int neuron = -1;
        if (e < n_events) {
            const int place = event_neurons[from + e] / channels, x = place / pre_y, y = place % pre_y;
            const int px = x / stride_x, py = y / stride_y;
            if (px < post_x && py < post_y && x % stride_x < window_x && y % stride_y < window_y) {
                neuron = (px * post_y + py) * channels + event_neurons[from + e] % channels;
            }
        }
        int total;
        const int place = kept + block_exclusive_sum(neuron >= 0, &total);
        if (neuron >= 0) {
            times[to + place] = event_times[from + e];
            neurons[to + place] = neuron;
            positions[to + place] = event_positions[from + e];
        }
        kept += total;
    }
    if (threadIdx.x == 0) counts[s] = kept;
}
