#pragma once
// What the forward kernels of the fused step for several hidden layers share: where events come from, and the bound that spares the exact
// test of docs/theory.md, (12).
#include "fused/fast_math.cuh"
#include "lif/crossing.cuh"

constexpr int EVENTS = 0, SPIKES = 1, LIST = 2;  // what comes in: events of the images, spikes to be sorted, spikes sorted before

// Number of leading events before t_max: later ones change nothing that is asked for.
template <typename real>
__device__ __forceinline__ int events_before(const real* factors, int n_events, real last_factor) {
    if (n_events == 0 || factors[n_events - 1] < last_factor) return n_events;
    int low = 0, high = n_events;
    while (low < high) {
        const int middle = (low + high) >> 1;
        if (factors[middle] < last_factor) low = middle + 1;
        else high = middle;
    }
    return low;
}

// As first_crossing() of lif/crossing.cuh, with the root and the reciprocals of fast_math.cuh; also q = 1 / y.
template <typename real>
struct FastSpike {
    real y, slope, q;
};

template <typename real>
__device__ __forceinline__ FastSpike<real> fast_first_crossing(real a, real b, real c, real inverse_two_a, real y_high, real y_low) {
    const real x = root(discriminant(a, b, c)), y = min(max((b + x) * inverse_two_a, y_low), y_high);
    return {y, x * y, reciprocal(y)};
}

// u reaches theta at y iff b - R >= a y + c / y; over the interval e ... next the right side is at most c (next - e)^2 / next below its
// value at the end, a y_low + c next: with b - a y_low - R below this limit there is no crossing.
template <typename real>
__device__ __forceinline__ real limit_of_interval(real e, real next, real y_low, real c) {
    const real width = next - e, rounding = next * real(1e-6);  // the bound must not be sharper than the exact test
    return c * (next - width * width * y_low - rounding);
}
