#pragma once
// Programmatic dependent launch (compute capability 9.0; bats/fused/launch.py): a kernel's blocks may begin while the kernel before is still running.
// Up to start_after_previous() they may touch only what earlier kernels have finished with: that kernel was itself let in only once all before it
// was over. What the kernel before writes must not be declared __restrict__: such loads may be moved up, and may see what was there before.

__device__ __forceinline__ void start_after_previous() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
