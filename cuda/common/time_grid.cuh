#pragma once
// Time relative to a grid of origins at c * L, L = 8 tau (docs/theory.md, section 5; CPU twin: bats/cpu/time_grid.py).
// No exponential overflows, however long the simulation: E = e^{(t - c L) / tau} lies in [1, e^8).

template <typename real>
__device__ __forceinline__ real origin_of(real t, real length) {
    return floor(t / length);
}

template <typename real>
__device__ __forceinline__ real factor(real t, real origin, real length, real tau) {
    return exp((t - origin * length) / tau);
}

// What moves a sum relative to origin `from` to one relative to `to`; its square for sums in tau_s.
template <typename real>
__device__ __forceinline__ real shift(real from, real to, real length, real tau) {
    return exp((from - to) * length / tau);
}
