#pragma once
// Forward pass with one comparison per event (docs/performance.md): the sums a and b are kept without resets, and the resets in one
// sum R ("fall"). All times lie before L = 8 tau, so that factors E = e^{t / tau} need no origin.
#include "common/constants.cuh"
#include "events/spike_list.cuh"
#include "fused/fast_math.cuh"
#include "lif/crossing.cuh"

// One event and the interval after it. u reaches theta at y iff b - R >= a y + c / y; over the interval E ... E_next the right side
// is at most c (E_next - E)^2 / E_next below its value at the end, which makes the limit that b - a y_low - R must reach.
template <typename real>
struct __align__(4 * sizeof(real)) Interval {
    real e;      // factor E of the event
    real y_low;  // 1 / E_next
    real limit;  // infinity where the next event has the same time: no interval, no test
    int offset;  // of the row of weights, in numbers or bytes
};

template <typename real>
__device__ __forceinline__ real limit_after(real e, real e_next, real y_low, real c) {
    const real width = e_next - e, rounding = e_next * real(1e-6);  // the bound must not be sharper than the exact test
    return c * (e_next - width * width * y_low - rounding);
}

// Without a branch; tested: whether there is to be a test.
template <typename real>
__device__ __forceinline__ Interval<real> interval_after(real e, real e_next, int offset, real c, bool tested) {
    const real y_low = reciprocal(e_next);
    return {e, y_low, tested && e != e_next ? limit_after(e, e_next, y_low, c) : Constants<real>::infinity(), offset};
}

template <typename real>
__device__ __forceinline__ Interval<real> make_interval(real e, real e_next, int offset, real c) {
    if (e == e_next) return {e, 0, Constants<real>::infinity(), offset};
    const real y_low = reciprocal(e_next);
    return {e, y_low, limit_after(e, e_next, y_low, c), offset};
}

// Nothing happens; fills a group of events.
template <typename real>
__device__ __forceinline__ Interval<real> no_interval(int offset) {
    return {0, 0, Constants<real>::infinity(), offset};
}

// Parameters of a neuron, and where its spikes go.
template <typename real>
struct SpikeWriter {
    real tau, c, reset, t_max;
    int n_slots;
    size_t stride;
    real *times, *slopes;
};

// Where a neuron stands: sums without resets, sum of the resets (infinity: it never fires again).
template <typename real>
struct Train {
    real a, b, fall;
    int n;
    bool overflow;
};

// Keeps y and slope of spike n; finish_trains makes a time of y, for all spikes at once.
template <typename real>
__device__ __forceinline__ void keep_spike(const SpikeWriter<real>& out, int n, const Spike<real>& spike) {
    out.times[n * out.stride] = spike.y;
    out.slopes[n * out.stride] = spike.slope;
}

template <typename real>
__device__ __forceinline__ real time_of(const SpikeWriter<real>& out, real y) {
    return min(-out.tau * log(y), out.t_max);
}

// first_crossing() with the roots and reciprocals of fast_math.cuh.
template <typename real>
__device__ __forceinline__ Spike<real> crossing_within(real a, real b, real c, real y_high, real y_low) {
    const real x = root(discriminant(a, b, c));
    const real y = min(max((b + x) * reciprocal(a + a), y_low), y_high);
    return {y, x * y};
}

// All spikes of one neuron within an interval, exactly; a, b: its sums there.
template <typename real>
__device__ __forceinline__ void fire_within(const SpikeWriter<real>& out, const Interval<real>& interval, real a, real b, Train<real>& train) {
    for (real y_high = reciprocal(interval.e); crosses(a, b - train.fall, out.c, y_high, interval.y_low);) {
        if (train.n == out.n_slots) {
            train.overflow = true;
            train.fall = Constants<real>::infinity();
            return;
        }
        const Spike<real> spike = crossing_within(a, b - train.fall, out.c, y_high, interval.y_low);
        keep_spike(out, train.n, spike);
        ++train.n;
        train.fall += out.reset * reciprocal(spike.y);
        y_high = spike.y;
        if (out.n_slots == 1) train.fall = Constants<real>::infinity();  // time to first spike: nothing overflows
    }
}

// Times of the spikes that were kept, infinity in the slots behind them; the spikes also go to the list of sample s, if one is wanted.
// By the warp that kept them; valid: whether the lane has a train; rank: of its first slot, in the list.
template <typename real>
__device__ __forceinline__ void finish_trains(const SpikeWriter<real>& out, const Train<real>& train, bool valid,
                                              const SpikeList<real>& list, size_t s, int rank) {
    constexpr int AHEAD = 4;
    Reserved reserved = {};
    if (list.times) reserved = reserve(list.counts + s, train.n);
    for (int first = 0; first < out.n_slots; first += AHEAD) {
        real y[AHEAD];
#pragma unroll
        for (int u = 0; u < AHEAD; ++u) y[u] = first + u < train.n ? out.times[(first + u) * out.stride] : real(1);
        const int place = reserved.first() + first;
#pragma unroll
        for (int u = 0; u < AHEAD; ++u) {
            if (first + u >= out.n_slots) break;
            const bool spiked = first + u < train.n;
            const real time = spiked ? time_of(out, y[u]) : Constants<real>::infinity();
            if (valid) out.times[(first + u) * out.stride] = time;
            if (spiked && list.times) list.put(s, place + u, time, rank + first + u);
        }
    }
}
