"""Weight gradient of a convolutional layer: the batch mean, without arrays of batch x post x pre or spikes x filter."""

import numpy as np

from bats import kernels
from bats.cpu import conv_backward as cpu
from bats.device import is_cupy
from bats.ops.arguments import blocks, expect, expect_events
from bats.ops.conv_geometry import packed

COLUMNS = 48  # channels of a tile, at most
INNER_GROUPS = 8  # warps of a block
MAX_OUTER_GROUPS = 16  # groups whose sums go through global memory
WANTED_BLOCKS = 132 * 4
SHARED_BYTES = 48 * 1024  # of a block
CPU_GROUPS = 8  # pieces of work that threads share


def layout(batch, geometry, itemsize):
    """(tiles, their width), (parts, their input channels), blocks of one outer group, outer groups."""
    tiles = blocks(geometry.post_c, COLUMNS)
    part = max(1, min(geometry.pre_c, SHARED_BYTES // (2 * INNER_GROUPS * COLUMNS * itemsize)))
    parts = blocks(geometry.pre_c, part)
    units = geometry.filter_x * geometry.filter_y * tiles * parts
    outer = max(1, min(MAX_OUTER_GROUPS, WANTED_BLOCKS // units, batch))
    return (tiles, blocks(geometry.post_c, tiles)), (parts, part), units, outer


def scratch_for(xp, batch, geometry, dtype):
    """What conv_weight_gradient needs beside its arguments, as a dict of arrays; made once for batches of up to `batch`."""
    n_rows = geometry.filter_x * geometry.filter_y * geometry.pre_c
    if xp is np:
        groups = max(1, min(batch, CPU_GROUPS))
        sums = {name: np.empty((groups, geometry.n_post), dtype=dtype) for name in ("p", "q")}
        return {**sums, "partial": np.empty((groups, n_rows, geometry.post_c), dtype=dtype)}
    *_, outer = layout(batch, geometry, np.dtype(dtype).itemsize)
    return {"partial": xp.empty((outer if outer > 1 else 0, n_rows, geometry.post_c), dtype=dtype)}


def conv_weight_gradient(events, factors, geometry, out_events, gains, later, neuron, gradient, scratch):
    """gradient [C_pre, FY, FX, C] = 1/B sum over batch and positions of dL/dw.

    events: the layer's input, factors [B, E] from event_factors; out_events: its own spikes; gains [B, K, N];
    later: from later_sums (CUDA). scratch: from scratch_for(batch >= B).
    """
    batch, n_slots, n_post = gains.shape
    dtype = gains.dtype
    expect_events("events", events, batch, dtype, gains)
    expect("factors", factors, events.times.shape, dtype, gains)
    expect_events("out_events", out_events, batch, dtype, gains)
    expect("gains", gains, (batch, out_events.n_slots, geometry.n_post), dtype)
    expect("gradient", gradient, geometry.weight_shape, dtype, gains)
    if batch == 0:
        gradient[...] = 0
        return
    scale = dtype.type(1 / batch)
    if not is_cupy(gains):
        cpu.conv_weight_gradient(
            events.times, events.neurons, events.counts, factors, out_events.times, out_events.neurons, out_events.positions,
            out_events.counts, gains.reshape(batch, -1), geometry, neuron.length, neuron.tau, scale, scratch["p"], scratch["q"],
            scratch["partial"], gradient.reshape(-1, geometry.post_c),
        )  # fmt: skip
        return
    expect("later", later, (batch, n_slots, n_post, 4), dtype, gains)
    (tiles, width), (parts, part), units, outer = layout(batch, geometry, dtype.itemsize)
    target = scratch["partial"] if outer > 1 else gradient
    kernels.kernel("conv/conv_weight_gradient", "conv_weight_gradient", dtype)(
        (units, outer), (32 * INNER_GROUPS,),
        (events.times, factors, events.neurons, events.counts, np.int32(events.times.shape[1]), later, packed(geometry),
         np.int32(n_slots), np.int32(batch), np.int32(tiles), np.int32(width), np.int32(parts), np.int32(part),
         neuron.tau, neuron.length, scale, target),
        shared_mem=2 * INNER_GROUPS * COLUMNS * part * dtype.itemsize,
    )  # fmt: skip
    if outer > 1:
        kernels.kernel("lif/weight_gradient", "add_groups", dtype)(
            (blocks(gradient.size, 256),), (256,), (target, np.int32(outer), np.int64(gradient.size), gradient)
        )
