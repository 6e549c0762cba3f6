#pragma once
// Boxes of a matrix, copied from global to shared memory by the processor's tensor memory accelerator (compute capability 9.0). One thread
// asks for up to 256 rows at a time, waits only while the accelerator has no room for more requests, and no warp is busy with them; cp.async
// of rows of 32 bytes (async_copy.cuh) keeps the way to shared memory busy for 32 cycles per instruction.

// The driver's CUtensorMap: a matrix and the size of its boxes (bats/fused/tensor_map.py).
struct __align__(64) TensorMap {
    unsigned long long opaque[16];
};

__device__ __forceinline__ void pause(unsigned nanoseconds) {
#if __CUDA_ARCH__ >= 700
    __nanosleep(nanoseconds);
#endif
}

// Where threads wait for boxes; in shared memory, for one use.
struct __align__(8) Arrival {
    unsigned long long barrier;

    // So many bytes are about to come. The thread that copies; a synchronization before others wait.
    __device__ __forceinline__ void expect(unsigned bytes) {
#if __CUDA_ARCH__ >= 900
        const unsigned at = (unsigned)__cvta_generic_to_shared(&barrier);
        asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(at) : "memory");
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");  // the accelerator has to see it
        asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(at), "r"(bytes) : "memory");
#endif
    }

    // The box whose first element is at (row, column), row by row; to_shared: at a multiple of 128 bytes. Rows past the end are 0.
    __device__ __forceinline__ void copy_box(void* to_shared, const TensorMap& matrix, int row, int column) {
#if __CUDA_ARCH__ >= 900
        const unsigned at = (unsigned)__cvta_generic_to_shared(&barrier), to = (unsigned)__cvta_generic_to_shared(to_shared);
        asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(to),
                     "l"(&matrix), "r"(column), "r"(row), "r"(at)
                     : "memory");
#endif
    }

    // Until all of them are there.
    __device__ __forceinline__ void wait() {
#if __CUDA_ARCH__ >= 900
        const unsigned at = (unsigned)__cvta_generic_to_shared(&barrier);
        unsigned done = 0;
        while (!done) {
            asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], 0; selp.u32 %0, 1, 0, p; }"
                         : "=r"(done)
                         : "r"(at)
                         : "memory");
        }
#endif
    }
};
