"""Forward pass and resets of LIF layers that emit on a time grid (docs/time_discretization.md)."""

import numpy as np

from bats import kernels
from bats.cpu import grid_spike_times as cpu
from bats.device import is_cupy
from bats.discretization import ROUNDINGS
from bats.ops.arguments import blocks, expect
from bats.ops.conv_geometry import packed
from bats.ops.conv_spike_times import WARPS, channel_tiles, expect_forward


def scratch_for(xp, batch, geometry, dtype):
    """What grid_spike_times needs on the CPU beside its arguments; None on CUDA."""
    if xp is not np:
        return None
    words = np.zeros((batch, blocks(geometry.n_post, 8)), dtype=np.uint64)
    a, b, free = (np.empty((batch, geometry.n_post), dtype=dtype) for _ in range(3))
    return a, b, free, np.empty((batch, geometry.n_post), dtype=np.int32), words.view(np.uint8), words


def grid_spike_times(events, weights, geometry, neuron, grid, t_max, times, crossings, counts, slopes, status, scratch=None):
    """As conv_spike_times (a dense layer has one position), for a TimeGrid with dt > 0: times [B, K, N] are on the grid.

    crossings [B, K, N]: where the membrane reached threshold (seconds; start of the search for a spike that was due then);
    slopes: du/dt there, infinite for a spike that was due. Both are valid where a spike is. No spike after t_max.
    scratch: from scratch_for (CPU only).
    """
    dtype = weights.dtype
    batch, n_slots = times.shape[:2]
    expect_forward(events, weights, geometry, times, counts, slopes, status)
    expect("crossings", crossings, times.shape, dtype, weights)
    if batch == 0:
        return
    rows, study = weights.reshape(-1, geometry.post_c), grid.rule == "study"
    dt, t_max, last_bin, rounding = dtype.type(grid.dt), dtype.type(t_max), grid.last_bin(t_max), ROUNDINGS.index(grid.rounding)
    if not is_cupy(weights):
        cpu.grid_spike_times(
            events.times, events.neurons, events.counts, rows, geometry, (neuron.tau, neuron.c, neuron.reset),
            (dt, rounding, study, last_bin), neuron.length, t_max, *scratch, times, crossings, counts, slopes, status,
        )  # fmt: skip
        return
    tiles, width = channel_tiles(geometry.post_c)
    units = batch * geometry.post_x * geometry.post_y * tiles
    kernels.kernel("grid/grid_spike_times", "grid_spike_times", dtype)(
        (blocks(units, WARPS),), (32 * WARPS,),
        (events.times, events.neurons, events.counts, np.int32(events.times.shape[1]), rows, packed(geometry), np.int32(batch),
         np.int32(tiles), np.int32(width), neuron.tau, neuron.c, neuron.reset, neuron.length, t_max, np.int32(n_slots),
         dt, np.int32(rounding), np.int32(study), np.int32(last_bin), times, crossings, counts, slopes, status),
    )  # fmt: skip


def grid_recurrent_errors(errors, times, crossings, slopes, counts, neuron, gains, status):
    """As recurrent_errors, for neurons that fire at crossings and are reset at times, all [B, K, N] (rule "clean" of a TimeGrid).

    A spike with an infinite slope moves with the one before it: its error goes there and its gain is 0.
    """
    batch, n_slots, n_neurons = times.shape
    dtype = times.dtype
    for name, array in (("errors", errors), ("times", times), ("crossings", crossings), ("slopes", slopes), ("gains", gains)):
        expect(name, array, times.shape, dtype, times)
    expect("counts", counts, (batch, n_neurons), np.int32, times)
    expect("status", status, (batch, 4), np.uint64 if is_cupy(times) else np.int64, times)
    if batch == 0:
        return
    trains = errors, times, crossings, slopes, counts
    parameters = neuron.tau, neuron.reset, neuron.slope_floor, gains, status
    if not is_cupy(times):
        cpu.grid_recurrent_errors(*trains, *parameters)
        return
    kernels.kernel("grid/grid_recurrent_errors", "grid_recurrent_errors", dtype)(
        (blocks(batch * n_neurons, 256),), (256,), (*trains, np.int32(batch), np.int32(n_neurons), np.int32(n_slots), *parameters)
    )
