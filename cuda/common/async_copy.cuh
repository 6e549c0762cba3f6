#pragma once
// Copies from global to shared memory that go on while the thread does other things (cp.async; compute capability 8.0 and later,
// plain copies before).

// One number.
template <typename real>
__device__ __forceinline__ void copy_number(real* to_shared, const real* from) {
#if __CUDA_ARCH__ >= 800
    const unsigned to = (unsigned)__cvta_generic_to_shared(to_shared);
    if (sizeof(real) == 4) asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(to), "l"(from) : "memory");
    else asm volatile("cp.async.ca.shared.global [%0], [%1], 8;" ::"r"(to), "l"(from) : "memory");
#else
    *to_shared = *from;
#endif
}

// 16 bytes, at addresses that are multiples of 16.
__device__ __forceinline__ void copy_16_bytes(void* to_shared, const void* from) {
#if __CUDA_ARCH__ >= 800
    const unsigned to = (unsigned)__cvta_generic_to_shared(to_shared);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
#else
    *reinterpret_cast<int4*>(to_shared) = *reinterpret_cast<const int4*>(from);
#endif
}

__device__ __forceinline__ void commit_copies() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// The thread's own copies; a synchronization makes those of other threads seen.
__device__ __forceinline__ void wait_for_copies() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}
