"""Errors through a neuron's own resets (docs/theory.md, section 3)."""

import numpy as np

from bats import kernels
from bats.cpu import recurrent_errors as cpu
from bats.device import is_cupy
from bats.ops.arguments import blocks, expect


def recurrent_errors(errors, times, slopes, counts, neuron, gains, status):
    """errors = dL/dt, times, slopes [B, K, N], counts [B, N] int32 -> gains [B, K, N] = delta_k tau / z_k (may be errors itself).

    status [B, 4]: to column 0 is added the number of spikes whose slope was raised to neuron.slope_floor.
    """
    batch, n_slots, n_neurons = times.shape
    shape, dtype = times.shape, times.dtype
    for name, array in (("errors", errors), ("times", times), ("slopes", slopes), ("gains", gains)):
        expect(name, array, shape, dtype, times)
    expect("counts", counts, (batch, n_neurons), np.int32, times)
    expect("status", status, (batch, 4), np.uint64 if is_cupy(times) else np.int64, times)
    if batch == 0:
        return
    if not is_cupy(times):
        cpu.recurrent_errors(
            errors, times, slopes, counts, neuron.tau, neuron.reset, neuron.slope_floor, gains, status
        )  # fmt: skip
        return
    kernels.kernel("lif/recurrent_errors", "recurrent_errors", dtype)(
        (blocks(batch * n_neurons, 256),), (256,),
        (errors, times, slopes, counts, np.int32(batch), np.int32(n_neurons), np.int32(n_slots),
         neuron.tau, neuron.reset, neuron.slope_floor, gains, status),
    )  # fmt: skip
