// Event-driven forward pass of a convolutional LIF layer (docs/theory.md, sections 2 and 7).
//
// A warp owns one position of one sample and up to 32 of its channels, a lane each. It goes through the sample's events 32
// at a time, keeps those inside its receptive field, in order, and lets each lane walk through them as a dense neuron walks
// through its inputs (conv/field.cuh). The interval that follows an event ends with the next event *in the receptive field*: events
// elsewhere change nothing here, so this is exact and asks fewer questions.
#include "common/block.cuh"
#include "common/constants.cuh"
#include "conv/field.cuh"
#include "conv/geometry.cuh"
#include "lif/event.cuh"

template <typename real>
struct ContinuousNeuron {
    Walk<real> walk;
    real tau, c, reset, length;
    int n_slots, n_post;
    real *times, *slopes;

    template <int COUNT>
    __device__ __forceinline__ void through(const Event<real>* events, int base, int n, const real* w, const Moment<real>& moment,
                                            const real* weights, int stride) {
        walk_through<COUNT>(walk, events, base, n, w, moment, weights, stride, tau, c, reset, length, n_slots, times, slopes, n_post);
    }
};

// ----------------------------------------------------------------------------------------------------------------------
// blocks ceil(B * positions * tiles / 8), 256 threads; a tile is `width` <= 32 channels.
template <typename real>
__global__ void __launch_bounds__(32 * CONV_WARPS) conv_spike_times(
        const real* __restrict__ event_times,   // [B, capacity]
        const int* __restrict__ event_neurons,  // [B, capacity]
        const int* __restrict__ event_counts,   // [B]
        int capacity,
        const real* __restrict__ weights,       // [C_pre * FY * FX, C]
        Geometry g, int batch, int tiles, int width, real tau, real c, real reset, real length, real t_max, int n_slots,
        real* __restrict__ times, int* __restrict__ counts, real* __restrict__ slopes,  // [B, n_slots, N], [B, N]
        unsigned long long* status) {           // [B, 4]: spikes, silent, overflowing, non-finite
    __shared__ Field<real> fields[CONV_WARPS];
    const int n_positions = g.post_x * g.post_y, n_post = n_positions * g.post_c;
    const size_t place = (size_t)blockIdx.x * CONV_WARPS + (threadIdx.x >> 5);  // place in [0, B * positions * tiles)
    if (place >= (size_t)batch * n_positions * tiles) return;
    const FieldUnit unit = field_unit(g, place, tiles, width);
    event_times += unit.s * capacity;
    event_neurons += unit.s * capacity;
    times += unit.s * n_slots * n_post + unit.i;
    slopes += unit.s * n_slots * n_post + unit.i;
    const int n_events = events_before(event_times, event_counts[unit.s], t_max);
    ContinuousNeuron<real> neuron = {{0, 0, 0, false}, tau, c, reset, length, n_slots, n_post, times, slopes};
    walk_field(fields[threadIdx.x >> 5], unit, event_times, event_neurons, n_events, weights + unit.channel, g, tau, length, t_max, neuron);
    if (unit.valid) {
        for (int k = neuron.walk.n; k < n_slots; ++k) times[(size_t)k * n_post] = Constants<real>::infinity();
        counts[unit.s * n_post + unit.i] = neuron.walk.n;
    }
    add_status(status + unit.s * 4, neuron.walk, unit.valid);
}
