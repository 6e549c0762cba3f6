#pragma once
// Spikes of a neuron that receives many events, by a warp (dense_forward.cu; one comparison per 32 events: interval.cuh).
// Sums without resets do not depend on the spikes: they are made before, for stretches of events in parallel. Of the running sums those at
// the start of every list of 32 events are kept, and the greatest distance to the limit among the 32.
#include "common/block.cuh"
#include "lif/interval.cuh"

constexpr int LIST = 32;  // events that are searched together

// Sums at the start of each list, and the distance; an entry every `pitch`, at the neuron's column.
template <typename real>
struct Kept {
    real *a, *b, *distance;
    int pitch;
};

// Adds the sums of all events before a stretch to what was kept of a list in it. y lies between y_least and y_most in the list. Returns the distance.
template <typename real>
__device__ __forceinline__ real settle(const Kept<real>& kept, int list, real before_a, real before_b, real y_most, real y_least) {
    const int place = list * kept.pitch;
    kept.a[place] += before_a;
    kept.b[place] += before_b;
    const real own = kept.distance[place], shift = before_b - before_a * (before_a > 0 ? y_least : y_most);
    const real far = own + shift + (abs(own) + abs(before_a) + abs(before_b)) * real(1e-6);  // rounding must not hide a spike
    kept.distance[place] = far;
    return far;
}

// The weight so many bytes behind the first: a sum of 32 bits beside a common address costs one instruction less than a pointer per lane.
template <typename real>
__device__ __forceinline__ real weight_at(const real* weights, unsigned bytes) {
    return *reinterpret_cast<const real*>(reinterpret_cast<const char*>(weights) + bytes);
}

// One neuron, `mine` bytes behind the start of a row of weights, walks through n events; their offsets are in bytes. Its spikes are kept as y
// (whoever knows them all makes times of them).
template <typename real>
__device__ __forceinline__ void search(const Interval<real>* intervals, int n, const real* weights, unsigned mine, const Kept<real>& kept,
                                       const SpikeWriter<real>& out, Train<real>& train) {
    const int lane = threadIdx.x & 31, n_lists = (n + LIST - 1) / LIST;
    bool done = train.fall == Constants<real>::infinity();
    for (int base = 0; base < n_lists && !done; base += 32) {
        const real far = base + lane < n_lists ? kept.distance[(base + lane) * kept.pitch] : -Constants<real>::infinity();
        unsigned open = FULL_WARP;
        Interval<real> ahead;  // of the next candidate, on its way while a list is searched
        real ahead_w = 0;
        int ahead_list = -1;
        const auto look_ahead = [&](int list) {
            const int e = list * LIST + lane;
            ahead = e < n ? intervals[e] : no_interval<real>(0);
            ahead_w = weight_at(weights, ahead.offset + mine);
            ahead_list = list;
        };
        while (!done) {
            const unsigned candidates = __ballot_sync(FULL_WARP, far >= train.fall) & open;
            if (candidates == 0) break;
            const int found = __ffs(candidates) - 1, list = base + found;
            open = found == 31 ? 0 : FULL_WARP << (found + 1);
            if (ahead_list != list) look_ahead(list);
            const Interval<real> interval = ahead;
            const real part = ahead_w * interval.e;
            if (candidates & open) look_ahead(base + __ffs(candidates & open) - 1);
            const real b = kept.b[list * kept.pitch] + warp_inclusive_sum(part);
            const real a = kept.a[list * kept.pitch] + warp_inclusive_sum(part * interval.e);
            const bool tested = interval.limit < Constants<real>::infinity();
            real y_high = reciprocal(interval.e);
            unsigned pending = FULL_WARP;  // events whose following interval is still to be searched
            while (!done) {
                const bool hit = tested && (pending >> lane & 1) && crosses(a, b - train.fall, out.c, y_high, interval.y_low);
                const unsigned hits = __ballot_sync(FULL_WARP, hit);
                if (hits == 0) break;
                if (train.n == out.n_slots) {
                    train.overflow = true;
                    done = true;
                    break;
                }
                const int first = __ffs(hits) - 1;
                pending = FULL_WARP << first;
                const Spike<real> spike = crossing_within(a, b - train.fall, out.c, y_high, interval.y_low);  // of use in one lane only
                const real drop = __shfl_sync(FULL_WARP, out.reset * reciprocal(spike.y), first);
                if (lane == first) {
                    keep_spike(out, train.n, spike);
                    y_high = spike.y;  // the rest of this interval begins at the spike
                }
                train.fall += drop;
                ++train.n;
                done = out.n_slots == 1;
            }
        }
    }
    if (done) train.fall = Constants<real>::infinity();
}
