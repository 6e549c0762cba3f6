#pragma once

// A factor that no spike exceeds: events after t_max may lie anywhere.
template <typename real>
__device__ __forceinline__ real bounded_factor(real t, real tau) {
    return exp(min(t / tau, real(9)));
}
