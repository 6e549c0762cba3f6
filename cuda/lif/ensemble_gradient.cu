// dL/dw of a layer with many neurons and few inputs, such as an ensemble of small networks side by side: a thread per neuron
// walks its own spikes and the events of every sample backwards (docs/theory.md, section 5, (30)).
//
// No sorted list of the layer's spikes is needed, and the work is linear in the neurons: weight_gradient.cu, made for many
// inputs, gives a warp to each neuron, of which four events would use four lanes.
#include "common/time_grid.cuh"

// blocks ceil(n_post / 256). Neighbouring threads are neighbouring neurons: spikes and gradient are read and written coalesced.
template <typename real>
__global__ void __launch_bounds__(256) ensemble_gradient(
        const real* __restrict__ event_times, const real* __restrict__ factors,       // [B, capacity]
        const int* __restrict__ event_neurons, const int* __restrict__ event_counts,  // [B, capacity], [B]
        int capacity,
        const real* __restrict__ times, const real* __restrict__ gains,               // [B, n_slots, n_post]
        const int* __restrict__ counts,                                               // [B, n_post]
        int n_slots, int batch, int n_pre, int n_post, real tau, real length, real scale,
        real* __restrict__ gradient) {                                                // [n_pre, n_post]
    const int i = blockIdx.x * blockDim.x + threadIdx.x;  // i in [0, n_post)
    if (i >= n_post) return;
    for (int j = 0; j < n_pre; ++j) gradient[(size_t)j * n_post + i] = 0;
    for (int b = 0; b < batch; ++b) {
        const int count = counts[(size_t)b * n_post + i];
        const size_t first_spike = (size_t)b * n_slots * n_post + i, first_event = (size_t)b * capacity;
        int k = count - 1;
        if (k < 0) continue;
        real t_k = times[first_spike + (size_t)k * n_post];
        real origin = origin_of(t_k, length);
        real p = 0, q = 0;  // sums over the spikes after the event, of gain / q_k and gain / q_k^2
        for (int e = event_counts[b] - 1; e >= 0; --e) {
            const real t = event_times[first_event + e];
            while (k >= 0 && t_k > t) {
                const real own = origin_of(t_k, length);
                if (own != origin) {
                    const real decay = shift(own, origin, length, tau);
                    p *= decay;
                    q *= decay * decay;
                    origin = own;
                }
                const real y = 1 / factor(t_k, origin, length, tau);
                const real gain = gains[first_spike + (size_t)k * n_post] * scale * y;
                p += gain;
                q += gain * y;
                --k;
                if (k >= 0) t_k = times[first_spike + (size_t)k * n_post];
            }
            if (k == count - 1) continue;  // the neuron has not spiked after this event
            const real own = origin_of(t, length);
            if (own != origin) {
                const real decay = shift(own, origin, length, tau);
                p *= decay;
                q *= decay * decay;
                origin = own;
            }
            const real event_factor = factors[first_event + e];
            gradient[(size_t)event_neurons[first_event + e] * n_post + i] += event_factor * (event_factor * q - p);
        }
    }
}
