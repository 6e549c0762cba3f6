#pragma once
// A warp's walk through the events of its receptive field (see cuda/conv/conv_spike_times.cu), for any kind of neuron.
#include "common/block.cuh"
#include "common/constants.cuh"
#include "common/time_grid.cuh"
#include "conv/geometry.cuh"
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

// What a warp works on: one position of one sample and up to 32 of its channels, a lane each.
struct FieldUnit {
    size_t s;    // sample
    int px, py;  // position
    int i;       // neuron, of the position's first channel if the lane has none
    int channel;
    bool valid;  // whether the lane has a channel
};

// unit in [0, B * positions * tiles); a tile is `width` <= 32 channels.
__device__ __forceinline__ FieldUnit field_unit(const Geometry& g, size_t unit, int tiles, int width) {
    const int lane = threadIdx.x & 31, n_positions = g.post_x * g.post_y;
    const int position = unit / tiles % n_positions, channel = unit % tiles * width + lane;
    const bool valid = lane < width && channel < g.post_c;
    return {unit / tiles / n_positions, position / g.post_y, position % g.post_y, position * g.post_c + (valid ? channel : 0),
            valid ? channel : 0, valid};
}

// Takes each lane's neuron through the events of its position. Neuron::through<COUNT>(events, base, n, w, moment, weights, stride) takes
// events base ... base + COUNT - 1 of n. event_times, event_neurons: of the sample; weights: of the lane's channel.
template <typename real, typename Neuron>
__device__ __forceinline__ void walk_field(Field<real>& field, const FieldUnit& unit, const real* event_times, const int* event_neurons,
                                           int n_events, const real* weights, const Geometry& g, real tau, real length, real t_max,
                                           Neuron& neuron) {
    constexpr int UNROLL = 8;
    const int lane = threadIdx.x & 31, px = unit.px, py = unit.py;
    const bool valid = unit.valid;
    const Moment<real> moment = {field.t, field.t_next, field.origin, field.decay};
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
                neuron.template through<UNROLL>(field.events, base, n, w, moment, weights, g.post_c);
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
}
