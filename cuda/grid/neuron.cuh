#pragma once
// A LIF neuron that emits at multiples of dt only (docs/time_discretization.md; CPU twin: bats/cpu/grid_spike_times.py).
//
// It crosses threshold in continuous time; a spike's bin follows from the crossing, and the reset enters the sums at once, at its own
// time: nobody asks for u before `free`, when the search for the next crossing begins.
#include "lif/crossing.cuh"
#include "lif/event.cuh"

// The grid, and what a neuron does about a crossing in a bin that is taken.
template <typename real>
struct Grid {
    real dt;
    int rounding;  // 0 next, 1 ceil, 2 nearest: bats.discretization.ROUNDINGS
    bool study;
    int last_bin;  // of the simulation
};

template <typename real>
__device__ __forceinline__ real bin_of(real t, const Grid<real>& grid) {
    const real steps = t / grid.dt;
    if (grid.rounding == 0) return floor(steps) + 1;
    return grid.rounding == 1 ? ceil(steps) : floor(steps + real(0.5));
}

// y (b - a y) >= c: is the neuron above threshold?
template <typename real>
__device__ __forceinline__ bool above_threshold(real a, real b, real c, real y) {
    return y * (b - a * y) >= c;
}

template <typename real>
struct GridNeuron {
    Walk<real> walk;
    real free;  // the search goes on from here; -1: latched (rule "study"), until u is below threshold
    int bin;    // of the last spike
    real tau, c, reset, length;
    Grid<real> grid;
    int n_slots, n_post;
    real *times, *crossings, *slopes;

    // Spikes whose crossings lie between an event and the next one, in order.
    __device__ void fire(const Event<real>& event, real t_origin, real t_event, real t_next) {
        real start = t_event, y_high = event.y_high;
        bool first_search = walk.n > 0 && free >= start;  // since the last spike: above threshold means that a spike is due
        if (free > start) {
            start = free;
            y_high = exp((t_origin - start) / tau);
        }
        while (start < t_next) {
            const bool above = above_threshold(walk.a, walk.b, c, y_high);
            if (free < 0) {
                if (above) return;
                free = 0;
            }
            if (!above && !crosses(walk.a, walk.b, c, y_high, event.y_low)) return;
            const bool due = above && first_search;
            real t = start, slope = Constants<real>::infinity();
            if (above) {
                if (!due) slope = sqrt(max(discriminant(walk.a, walk.b, c), real(0))) * y_high;
            } else {
                const Spike<real> spike = first_crossing(walk.a, walk.b, c, y_high, event.y_low);
                t = min(max(t_origin - tau * log(spike.y), start), t_next);
                y_high = spike.y;
                slope = spike.slope;
            }
            real own = bin_of(t, grid);
            if (due || own <= bin) {
                if (grid.study) {
                    free = -1;
                    return;
                }
                own = real(bin + 1);
            }
            if (!(own <= grid.last_bin)) {  // it would be emitted after the end
                walk.b = -Constants<real>::infinity();
                return;
            }
            if (walk.n == n_slots) {
                walk.overflow = true;
                walk.b = -Constants<real>::infinity();
                return;
            }
            bin = int(own);
            const real emitted = own * grid.dt;
            const size_t slot = (size_t)walk.n * n_post;
            times[slot] = emitted;
            crossings[slot] = t;
            slopes[slot] = slope;
            ++walk.n;
            start = t;
            if (grid.study) {
                walk.b -= reset / y_high;
            } else {
                walk.b -= reset * exp((emitted - t_origin) / tau);
                free = max(emitted, t);
                first_search = true;
                if (free > t) {
                    start = free;
                    y_high = exp((t_origin - start) / tau);
                }
            }
            if (n_slots == 1) walk.b = -Constants<real>::infinity();  // time to first spike: nothing overflows
        }
    }

    // Events base ... base + COUNT - 1 of n, as walk_through of lif/event.cuh; the quick test asks whether u reaches theta anywhere
    // in the interval, its beginning included.
    template <int COUNT>
    __device__ __forceinline__ void through(const Event<real>* events, int base, int n, const real* w, const Moment<real>& moment,
                                            const real* weights, int stride) {
        real a = walk.a, b = walk.b;
        bool moves = false, fires = false;
#pragma unroll
        for (int u = 0; u < COUNT; ++u) {
            const Event<real> event = events[base + u];
            moves |= event.row < 0;
            a += w[u] * (event.e * event.e);
            b += w[u] * event.e;
            fires |= may_fire(a, b, event);
        }
        if (!moves && !fires) {
            walk.a = a;
            walk.b = b;
            return;
        }
#pragma unroll 1
        for (int e = base; e < min(base + COUNT, n); ++e) {
            const Event<real> event = events[e];
            if (event.row < 0) {
                walk.b *= moment.decay[e];
                walk.a *= moment.decay[e] * moment.decay[e];
            }
            const real weight = weights[(size_t)(event.row < 0 ? ~event.row : event.row) * stride];
            walk.a += weight * (event.e * event.e);
            walk.b += weight * event.e;
            if (may_fire(walk.a, walk.b, event)) fire(event, moment.origin[e] * length, moment.t[e], moment.t_next[e]);
        }
    }

    __device__ __forceinline__ bool may_fire(real a, real b, const Event<real>& event) const {
        const bool open = event.y_low == event.y_low;  // NaN: the next event has the same time
        return open && (above_threshold(a, b, c, event.y_high) || crosses(a, b, c, event.y_high, event.y_low));
    }
};
