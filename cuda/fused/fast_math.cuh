#pragma once
// Roots and reciprocals of the fused steps and of the layers' fast forward passes. float: the hardware's approximations, off by at most
// about one unit in the last place and many times faster than correct rounding; double: correctly rounded.

__device__ __forceinline__ float reciprocal(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
__device__ __forceinline__ double reciprocal(double x) { return 1 / x; }

__device__ __forceinline__ float root(float x) {
    float y;
    asm("sqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
__device__ __forceinline__ double root(double x) { return sqrt(x); }
