#pragma once
// Block-wide helpers with a fixed order of operations.

constexpr unsigned FULL_WARP = 0xffffffffu;

// Barriers 1 to 15, for all threads of the block: a thread arrives without waiting for the others, or waits until all have arrived.
__device__ __forceinline__ void arrive_at(int barrier) {
#if __CUDA_ARCH__ >= 700
    asm volatile("barrier.cta.arrive %0, %1;" ::"r"(barrier), "r"(blockDim.x) : "memory");
#endif
}

__device__ __forceinline__ void wait_at(int barrier) {
#if __CUDA_ARCH__ >= 700
    asm volatile("barrier.cta.sync %0, %1;" ::"r"(barrier), "r"(blockDim.x) : "memory");
#endif
}

template <typename value_t>
__device__ __forceinline__ value_t warp_inclusive_sum(value_t value) {
    const int lane = threadIdx.x & 31;
#pragma unroll
    for (int distance = 1; distance < 32; distance *= 2) {
        const value_t below = __shfl_up_sync(FULL_WARP, value, distance);
        if (lane >= distance) value += below;
    }
    return value;
}

template <typename value_t>
__device__ __forceinline__ value_t warp_sum(value_t value) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(FULL_WARP, value, distance);
    return value;
}

// The least and the greatest of numbers that are not negative, nor NaN; a warp.
__device__ __forceinline__ float warp_least(float value) { return __uint_as_float(__reduce_min_sync(FULL_WARP, __float_as_uint(value))); }
__device__ __forceinline__ float warp_greatest(float value) { return __uint_as_float(__reduce_max_sync(FULL_WARP, __float_as_uint(value))); }
__device__ __forceinline__ double warp_least(double value) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) value = min(value, __shfl_xor_sync(FULL_WARP, value, distance));
    return value;
}
__device__ __forceinline__ double warp_greatest(double value) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) value = max(value, __shfl_xor_sync(FULL_WARP, value, distance));
    return value;
}

// Exclusive prefix sum over a block of up to 1024 threads (a multiple of 32); *total receives the sum.
__device__ __forceinline__ int block_exclusive_sum(int value, int* total) {
    __shared__ int warp_totals[33];
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, n_warps = blockDim.x >> 5;
    const int inclusive = warp_inclusive_sum(value);
    __syncthreads();
    if (lane == 31) warp_totals[warp] = inclusive;
    __syncthreads();
    if (warp == 0) {
        const int mine = lane < n_warps ? warp_totals[lane] : 0;
        const int sum = warp_inclusive_sum(mine);
        __syncwarp();
        warp_totals[lane] = sum - mine;
        if (lane == 31) warp_totals[32] = sum;
    }
    __syncthreads();
    *total = warp_totals[32];
    return warp_totals[warp] + inclusive - value;
}

// The same with a single synchronization; room [32] may be written again only after another one.
__device__ __forceinline__ int block_exclusive_sum(int value, int* total, int* room) {
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, n_warps = blockDim.x >> 5;
    const int inclusive = warp_inclusive_sum(value);
    if (lane == 31) room[warp] = inclusive;
    __syncthreads();
    const int mine = lane < n_warps ? room[lane] : 0, sum = warp_inclusive_sum(mine);
    *total = __shfl_sync(FULL_WARP, sum, 31);
    return __shfl_sync(FULL_WARP, sum - mine, warp) + inclusive - value;
}
