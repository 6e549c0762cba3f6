"""Backward pass of a dense or convolutional layer in one walk through its events (CUDA; docs/theory.md, (19) and (30)).

It takes the place of recurrent_errors, event_factors, later_sums, presynaptic_errors and weight_gradient where all times lie before
one time origin's reach (t_max <= 8 tau) and a block's weights and sums fit shared memory; those remain for all else.
"""

import functools
import math
from typing import NamedTuple

import numpy as np

from bats import kernels
from bats.device import array_module
from bats.ops.arguments import blocks, expect, expect_events
from bats.ops.conv_geometry import packed
from bats.ops.launch import run
from bats.ops.optimizers import SHARED_FROM

WANTED_BLOCKS = 132  # of up to 1024 threads
SHARED_AIM = 128 * 1024  # bytes that weights and sums of a block take, where one channel needs no more
SCRATCH_BYTES = 64 * 2**20  # of the errors that add_taps adds; larger batches go through in parts
MAX_UNITS = 512  # of a round
MOST_GRADIENTS = 12  # as in add_partial
_PARTIAL = np.dtype([("partial", np.uint64), ("gradient", np.uint64), ("size", np.int64), ("n", np.int32), ("first", np.int32)])


class Layout(NamedTuple):
    """width: channels of a block, groups of them; a block takes rounds x units of the (sample, position) pairs; threads, shared bytes."""

    width: int
    groups: int
    units: int
    rounds: int
    unit_blocks: int
    threads: int
    shared: int
    at_once: int


class Parts(NamedTuple):
    """dL/dt of spikes, not added up yet: taps [groups, room for samples, spike trains, filter elements] of the layer that receives them
    as `events`. Spikes from last_factor = e^{t / tau} on, tau being that layer's, are in none of its fields."""

    taps: object
    events: object
    tau: object
    last_factor: object

    def arguments(self, first=0):
        """As struct Parts of the kernels, from sample `first` on."""
        groups, room, train_size, n_taps = self.taps.shape
        return (
            self.taps[0, first:], np.int32(groups), np.int32(n_taps), np.int64(room * train_size * n_taps), self.tau, self.last_factor
        )  # fmt: skip

    def add(self, errors):
        """Adds them up: errors [B, *events.train_shape], written where there is a spike."""
        events = self.events
        n, capacity = events.times.shape
        run(
            kernels.kernel("conv/layer_backward", "add_taps", errors.dtype), (min(blocks(capacity, 256), 16), n), 256,
            (*self.arguments(), events.times, events.positions, events.counts, np.int32(capacity),
             np.int32(self.taps.shape[2]), errors),
        )  # fmt: skip


@functools.cache
def _shared_limit():
    return array_module("cuda").cuda.Device().attributes["MaxSharedMemoryPerBlockOptin"]


def rows_of(geometry):
    return geometry.pre_c * geometry.filter_y * geometry.filter_x


def shared_bytes(width, units, rows, n_slots, itemsize, wants_errors):
    """As cuda/conv/layer_backward.cu lays it out."""
    pitch = rows | 1
    per_unit = width * (3 * itemsize * n_slots + itemsize + 4) + 16
    return units * per_unit + width * (pitch * itemsize * (2 if wants_errors else 1) + itemsize) + 96 + 1024 * 2 * itemsize


@functools.cache
def spread(n):
    """A step through n units that visits all of them, far from one to the next."""
    return next(step for step in range(max(1, round(0.618 * n)), n + 1) if math.gcd(step, n) == 1)


def _even_part(batch, most):
    """Samples of a part, if a part may have `most`: parts of about the same size."""
    return blocks(batch, blocks(batch, max(1, most)))


