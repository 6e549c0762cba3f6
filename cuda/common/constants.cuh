#pragma once
// Constants that NVRTC has no headers for.

template <typename real>
struct Constants;

template <>
struct Constants<float> {
    static __device__ __forceinline__ float infinity() { return __int_as_float(0x7f800000); }
    static __device__ __forceinline__ float nan() { return __int_as_float(0x7fffffff); }
};

template <>
struct Constants<double> {
    static __device__ __forceinline__ double infinity() { return __longlong_as_double(0x7ff0000000000000ll); }
    static __device__ __forceinline__ double nan() { return __longlong_as_double(0x7fffffffffffffffll); }
};
