#pragma once
// Weights of the fused step: their gradient, and what the optimizer makes of them (as optim/update.cuh, with the roots of fast_math.cuh).
#include "fused/fast_math.cuh"
#include "optim/update.cuh"

constexpr int ADD = 1, STORE = 2, UPDATE = 4;  // mode: add the stored gradient, store the sum, update the weights

template <typename real>
struct Weights {
    real *weight, *m, *v, *gradient;
};

// 16 bytes that are loaded and stored together.
template <typename real>
struct __align__(16) Pack {
    static constexpr int N = 16 / sizeof(real);
    real x[N];

    static __device__ __forceinline__ Pack load(const real* from) { return *reinterpret_cast<const Pack*>(from); }
    __device__ __forceinline__ void store(real* to) const { *reinterpret_cast<Pack*>(to) = *this; }
};

template <typename real>
struct Update {
    Moments<real> moments;
    real rate, correct1, correct2;
    int mode, has_moments;

    // One step of the optimizer.
    __device__ __forceinline__ void change(real g, real& weight, real& m, real& v) const {
        if (!has_moments) {
            weight -= rate * g;
            return;
        }
        m = moments.beta1 * m + (1 - moments.beta1) * g;
        v = moments.beta2 * v + (1 - moments.beta2) * g * g;
        real step = m * correct1;
        if (moments.nesterov) step = moments.beta1 * step + (1 - moments.beta1) * correct1 * g;
        weight -= rate * step * reciprocal(root(v * correct2) + moments.epsilon);
    }

    __device__ __forceinline__ void load_and_apply(const Weights<real>& array, size_t at, real g) const {
        const bool moves = mode & UPDATE, with_moments = moves && has_moments;
        apply(array, at, g, moves ? array.weight[at] : real(0), with_moments ? array.m[at] : real(0), with_moments ? array.v[at] : real(0));
    }

    // The weight and its moments are given.
    __device__ __forceinline__ void apply(const Weights<real>& array, size_t at, real g, real weight, real m, real v) const {
        if (mode & ADD) g += array.gradient[at];
        if (mode & STORE) array.gradient[at] = g;
        if (!(mode & UPDATE)) return;
        change(g, weight, m, v);
        array.weight[at] = weight;
        if (!has_moments) return;
        array.m[at] = m;
        array.v[at] = v;
    }

    // The same for numbers side by side; weight and moments are given.
    __device__ __forceinline__ void apply(const Weights<real>& array, size_t at, Pack<real> g, Pack<real> weight, Pack<real> m,
                                          Pack<real> v) const {
        if (mode & ADD) {
            const Pack<real> before = Pack<real>::load(array.gradient + at);
#pragma unroll
            for (int c = 0; c < Pack<real>::N; ++c) g.x[c] += before.x[c];
        }
        if (mode & STORE) g.store(array.gradient + at);
        if (!(mode & UPDATE)) return;
#pragma unroll
        for (int c = 0; c < Pack<real>::N; ++c) change(g.x[c], weight.x[c], m.x[c], v.x[c]);
        weight.store(array.weight + at);
        if (!has_moments) return;
        m.store(array.m + at);
        v.store(array.v + at);
    }

    __device__ __forceinline__ void load_and_apply(const Weights<real>& array, size_t at, const Pack<real>& g) const {
        const bool moves = mode & UPDATE, with_moments = moves && has_moments;
        const Pack<real> none = {};
        const Pack<real> weight = moves ? Pack<real>::load(array.weight + at) : none;
        const Pack<real> m = with_moments ? Pack<real>::load(array.m + at) : none, v = with_moments ? Pack<real>::load(array.v + at) : none;
        apply(array, at, g, weight, m, v);
    }
};
