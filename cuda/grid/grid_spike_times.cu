// Forward pass of LIF layers that emit on a time grid (docs/time_discretization.md), convolutional and, as a convolution with one
// position, dense.
//
// A warp owns one position of one sample and up to 32 of its channels, and walks through the events as in conv/field.cuh; what a
// neuron does about a crossing is in grid/neuron.cuh. On a grid many events share a time: between them there is nothing to test.
#include "common/block.cuh"
#include "common/constants.cuh"
#include "conv/field.cuh"
#include "conv/geometry.cuh"
#include "grid/neuron.cuh"
#include "lif/event.cuh"

// blocks ceil(B * positions * tiles / 8), 256 threads; a tile is `width` <= 32 channels.
template <typename real>
__global__ void __launch_bounds__(32 * CONV_WARPS) grid_spike_times(
        const real* __restrict__ event_times,   // [B, capacity]
        const int* __restrict__ event_neurons,  // [B, capacity]
        const int* __restrict__ event_counts,   // [B]
        int capacity,
        const real* __restrict__ weights,       // [C_pre * FY * FX, C]
        Geometry g, int batch, int tiles, int width, real tau, real c, real reset, real length, real t_max, int n_slots,
        real dt, int rounding, int study, int last_bin,
        real* __restrict__ times, real* __restrict__ crossings,  // [B, n_slots, N]
        int* __restrict__ counts, real* __restrict__ slopes,     // [B, N], [B, n_slots, N]
        unsigned long long* status) {           // [B, 4]: spikes, silent, overflowing, non-finite
    __shared__ Field<real> fields[CONV_WARPS];
    const int n_positions = g.post_x * g.post_y, n_post = n_positions * g.post_c, warp = threadIdx.x >> 5;
    const size_t place = (size_t)blockIdx.x * CONV_WARPS + warp;  // place in [0, B * positions * tiles)
    if (place >= (size_t)batch * n_positions * tiles) return;
    const FieldUnit unit = field_unit(g, place, tiles, width);
    const size_t trains = unit.s * n_slots * n_post + unit.i, first_event = unit.s * capacity;
    const int n_events = events_before(event_times + first_event, event_counts[unit.s], t_max);
    GridNeuron<real> neuron = {{0, 0, 0, false}, 0, -1, tau, c, reset, length, {dt, rounding, study != 0, last_bin}, n_slots, n_post,
                               times + trains, crossings + trains, slopes + trains};
    walk_field(fields[warp], unit, event_times + first_event, event_neurons + first_event, n_events, weights + unit.channel, g,
               tau, length, t_max, neuron);
    if (unit.valid) {
        for (int k = neuron.walk.n; k < n_slots; ++k) neuron.times[(size_t)k * n_post] = Constants<real>::infinity();
        counts[unit.s * n_post + unit.i] = neuron.walk.n;
    }
    add_status(status + unit.s * 4, neuron.walk, unit.valid);
}
