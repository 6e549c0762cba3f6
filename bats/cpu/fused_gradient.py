"""Gradients of both layers in the fused step on the CPU.

A group of neurons stays in registers: their P and Q of theory (30) change at the group's own spikes; between those each
event adds E (E Q - P) to its row of the gradient. The rows of a group lie together, in the nearest caches, for all samples.
"""

import numpy as np
from numba import get_thread_id, njit, prange

from bats.cpu.fused_forward import clear_rows
from bats.cpu.vectors import load, only, select, splat, store


@njit(cache=True, _nrt=False)
def _add_sample(factors, rows, begin, end, low, list_neurons, list_events, list_single, list_double, gradient):
    """gradient [n_pre, lanes] += the sample's part, from the group's spikes begin ... end - 1 of the lists."""
    zero = factors[0] - factors[0]
    p, q = splat(zero), splat(zero)
    e = list_events[end - 1]  # the events after the last spike did nothing
    for k in range(end - 1, begin - 2, -1):
        until = list_events[k] if k >= begin else -1
        for j in range(e, until, -1):
            row, factor = rows[j], factors[j]
            store(gradient, row, 0, load(gradient, row, 0) + (q * factor - p) * factor)
        e = until
        if k >= begin:
            own = only(list_neurons[k] - low, p)
            p = select(own, p + list_single[k], p)
            q = select(own, q + list_double[k], q)


@njit(cache=True, _nrt=False)
def _unpack(packed, low, add, gradient):
    """The inverse of bats.cpu.fused_forward.pack."""
    lanes, n_post = packed.shape[1], gradient.shape[1]
    for j in range(packed.shape[0]):
        if low + lanes <= n_post:
            row = load(packed, j, 0)
            store(gradient, j, low, row + load(gradient, j, low) if add else row)
        else:
            for i in range(n_post - low):
                gradient[j, low + i] = packed[j, i] + (gradient[j, low + i] if add else packed[j, i] - packed[j, i])


@njit(cache=True, _nrt=False)
def _add_tile(tile, intervals, rows, bounds, list_neurons, list_events, list_single, list_double, packed, add, gradient):
    """The groups of neurons of one tile, all samples; packed is of the thread."""
    batch, n_groups, lanes, n_tiles = bounds.shape[0], bounds.shape[1], packed.shape[1], list_single.shape[1]
    for group in range(tile * n_groups // n_tiles, (tile + 1) * n_groups // n_tiles):
        clear_rows(packed)
        for s in range(batch):
            begin, end = bounds[s, group, 0], bounds[s, group, 1]
            if end > begin:
                _add_sample(
                    intervals[s, 0], rows[s], begin, end, group * lanes, list_neurons[s, tile], list_events[s, tile],
                    list_single[s, tile], list_double[s, tile], packed,
                )  # fmt: skip
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
def gradients(intervals, rows, bounds, list_neurons, list_events, list_single, list_double, packed, add, gradient, partial, out_gradient):
    """gradient [n_pre, n_hidden], to which is added if `add`, from the lists [B, tiles, R] of hidden spikes and their events; out_gradient
    [n_hidden, n_out] = the sum of partial [sets, groups, n_hidden, lanes]. packed [threads, n_pre, lanes]: scratch.
    """
    for tile in prange(list_single.shape[1]):
        _add_tile(
            np.int64(tile), intervals, rows, bounds, list_neurons, list_events, list_single, list_double, packed[get_thread_id()], add,
            gradient,
        )  # fmt: skip
    _add_sets(partial, out_gradient)
