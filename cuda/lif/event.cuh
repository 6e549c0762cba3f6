#pragma once
// What the forward passes of dense and convolutional layers share: the record of one event, and the spikes of a neuron
// between two events (docs/theory.md, section 2).
#include "common/block.cuh"
#include "common/constants.cuh"
#include "common/time_grid.cuh"
#include "lif/crossing.cuh"

// What every neuron that receives an event needs to know about it.
template <typename real>
struct __align__(4 * sizeof(real)) Event {
    real e;       // factor E of the event
    real y_high;  // 1 / E
    real y_low;   // y at the next event or at t_max; NaN where the next event has the same time: no interval, no test
    int row;      // row of the weights; ~row if the sums must first be moved to a new origin
};

template <typename real>
__device__ __forceinline__ Event<real> make_event(real t, real t_next, real origin, int row, real tau, real length) {
    Event<real> event;
    event.e = factor(t, origin, length, tau);
    event.y_high = 1 / event.e;
    event.y_low = t_next == t ? Constants<real>::nan() : exp((origin * length - t_next) / tau);
    event.row = row;
    return event;
}

// Number of leading events that lie before t_max: later ones change nothing that is asked for.
template <typename real>
__device__ int events_before(const real* times, int n_events, real t_max) {
    if (n_events == 0 || times[n_events - 1] < t_max) return n_events;  // the usual case, and one load instead of ten in turn
    int low = 0, high = n_events;
    while (low < high) {
        const int middle = (low + high) >> 1;
        if (times[middle] < t_max) low = middle + 1;
        else high = middle;
    }
    return low;
}

// The weights of the next COUNT events: they are on their way while the events before are added. 0 past the last event.
template <int COUNT, typename real>
__device__ __forceinline__ void load_weights(const Event<real>* events, int base, int n_tile, const real* weights, int n_post, real* w) {
#pragma unroll
    for (int u = 0; u < COUNT; ++u) {
        w[u] = 0;
        if (base + u < n_tile) {
            const int row = events[base + u].row;
            w[u] = weights[(size_t)(row < 0 ? ~row : row) * n_post];
        }
    }
}

// A record that changes nothing, to fill a group of events.
template <typename real>
__device__ __forceinline__ Event<real> no_event() {
    return {0, 0, Constants<real>::nan(), 0};
}

// ----------------------------------------------------------------------------------------------------------------------
// Where a neuron stands in its walk through the events.
template <typename real>
struct Walk {
    real a, b;      // sum w E^2, sum w E - D sum q, relative to the origin of the last event
    int n;          // spikes so far
    bool overflow;  // it would have fired once more than it can hold
};

// All spikes between an event and the next one, at t_next; the caller has seen that the first one crosses.
template <typename real>
__device__ __forceinline__ void fire(Walk<real>& walk, const Event<real>& event, real t_origin, real t_last, real t_next,
                                     real tau, real c, real reset, int n_slots, real* times, real* slopes, int stride) {
    real y_high = event.y_high;
    do {
        if (walk.n == n_slots) {
            walk.overflow = true;
            walk.b = -Constants<real>::infinity();
            break;
        }
        const Spike<real> spike = first_crossing(walk.a, walk.b, c, y_high, event.y_low);
        const real t = min(max(t_origin - tau * log(spike.y), t_last), t_next);
        times[(size_t)walk.n * stride] = t;
        slopes[(size_t)walk.n * stride] = spike.slope;
        ++walk.n;
        walk.b -= reset / spike.y;
        y_high = spike.y;
        t_last = t;
        if (n_slots == 1) walk.b = -Constants<real>::infinity();  // time to first spike: nothing overflows
    } while (crosses(walk.a, walk.b, c, y_high, event.y_low));
}

// What only events with spikes, or with a new origin, need: time of the event and of the next one, origin, and what moves
// sums from the origin before.
template <typename real>
struct Moment {
    const real *t, *t_next, *origin, *decay;
};

// Takes a neuron through events base ... base + COUNT - 1 of n (filled up with no_event). All tests are made at once, without
// a branch in between; only if one of them finds a crossing are the events taken one by one.
template <int COUNT, typename real>
__device__ __forceinline__ void walk_through(Walk<real>& walk, const Event<real>* events, int base, int n, const real* w,
                                             const Moment<real>& moment, const real* weights, int n_post, real tau, real c,
                                             real reset, real length, int n_slots, real* times, real* slopes, int stride) {
    real a = walk.a, b = walk.b;
    bool moves = false, fires = false;
#pragma unroll
    for (int u = 0; u < COUNT; ++u) {
        const Event<real> event = events[base + u];
        moves |= event.row < 0;
        a += w[u] * (event.e * event.e);
        b += w[u] * event.e;
        fires |= crosses(a, b, c, event.y_high, event.y_low);
    }
    if (!moves && !fires) {
        walk.a = a;
        walk.b = b;
        return;
    }
#pragma unroll 1
    for (int e = base; e < min(base + COUNT, n); ++e) {
        const Event<real> event = events[e];
        int row = event.row;
        if (row < 0) {
            const real decay = moment.decay[e];
            walk.b *= decay;
            walk.a *= decay * decay;
            row = ~row;
        }
        const real weight = weights[(size_t)row * n_post];
        walk.a += weight * (event.e * event.e);
        walk.b += weight * event.e;
        if (!crosses(walk.a, walk.b, c, event.y_high, event.y_low)) continue;
        fire(walk, event, moment.origin[e] * length, moment.t[e], moment.t_next[e], tau, c, reset, n_slots, times, slopes, stride);
    }
}

// Adds what a warp's neurons did to status [4]: spikes, silent, overflowing, non-finite.
template <typename real>
__device__ __forceinline__ void add_status(unsigned long long* status, const Walk<real>& walk, bool valid) {
    const int spikes = warp_sum(valid ? walk.n : 0);
    const int silent = __popc(__ballot_sync(FULL_WARP, valid && walk.n == 0));
    const int overflows = __popc(__ballot_sync(FULL_WARP, valid && walk.overflow));
    const int bad = __popc(__ballot_sync(FULL_WARP, valid && !isfinite(walk.a)));
    if ((threadIdx.x & 31) == 0) {
        if (spikes) atomicAdd(&status[0], (unsigned long long)spikes);
        if (silent) atomicAdd(&status[1], (unsigned long long)silent);
        if (overflows) atomicAdd(&status[2], (unsigned long long)overflows);
        if (bad) atomicAdd(&status[3], (unsigned long long)bad);
    }
}
