#pragma once
// What the three kernels of the fused step share (bats/fused): the samples of a batch, the threshold test, and the numbers kept per spike.
//
// All times lie below one time origin's reach (t_max < 8 tau), so a spike is known by its factor q = e^{t / tau} alone: causality
// is a comparison of factors, and the next layer's E is q itself. A spike's gain is kept as G = delta tau / (z q^2): an event
// at E < q then adds G E (E - q) to the gradient of its weight, and w G E (2 E - q) / tau to dL/dt of the event (docs/theory.md, (30)).
#include "common/constants.cuh"
#include "fused/fast_math.cuh"

constexpr int NEURONS = 8;  // hidden neurons of a block of the third kernel; the second one stores for it block by block

struct __align__(16) Sample {
    long long first;  // of its events in the list of all events
    int n_events;
    int label;
};

// The input neuron of every event, in 16 bits where that is enough.
struct EventRows {
    const void* rows;
    int wide, padding;

    __device__ __forceinline__ int at(long long event) const {
        return wide ? static_cast<const int*>(rows)[event] : static_cast<const unsigned short*>(rows)[event];
    }
};

// Where the spikes of a hidden neuron are in the list of its sample.
struct __align__(8) Place {
    int start, count;
};

// u reaches theta at y iff b - R >= a y + c / y, where a and b are sums without resets and R the sum of the resets. Over the interval
// E ... E_next the right side is at most c (E_next - E)^2 / E_next below its value at the end: only if b - a y_low - R reaches
// this limit is the exact test worth its time. y_low = 1 / E_next.
template <typename real>
__device__ __forceinline__ real crossing_limit(real e, real e_next, real y_low, real c) {
    const real width = e_next - e, rounding = e_next * real(1e-6);  // the bound must not be sharper than the exact test
    return c * (e_next - width * width * y_low - rounding);
}

// docs/theory.md, section 2, as lif/crossing.cuh, in one piece without a branch: x = sqrt(b^2 - 4 a c), whether u crosses theta while y falls
// from y_high to y_low (never with NaN), and y there.
template <typename real>
struct Crossing {
    bool crosses;
    real x, y;
};

template <typename real>
__device__ __forceinline__ Crossing<real> crossing(real a, real b, real c, real inverse_two_a, real y_high, real y_low) {
    const real two_a = a + a, discriminant = fma(b, b, -2 * two_a * c);
    const bool closes_above = y_low * fma(-a, y_low, b) >= c;
    const bool vertex_inside = b < two_a * y_high && b > two_a * y_low;
    const real x = root(discriminant);
    return {discriminant > 0 && (closes_above || vertex_inside), x, min(max((b + x) * inverse_two_a, y_low), y_high)};
}

// The backward walk through the spikes of one neuron in one sample (docs/theory.md, (19)): emit(k, q, G) for every spike,
// latest first. Returns sum |delta tau / z| / 4, which bounds what the spikes add to any weight's gradient, since |r (r - 1)| <= 1/4.
template <typename real, typename Slope, typename Factor, typename Error, typename Emit>
__device__ __forceinline__ real recurrent_gains(int count, real tau, real reset, real slope_floor, int& n_bounded, Slope slope_of,
                                                Factor factor_of, Error error_of, Emit emit) {
    constexpr int AHEAD = 4;  // spikes loaded together: the recurrence then waits for memory once in four spikes
    real later = 0, bound = 0;
    for (int last = count - 1; last >= 0; last -= AHEAD) {
        real slope[AHEAD], q[AHEAD], error[AHEAD];
#pragma unroll
        for (int u = 0; u < AHEAD; ++u) {
            const int k = max(last - u, 0);
            slope[u] = slope_of(k);
            q[u] = factor_of(k);
            error[u] = error_of(k);
        }
#pragma unroll
        for (int u = 0; u < AHEAD; ++u) {
            if (last - u < 0) break;
            if (slope[u] < slope_floor) {
                slope[u] = slope_floor;
                ++n_bounded;
            }
            const real y = reciprocal(q[u]), inverse = reciprocal(slope[u]);
            const real delta = fma(later, q[u], error[u]);
            const real response = delta * inverse, gain = response * tau;
            later = fma(response, reset * y, later);
            bound += abs(gain) / 4;
            emit(last - u, q[u], gain * y * y);
        }
    }
    return bound;
}
