"""CUDA kernels run on the CPU, for machines without a GPU: the logic of a kernel, not its speed and not the hardware's rounding."""
