#pragma once
// The threshold test and the spike in closed form (docs/theory.md, section 2; CPU twin: bats/cpu/spike_times.py).

// Does u reach theta while y falls from y_high to y_low? Comparisons with NaN are false: NaN never spikes.
template <typename real>
__device__ __forceinline__ bool crosses(real a, real b, real c, real y_high, real y_low) {
    const real two_a = a + a;
    const bool closes_above = y_low * (b - a * y_low) >= c;
    const bool vertex_above = b < two_a * y_high && b > two_a * y_low && b * b >= (two_a + two_a) * c;
    return closes_above || vertex_above;
}

template <typename real>
struct Spike {
    real y;      // e^{-(t - t_origin) / tau}
    real slope;  // du/dt
};

// The upward crossing in [y_low, y_high], given that crosses() holds.
template <typename real>
__device__ __forceinline__ Spike<real> first_crossing(real a, real b, real c, real y_high, real y_low) {
    const real square = b * b - 4 * a * c;
    const real x = square > 0 ? sqrt(square) : real(0);
    const real y = min(max((b + x) / (a + a), y_low), y_high);
    return {y, x * y};
}
