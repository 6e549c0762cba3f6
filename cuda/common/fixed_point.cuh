#pragma once
// Sums in fixed point: integer addition has no order, so that any warp may add to any sum and the bits are the same every time.
// The unit is the exact bound of a sum over 2^30 (2^61 in double precision): a sum cannot overflow.
#include "common/constants.cuh"

template <typename real>
struct FixedPoint;

template <>
struct FixedPoint<float> {
    using type = int;
    static constexpr float LIMIT = 1 << 30;
    static __device__ __forceinline__ void add(type* sum, float value) { atomicAdd(sum, __float2int_rn(value)); }
};

template <>
struct FixedPoint<double> {
    using type = long long;
    static constexpr double LIMIT = 1ll << 61;
    static __device__ __forceinline__ void add(type* sum, double value) {
        atomicAdd(reinterpret_cast<unsigned long long*>(sum), (unsigned long long)__double2ll_rn(value));
    }
};

// What turns a sum into fixed point and back; NaN back where the bound is not finite, as the sum would be.
template <typename real>
__device__ __forceinline__ real to_fixed_units(real bound) {
    return bound > 0 && bound < Constants<real>::infinity() ? FixedPoint<real>::LIMIT / bound : real(0);
}
template <typename real>
__device__ __forceinline__ real from_fixed_units(real bound) {
    return bound < Constants<real>::infinity() ? bound / FixedPoint<real>::LIMIT : Constants<real>::nan();
}
