#pragma once
// Sums in fixed point: integer addition has no order, so that any warp may add to any sum and the bits are the same every time.
// The unit is a power of two, so that scaling is exact, and such that the exact bound of a sum is at most 2^30 of them (2^61 in double
// precision): a sum cannot overflow.
#include "common/block.cuh"
#include "common/constants.cuh"

template <typename real>
struct FixedPoint;

template <>
struct FixedPoint<float> {
    using type = int;
    static constexpr int BITS = 30, MOST = 100;
    static __device__ __forceinline__ type round(float value) { return __float2int_rn(value); }
    static __device__ __forceinline__ void add_rounded(type* sum, type value) { atomicAdd(sum, value); }
    static __device__ __forceinline__ void add(type* sum, float value) { add_rounded(sum, round(value)); }
    // floor(log2 x) for x > 0; for subnormal x something below all normal ones. 2^n, a normal number.
    static __device__ __forceinline__ int exponent(float x) { return (__float_as_int(x) >> 23) - 127; }
    static __device__ __forceinline__ float power(int n) { return __int_as_float((n + 127) << 23); }
};

template <>
struct FixedPoint<double> {
    using type = long long;
    static constexpr int BITS = 61, MOST = 900;
    static __device__ __forceinline__ type round(double value) { return __double2ll_rn(value); }
    static __device__ __forceinline__ void add_rounded(type* sum, type value) {
        atomicAdd(reinterpret_cast<unsigned long long*>(sum), (unsigned long long)value);
    }
    static __device__ __forceinline__ void add(type* sum, double value) { add_rounded(sum, round(value)); }
    static __device__ __forceinline__ int exponent(double x) { return (int)(__double_as_longlong(x) >> 52) - 1023; }
    static __device__ __forceinline__ double power(int n) { return __longlong_as_double((long long)(n + 1023) << 52); }
};

// Units per 1 for sums of up to `bound`; NaN where the bound is not finite, as the sum would be, and 1 for a bound of 0.
template <typename real>
__device__ __forceinline__ real fixed_units(real bound) {
    if (!(bound < Constants<real>::infinity())) return Constants<real>::nan();
    if (bound == 0) return 1;
    return FixedPoint<real>::power(min(FixedPoint<real>::BITS - 1 - FixedPoint<real>::exponent(bound), FixedPoint<real>::MOST));
}

// Sum over the threads of the first n_warps warps with the same t % COLUMNS, in a fixed order; result[i] for all threads after it.
// room: [n_warps, COLUMNS]. For the bounds of the sums that a block keeps.
template <int COLUMNS, typename real>
__device__ __forceinline__ void sum_per_column(real value, real* room, real* result, int n_warps) {
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
#pragma unroll
    for (int distance = COLUMNS; distance < 32; distance *= 2) value += __shfl_xor_sync(FULL_WARP, value, distance);
    if (lane < COLUMNS) room[warp * COLUMNS + lane] = value;
    __syncthreads();
    if (threadIdx.x < COLUMNS) {
        real sum = 0;
#pragma unroll 8
        for (int w = 0; w < n_warps; ++w) sum += room[w * COLUMNS + threadIdx.x];
        result[threadIdx.x] = sum;
    }
    __syncthreads();
}

// The same sum, of column lane % COLUMNS, for every thread; synchronizes once. room [n_warps, COLUMNS] may be written again after another
// synchronization.
template <int COLUMNS, typename real>
__device__ __forceinline__ real column_sum(real value, real* room, int n_warps) {
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
#pragma unroll
    for (int distance = COLUMNS; distance < 32; distance *= 2) value += __shfl_xor_sync(FULL_WARP, value, distance);
    if (lane < COLUMNS) room[warp * COLUMNS + lane] = value;
    __syncthreads();
    real sum = 0;
#pragma unroll 8
    for (int p = lane; p < n_warps * COLUMNS; p += 32) sum += room[p];
#pragma unroll
    for (int distance = COLUMNS; distance < 32; distance *= 2) sum += __shfl_xor_sync(FULL_WARP, sum, distance);
    return sum;
}
