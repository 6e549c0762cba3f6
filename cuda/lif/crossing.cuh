#pragma once
// The threshold test and the spike in closed form (docs/theory.md, section 2; CPU twin: bats/cpu/spike_times.py).

template <typename real>
__device__ __forceinline__ real discriminant(real a, real b, real c) {
    return fma(b, b, -(4 * a * c));  // an explicit fma: both users below must see the same bits, or the root would be NaN
}

// Does u cross theta while y falls from y_high to y_low? The parabola b y - a y^2 must exceed c (touching it is no spike: the
// slope would be 0), and either u >= theta when the interval closes, or the vertex lies inside. Comparisons with NaN are
// false: NaN never spikes.
template <typename real>
__device__ __forceinline__ bool crosses(real a, real b, real c, real y_high, real y_low) {
    const real two_a = a + a;
    const bool closes_above = y_low * (b - a * y_low) >= c;
    const bool vertex_inside = b < two_a * y_high && b > two_a * y_low;
    return discriminant(a, b, c) > 0 && (closes_above || vertex_inside);
}

template <typename real>
struct Spike {
    real y;      // e^{-(t - t_origin) / tau}
    real slope;  // du/dt
};

// The upward crossing in [y_low, y_high], given that crosses() holds.
template <typename real>
__device__ __forceinline__ Spike<real> first_crossing(real a, real b, real c, real y_high, real y_low) {
    const real two_a = a + a;
    const real x = sqrt(discriminant(a, b, c));
    const real y = min(max((b + x) / two_a, y_low), y_high);
    return {y, x * y};
}
