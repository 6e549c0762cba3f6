#pragma once
// Sums over the spikes of a neuron from one spike on: what an earlier input event needs to know about all of them
// (docs/theory.md, equation 30). Made once per backward pass by later_sums.
#include "common/constants.cuh"
#include "common/time_grid.cuh"

template <typename real>
struct __align__(4 * sizeof(real)) Later {
    real t;       // of the spike; infinity closes a train that is not full
    real p, q;    // sums of gain y and gain y^2 over this spike and later ones, relative to its origin
    real origin;  // of the spike
};

// The record of a neuron's first spike after t; false if there is none. Slots are `stride` apart.
template <typename real>
__device__ __forceinline__ bool first_later(const Later<real>* later, size_t stride, int n_slots, real t, Later<real>& found) {
    for (int k = 1; !(found.t > t); ++k) {
        if (k == n_slots) return false;
        found = later[k * stride];
    }
    return found.t < Constants<real>::infinity();
}

// Factor of an event relative to the origin of a record.
template <typename real>
__device__ __forceinline__ real relative(real event_factor, real origin, const Later<real>& later, real length, real tau) {
    return origin == later.origin ? event_factor : event_factor * shift(origin, later.origin, length, tau);
}
