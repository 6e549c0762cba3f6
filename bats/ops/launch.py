"""How operations launch their kernels."""


def run(kernel, grid, n_threads, arguments, shared=0):
    """Launches a CuPy kernel that calls start_after_previous() (cuda/fused/dependent_launch.cuh) before it touches what the kernel before
    wrote: its blocks may begin while that one ends. grid: up to three numbers of blocks; shared: bytes of shared memory."""
    from bats.fused.launch import launch  # here: bats.fused imports bats.ops

    if shared > kernel.max_dynamic_shared_size_bytes:
        kernel.max_dynamic_shared_size_bytes = shared
    launch(kernel, grid, n_threads, arguments, shared)
