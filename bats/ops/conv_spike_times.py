"""Forward pass of a convolutional LIF layer: event lists to spike trains (docs/theory.md, sections 2 and 7)."""

import numpy as np

from bats import kernels
from bats.cpu import conv_spike_times as cpu
from bats.device import is_cupy
from bats.ops.arguments import blocks, expect, expect_events
from bats.ops.conv_geometry import packed

WARPS = 8  # of a block; CONV_WARPS of the kernel


def scratch_for(xp, batch, geometry, dtype):
    """What conv_spike_times needs on the CPU beside its arguments; None on CUDA."""
    if xp is not np:
        return None
    n_positions = geometry.post_x * geometry.post_y
    words = np.zeros((batch, blocks(geometry.post_c, 8)), dtype=np.uint64)
    return (
        *(np.empty((batch, n_positions, geometry.post_c), dtype=dtype) for _ in range(2)),
        *(np.empty((batch, n_positions), dtype=dtype) for _ in range(2)),
        words.view(np.uint8), words,
    )  # fmt: skip


def channel_tiles(n_channels):
    """(tiles, width): channels in tiles of at most 32, a lane each, as equal as possible."""
    tiles = blocks(n_channels, 32)
    return tiles, blocks(n_channels, tiles)


def expect_forward(events, weights, geometry, times, counts, slopes, status):
    """Raises TypeError or ValueError unless these are the arguments of a forward pass."""
    batch, n_slots, n_post = times.shape
    dtype = weights.dtype
    expect("weights", weights, geometry.weight_shape, dtype)
    if events.n_neurons != geometry.n_pre:
        raise ValueError(f"events: expected those of {geometry.n_pre} neurons, received those of {events.n_neurons}")
    expect_events("events", events, batch, dtype, weights)
    expect("times", times, (batch, n_slots, geometry.n_post), dtype, weights)
    expect("slopes", slopes, (batch, n_slots, n_post), dtype, weights)
    expect("counts", counts, (batch, n_post), np.int32, weights)
    expect("status", status, (batch, 4), np.uint64 if is_cupy(weights) else np.int64, weights)


def conv_spike_times(events, weights, geometry, neuron, t_max, times, counts, slopes, status, scratch=None):
    """events: EventList of B samples; weights [C_pre, FY, FX, C]; geometry: ConvGeometry; neuron: Neuron; t_max seconds (inf allowed).

    The rest as in spike_times: writes times (inf-padded), slopes [B, K, N], counts [B, N], adds to status [B, 4].
    scratch: from scratch_for (CPU only).
    """
    batch, n_slots = times.shape[:2]
    dtype = weights.dtype
    expect_forward(events, weights, geometry, times, counts, slopes, status)
    if batch == 0:
        return
    t_max = dtype.type(t_max)
    rows = weights.reshape(-1, geometry.post_c)
    if not is_cupy(weights):
        cpu.conv_spike_times(
            events.times, events.neurons, events.counts, rows, geometry, neuron.tau, neuron.c, neuron.reset, neuron.length, t_max,
            *scratch, times, counts, slopes, status,
        )  # fmt: skip
        return
    tiles, width = channel_tiles(geometry.post_c)
    units = batch * geometry.post_x * geometry.post_y * tiles
    kernels.kernel("conv/conv_spike_times", "conv_spike_times", dtype)(
        (blocks(units, WARPS),), (32 * WARPS,),
        (events.times, events.neurons, events.counts, np.int32(events.times.shape[1]), rows, packed(geometry), np.int32(batch),
         np.int32(tiles), np.int32(width), neuron.tau, neuron.c, neuron.reset, neuron.length, t_max, np.int32(n_slots),
         times, counts, slopes, status),
    )  # fmt: skip