@functools.cache
def layout(batch, geometry, n_slots, capacity, itemsize, train_size, limit=None):
    """Layout for `batch` samples, or None if not even one channel fits. train_size: of the spike trains that wait for errors, or 0."""
    wants_errors = train_size > 0
    limit = limit or _shared_limit()
    rows, n_positions = rows_of(geometry), geometry.post_x * geometry.post_y
    taps = geometry.filter_x * geometry.filter_y
    per_channel = (rows | 1) * itemsize * (2 if wants_errors else 1)
    if shared_bytes(1, 1, rows, n_slots, itemsize, wants_errors) > limit or n_slots >= 1 << 15:
        return None
    width = max(1, min(geometry.post_c, SHARED_AIM // per_channel))
    groups = blocks(geometry.post_c, width)
    at_once = most = _even_part(batch, (2**31 - 1) // (n_slots * geometry.n_post))  # the kernel numbers spikes with 32 bits
    if wants_errors:
        at_once = _even_part(batch, min(most, SCRATCH_BYTES // (groups * taps * train_size * itemsize)))
    n_units = at_once * n_positions
    groups = max(groups, min(geometry.post_c, WANTED_BLOCKS // n_units))
    width = blocks(geometry.post_c, groups)
    while shared_bytes(width, 1, rows, n_slots, itemsize, wants_errors) > limit:
        width = blocks(width, 2)
    groups = blocks(geometry.post_c, width)
    if wants_errors:
        at_once = _even_part(batch, min(most, SCRATCH_BYTES // (groups * taps * train_size * itemsize)))
        n_units = at_once * n_positions
    unit_blocks = max(1, min(n_units, WANTED_BLOCKS // groups))
    each = blocks(n_units, unit_blocks)
    units = min(each, MAX_UNITS)
    while shared_bytes(width, units, rows, n_slots, itemsize, wants_errors) > limit:
        units = blocks(units, 2)
    rounds = blocks(each, units)
    unit_blocks = blocks(n_units, units * rounds)
    threads = 1024 if units * rounds * capacity >= 2048 else 256
    shared = shared_bytes(width, units, rows, n_slots, itemsize, wants_errors)
    return Layout(width, groups, units, rounds, unit_blocks, max(threads, 32 * blocks(units, 32)), shared, at_once)


def scratch_for(xp, batch, geometry, n_slots, capacity, dtype, train_size, limit=None):
    """What layer_backward needs beside its arguments, a dict of arrays; None where it cannot be used. train_size: slots times neurons of
    the spike trains that the input events come from, if their errors are wanted, else 0."""
    itemsize = np.dtype(dtype).itemsize
    shape = layout(batch, geometry, n_slots, capacity, itemsize, train_size, limit)
    if shape is None:
        return None
    taps = geometry.filter_x * geometry.filter_y
    return {
        "layout": shape,
        "partial": xp.empty((shape.unit_blocks, rows_of(geometry), geometry.post_c), dtype=dtype),
        # 0 where no position sees a neuron: nobody writes there
        "taps": xp.zeros((shape.groups, shape.at_once, train_size, taps), dtype=dtype),
    }


def layer_backward(events, fields, errors, times, slopes, counts, weights, geometry, neuron, gradient, pre_errors, bounded, scratch,
                   in_parts=False, after_loss=False):  # fmt: skip
    """From dL/dt of a layer's spikes to dL/dt of its input events and the sums that make the gradient of its weights, the batch mean.

    events: the layer's input, EventList of B samples; fields: Fields as conv_forward leaves them, None for a dense
    layer; errors (or Parts), times, slopes [B, K, N], counts [B, N] int32; weights, gradient
    [C_pre, FY, FX, C]; pre_errors [B, *events.train_shape] (written where the input has a spike) or None; bounded [B, 4]: to column 0 is
    added the number of spikes whose slope was raised to neuron.slope_floor; scratch: from scratch_for(batch B). All times below 8 tau.
    in_parts: pre_errors may be left as they are if they are not added up yet. after_loss: the work that was last enqueued made `errors`,
    and nothing else that is read here: it need not have ended until errors are needed.
    Returns [(sums, how many, gradient)], which add_partial turns into the gradient ([] if there is no sample: gradient is then 0), and
    Parts if pre_errors were left, else None.
    """
    batch, n_slots, n_post = times.shape
    dtype = times.dtype
    expect_events("events", events, batch, dtype, times)
    if isinstance(errors, Parts):
        expect("errors", errors.taps, (None, None, n_slots * n_post, None), dtype, times)
    else:
        expect("errors", errors, times.shape, dtype, times)
    expect("slopes", slopes, times.shape, dtype, times)
    expect("counts", counts, (batch, n_post), np.int32, times)
    expect("weights", weights, geometry.weight_shape, dtype, times)
    expect("gradient", gradient, geometry.weight_shape, dtype, times)
    expect("bounded", bounded, (batch, 4), np.uint64, times)
    if batch == 0:
        gradient[...] = 0
        return [], None
    shape, partial, taps = scratch["layout"], scratch["partial"], scratch["taps"]
    wants_errors = pre_errors is not None
    if wants_errors and taps.shape[2] != pre_errors[0].size:
        raise ValueError(f"pre_errors: expected {taps.shape[2]} per sample, as the scratch was made for, received {pre_errors[0].size}")
    waiting = None
    capacity = events.times.shape[1]
    field_capacity = 0 if fields is None else fields.lists.shape[2]
    unused = counts
    one = dtype.type(1)
    for first in range(0, batch, shape.at_once):
        part = slice(first, min(batch, first + shape.at_once))
        n = part.stop - part.start
        lists = (unused, unused, times, unused)
        if fields is not None:
            lists = tuple(array[part] for array in (fields.lists, fields.counts, fields.factors, fields.places))
        run(
            kernels.kernel("conv/layer_backward", "layer_backward", dtype), (shape.groups, shape.unit_blocks), shape.threads,
            (events.times[part], events.neurons[part], events.positions[part], events.counts[part], np.int32(capacity),
             np.int32(events.n_slots), *lists, np.int32(field_capacity), np.int32(fields is not None),
             *(errors.arguments(first) if isinstance(errors, Parts) else (errors[part], np.int32(0), np.int32(0), np.int64(0), one, one)),
             times[part], slopes[part],
             counts[part], weights, packed(geometry), np.int32(n), np.int32(n_slots), np.int32(shape.width), np.int32(shape.units),
             np.int32(shape.rounds), np.int32(spread(n * geometry.post_x * geometry.post_y)), np.int32(first > 0),
             neuron.tau, neuron.reset, neuron.slope_floor, dtype.type(1 / batch), np.int32(after_loss or isinstance(errors, Parts)),
             partial, np.int32(wants_errors), np.int32(taps.shape[1]), np.int32(taps.shape[2]), taps, bounded[part]),
            shape.shared,
        )  # fmt: skip
        if not wants_errors:
            continue
        last_factor = dtype.type(np.inf if fields is None else fields.last_factor)
        waiting = Parts(taps, events.first(part.stop).after(first), neuron.tau, last_factor)
        if not in_parts or n < batch:
            waiting.add(pre_errors[part])
            waiting = None
    return [(partial, shape.unit_blocks, gradient)], waiting


def add_partial(pending):
    """pending: what layer_backward returned for some layers, one list; writes their gradients in one launch."""
    for first in range(0, len(pending), MOST_GRADIENTS):
        part = pending[first : first + MOST_GRADIENTS]
        table, n_blocks = np.zeros((), dtype=[("of", _PARTIAL, MOST_GRADIENTS)]), 0
        for place, (partial, n, gradient) in enumerate(part):
            expect("partial", partial, (None, None, gradient.shape[-1]), gradient.dtype, gradient)
            table["of"][place] = (partial.data.ptr, gradient.data.ptr, gradient.size, n, n_blocks)
            n_blocks += blocks(gradient.size, 32 if n >= SHARED_FROM else 256)
        run(kernels.kernel("conv/layer_backward", "add_partial", part[0][2].dtype), (n_blocks,), 256, (table, np.int32(len(part))))
