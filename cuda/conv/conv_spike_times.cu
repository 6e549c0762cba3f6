// Event-driven forward pass of a convolutional LIF layer (docs/theory.md, sections 2 and 7).
//
// A warp owns one position of one sample and up to 32 of its channels, a lane each. It goes through the sample's events 32
// at a time, keeps those inside its receptive field, in order, and lets each lane walk through them as a dense neuron walks
// through its inputs. The interval that follows an event ends with the next event *in the receptive field*: events elsewhere
// change nothing here, so this is exact and asks fewer questions.
#include "common/block.cuh"
#include "common/constants.cuh"
#include "common/time_grid.cuh"
#include "conv/geometry.cuh"
#include "lif/crossing.cuh"
#include "lif/event.cuh"

constexpr int CONV_WARPS = 8;

// What a warp shares. The queue holds the events of the receptive field that wait; the rest describes those that are next.
template <typename real>
struct Field {
    Event<real> events[32];
    real t[32], t_next[32], origin[32], decay[32];
    real queue_t[64];
    int queue_row[64];
};

// Records of the first n queued events, one per lane; returns the origin of the last one.
template <typename real>
__device__ __forceinline__ real prepare(Field<real>& field, int n, int queued, real earlier_origin, real tau, real length, real t_max) {
    const int lane = threadIdx.x & 31;
    real origin = earlier_origin;
    if (lane < n) {
        const real t = field.queue_t[lane];
        const real t_next = lane + 1 < queued ? min(field.queue_t[lane + 1], t_max) : t_max;
        origin = origin_of(t, length);
        const real before = lane > 0 ? origin_of(field.queue_t[lane - 1], length) : earlier_origin;
        int row = field.queue_row[lane];
        field.decay[lane] = 1;
        if (before != origin) {
            field.decay[lane] = shift(before, origin, length, tau);
            row = ~row;
        }
        field.events[lane] = make_event(t, t_next, origin, row, tau, length);
        field.t[lane] = t;
        field.t_next[lane] = t_next;
        field.origin[lane] = origin;
    } else {
        field.events[lane] = no_event<real>();
    }
    __syncwarp();
    return __shfl_sync(FULL_WARP, origin, n - 1);
}

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
    constexpr int UNROLL = 8;
    __shared__ Field<real> fields[CONV_WARPS];
    const int lane = threadIdx.x & 31;
    const int n_positions = g.post_x * g.post_y, n_post = n_positions * g.post_c;
    const size_t unit = (size_t)blockIdx.x * CONV_WARPS + (threadIdx.x >> 5);  // unit in [0, B * positions * tiles)
    if (unit >= (size_t)batch * n_positions * tiles) return;
    Field<real>& field = fields[threadIdx.x >> 5];
    const int tile = unit % tiles, position = unit / tiles % n_positions;
    const size_t s = unit / tiles / n_positions;
    const int px = position / g.post_y, py = position % g.post_y;
    const int channel = tile * width + lane;
    const bool valid = lane < width && channel < g.post_c;
    const int i = position * g.post_c + (valid ? channel : 0);
    event_times += s * capacity;
    event_neurons += s * capacity;
    times += s * n_slots * n_post + i;
    slopes += s * n_slots * n_post + i;
    weights += valid ? channel : 0;
    const int n_events = events_before(event_times, event_counts[s], t_max);

    const Moment<real> moment = {field.t, field.t_next, field.origin, field.decay};
    Walk<real> walk = {0, 0, 0, false};
    real origin = 0;
    int queued = 0;
    real ahead_t = lane < n_events ? event_times[lane] : real(0);
    int ahead_neuron = lane < n_events ? event_neurons[lane] : 0;
    for (int first = 0; first < n_events || queued > 0; first += 32) {
        if (first < n_events) {
            const real t = ahead_t;
            const int row = first + lane < n_events ? row_seen_from(g, ahead_neuron, px, py) : -1;
            const int ahead = first + 32 + lane;
            if (ahead < n_events) {
                ahead_t = event_times[ahead];
                ahead_neuron = event_neurons[ahead];
            }
            const unsigned inside = __ballot_sync(FULL_WARP, row >= 0);
            if (row >= 0) {
                const int place = queued + __popc(inside & ((1u << lane) - 1));
                field.queue_t[place] = t;
                field.queue_row[place] = row;
            }
            __syncwarp();
            queued += __popc(inside);
            if (queued <= 32 && first + 32 < n_events) continue;  // the last of 32 must know the event that follows
        }
        if (queued == 0) break;
        const int n = min(queued, 32);
        origin = prepare(field, n, queued, origin, tau, length, t_max);
        if (valid) {
            real next[UNROLL];
            load_weights<UNROLL>(field.events, 0, n, weights, g.post_c, next);
            for (int base = 0; base < n; base += UNROLL) {
                real w[UNROLL];
#pragma unroll
                for (int u = 0; u < UNROLL; ++u) w[u] = next[u];
                load_weights<UNROLL>(field.events, base + UNROLL, n, weights, g.post_c, next);
                walk_through<UNROLL>(walk, field.events, base, n, w, moment, weights, g.post_c, tau, c, reset, length, n_slots, times,
                                     slopes, n_post);
            }
        }
        // What is left moves to the front of the queue.
        const int left = queued - n;
        const real t = lane < left ? field.queue_t[n + lane] : real(0);
        const int row = lane < left ? field.queue_row[n + lane] : 0;
        __syncwarp();
        if (lane < left) {
            field.queue_t[lane] = t;
            field.queue_row[lane] = row;
        }
        __syncwarp();
        queued = left;
    }
    if (valid) {
        for (int k = walk.n; k < n_slots; ++k) times[(size_t)k * n_post] = Constants<real>::infinity();
        counts[s * n_post + i] = walk.n;
    }
    add_status(status + s * 4, walk, valid);
}
