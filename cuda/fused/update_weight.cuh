#pragma once
// One weight of the fused step: its gradient, and what the optimizer makes of it (as optim/update.cuh, with the roots of fast_math.cuh).
#include "fused/fast_math.cuh"
#include "optim/update.cuh"

constexpr int ADD = 1, STORE = 2, UPDATE = 4;  // mode: add the stored gradient, store the sum, update the weights

template <typename real>
struct Weights {
    real *weight, *m, *v, *gradient;
};

template <typename real>
struct Update {
    Moments<real> moments;
    real rate, correct1, correct2;
    int mode, has_moments;

    // The weight and its moments are given.
    __device__ __forceinline__ void apply(const Weights<real>& array, size_t at, real g, real weight, real m, real v) const {
        if (mode & ADD) g += array.gradient[at];
        if (mode & STORE) array.gradient[at] = g;
        if (!(mode & UPDATE)) return;
        if (!has_moments) {
            array.weight[at] = weight - rate * g;
            return;
        }
        m = moments.beta1 * m + (1 - moments.beta1) * g;
        v = moments.beta2 * v + (1 - moments.beta2) * g * g;
        real step = m * correct1;
        if (moments.nesterov) step = moments.beta1 * step + (1 - moments.beta1) * correct1 * g;
        array.m[at] = m;
        array.v[at] = v;
        array.weight[at] = weight - rate * step * reciprocal(root(v * correct2) + moments.epsilon);
    }

    __device__ __forceinline__ void load_and_apply(const Weights<real>& array, size_t at, real g) const {
        const bool moves = mode & UPDATE;
        const real m = moves && has_moments ? array.m[at] : real(0), v = moves && has_moments ? array.v[at] : real(0);
        apply(array, at, g, moves ? array.weight[at] : real(0), m, v);
    }
};
