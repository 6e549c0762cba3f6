"""Gradients of both layers in the fused step on the CPU.

A group of neurons stays in registers: their P and Q of theory (30) change at the group's own spikes; between those each
event adds E (E Q - P) to its row of the gradient. The rows of a group lie together, in the nearest caches, for all samples.
"""

import numpy as np
from numba import get_thread_id, njit, prange

from bats.cpu.fused_forward import MARK_BITS, clear_rows
from bats.cpu.vectors import expand, how_many, load, load_row, mask_of, number, splat, store, store_row


@njit(cache=True, _nrt=False)
def _add_sample(factors, rows, bounds, marks, list_single, list_double, gradient):
    """gradient [n_pre, lanes] += the sample's part, from one group's spikes and marks: bounds as `walk` left them."""
    p = splat(factors[0] - factors[0])
    q, place = p, bounds[1]
    e = marks[bounds[3] - 1] >> MARK_BITS  # the events after the last spike did nothing
    for k in range(bounds[3] - 1, bounds[2] - 2, -1):
        mark = number(marks, k) if k >= bounds[2] else np.int64(-1)
        until = mark >> MARK_BITS
        while e > until:
            row, factor = number(rows, e), number(factors, e)
            store_row(gradient, row, load_row(gradient, row) + (q * factor - p) * factor)
            e -= 1
        if mark >= 0:
            own = mask_of(mark, p)
            place -= how_many(own)
            p = p + expand(list_single, place, own)
            q = q + expand(list_double, place, own)


@njit(cache=True, _nrt=False)
def _unpack(packed, low, add, gradient):
    """The inverse of bats.cpu.fused_forward.pack."""
    lanes, n_post = packed.shape[1], gradient.shape[1]
    for j in range(packed.shape[0]):
        if low + lanes <= n_post:
            row = load_row(packed, j)
            store(gradient, j, low, row + load(gradient, j, low) if add else row)
        else:
            for i in range(n_post - low):
                gradient[j, low + i] = packed[j, i] + (gradient[j, low + i] if add else packed[j, i] - packed[j, i])


@njit(cache=True, _nrt=False)
def _add_tile(tile, intervals, rows, bounds, marks, list_single, list_double, packed, add, gradient):
    """The groups of neurons of one tile, all samples; packed is of the thread."""
    batch, n_groups, lanes, n_tiles = bounds.shape[0], bounds.shape[1], packed.shape[1], list_single.shape[1]
    for group in range(tile * n_groups // n_tiles, (tile + 1) * n_groups // n_tiles):
        clear_rows(packed)
        for s in range(batch):
            if bounds[s, group, 1] > bounds[s, group, 0]:
                _add_sample(intervals[s, 0], rows[s], bounds[s, group], marks[s, tile], list_single[s, tile], list_double[s, tile], packed)
        _unpack(packed, group * lanes, add, gradient)


@njit(cache=True, _nrt=False)
def _add_sets(partial, out_gradient):
    """out_gradient [n_hidden, n_out] = the sum of partial [sets, groups, n_hidden, lanes]."""
    lanes = partial.shape[3]
    for j in range(out_gradient.shape[0]):
        for i in range(out_gradient.shape[1]):
            total = partial[0, i // lanes, j, i % lanes]
            for own in range(1, partial.shape[0]):
                total += partial[own, i // lanes, j, i % lanes]
            out_gradient[j, i] = total


@njit(cache=True, parallel=True)
def gradients(intervals, rows, bounds, marks, list_single, list_double, packed, add, gradient, partial, out_gradient):
    """gradient [n_pre, n_hidden], to which is added if `add`, from lists and marks [B, tiles, R] of hidden spikes; out_gradient
    [n_hidden, n_out] = the sum of partial [sets, groups, n_hidden, lanes]. packed [threads, n_pre, lanes]: scratch.
    """
    for tile in prange(list_single.shape[1]):
        _add_tile(
            np.int64(tile), intervals, rows, bounds, marks, list_single, list_double, packed[get_thread_id()], add,
            gradient,
        )  # fmt: skip
    _add_sets(partial, out_gradient)
