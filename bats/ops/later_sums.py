"""Sums over the later spikes of a neuron (docs/theory.md, equation 30), which the backward pass looks up on CUDA."""

import numpy as np

from bats import kernels
from bats.device import is_cupy
from bats.ops.arguments import blocks, expect


def later_sums(times, counts, gains, neuron, later):
    """times, gains [B, K, N], counts [B, N] -> later [B, K, N, 4]: time, P, Q and origin at each spike. CUDA only.

    Raises TypeError on the CPU, where the walk through the events keeps these sums as it goes.
    """
    if not is_cupy(times):
        raise TypeError("times: expected a CuPy (CUDA) array, received a NumPy (CPU) array")
    batch, n_slots, n_neurons = times.shape
    expect("times", times, (batch, n_slots, n_neurons), times.dtype)
    expect("gains", gains, times.shape, times.dtype, times)
    expect("counts", counts, (batch, n_neurons), np.int32, times)
    expect("later", later, (*times.shape, 4), times.dtype, times)
    if batch:
        kernels.kernel("conv/later_sums", "later_sums", times.dtype)(
            (blocks(batch * n_neurons, 256),), (256,),
            (times, gains, counts, np.int32(batch), np.int32(n_neurons), np.int32(n_slots), neuron.tau, neuron.length, later),
        )  # fmt: skip
