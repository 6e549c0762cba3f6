"""Compactly stored samples become waves: latencies of one byte per neuron, or event lists that are counted per step."""

import numpy as np

from bats import kernels
from bats.cpu import densify as cpu
from bats.device import is_cupy
from bats.ops.arguments import blocks, expect

UNIT = "timestep/densify"
NEVER = 255  # the latency of a neuron without a spike
_STEPS_PER_THREAD = 16


def densify_latencies(latencies, indices, waves):
    """waves[b, t, n] = 1 if latencies[indices[b], n] = t, else 0.

    latencies [n, N] uint8 (255: no spike), indices [B] int32, waves [B, T, N] float (written), T at most 255.
    """
    batch, n_steps, n_neurons = _expect_waves(waves, indices, latencies)
    expect("latencies", latencies, (None, n_neurons), np.uint8, waves)
    if n_steps > NEVER:
        raise ValueError(f"waves: expected at most {NEVER} steps for latencies of one byte, received {n_steps}")
    if not waves.size:
        return
    if not is_cupy(waves):
        cpu.densify_latencies(latencies, indices, waves)
        return
    grid = (blocks(n_neurons, 128), blocks(n_steps, _STEPS_PER_THREAD), batch)
    kernels.kernel(UNIT, "densify_latencies", waves.dtype)(
        grid, (128,), (latencies, indices, np.int32(n_neurons), np.int32(n_steps), waves)
    )


def densify_events(cells, offsets, indices, waves):
    """waves[b, t, n] = how often the cell t * N + n occurs among the events of sample indices[b].

    cells [n_events] uint32, ascending within a sample; offsets [n + 1] int64: sample i has cells[offsets[i] : offsets[i + 1]];
    indices [B] int32; waves [B, T, N] float (written), T * N at most 2^32.
    """
    batch, n_steps, n_neurons = _expect_waves(waves, indices, cells)
    expect("cells", cells, (None,), np.uint32, waves)
    expect("offsets", offsets, (None,), np.int64, waves)
    if not waves.size:
        return
    if not is_cupy(waves):
        cpu.densify_events(cells, offsets, indices, waves)
        return
    kernels.kernel(UNIT, "clear_waves", waves.dtype)((min(blocks(waves.size, 256), 4096),), (256,), (waves, np.int64(waves.size)))
    kernels.kernel(UNIT, "densify_events", waves.dtype)(  # recordings have some thousand events
        (8, batch), (256,), (cells, offsets, indices, np.int64(n_steps * n_neurons), waves)
    )


def _expect_waves(waves, indices, like):
    expect("waves", waves, (None, None, None), getattr(waves, "dtype", None), like)
    if waves.dtype.kind != "f":
        raise TypeError(f"waves: expected float32 or float64, received {waves.dtype}")
    expect("indices", indices, (waves.shape[0],), np.int32, waves)
    return waves.shape
