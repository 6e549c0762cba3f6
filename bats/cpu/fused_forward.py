"""Forward pass of the fused step on the CPU: lists of events to compact lists of spikes (docs/theory.md, section 2).

All times are factors q = e^{t / tau} relative to one origin: no exponential or logarithm in any loop. A group of as many neurons
as a vector has lanes walks the events with a and b in registers; one comparison per event asks whether any of them comes near the
threshold before the next event, and only then is the crossing computed.
"""

import numpy as np
from numba import get_thread_id, njit, prange

from bats.cpu.vectors import (
    bits,
    compress,
    greatest,
    how_many,
    least,
    load,
    load_row,
    number,
    numbers,
    root,
    select,
    some,
    splat,
    store_row,
)

MARK_BITS = 16  # lanes of a vector, at most
LOW_HALF = 0xFFFFFFFF  # of an entry of the event table: the number of events; the other half holds the label


@njit(cache=True, _nrt=False, error_model="numpy")
def prepare(n, c, intervals):
    """What all neurons share about the intervals that n events open. intervals [3, > n]: row 0 holds their factors E, ascending, and
    behind them the factor of the end of the simulation.

    Row 1: y = 1 / E at the end of an interval; NaN where the next event has the same time, since nothing can happen in between. Row 2:
    the limit that b - a y reaches there if u reaches theta anywhere in the interval: u does at y if b >= a y + c / y, of which the
    right side is at most c (E_end - E)^2 / E_end below its value at the end (the least of it is where a y = c / y).
    """
    factors, ends, limits = intervals[0], intervals[1], intervals[2]
    one, nan = c / c, intervals.dtype.type(np.nan)
    slack = intervals.dtype.type(1e-6)  # the limit must not be sharper than the exact test
    for e in range(n):
        low, high = factors[e], factors[e + 1]
        y, width = one / high, high - low
        ends[e] = y if high > low else nan
        limits[e] = c * (high - width * width * y - slack * high)


@njit(cache=True, _nrt=False, error_model="numpy")
def walk(n, intervals, rows, weights, c, reset, most, low, bounds, list_q, list_x, list_neurons, marks, counts):
    """Spikes of one group of neurons, low ..., in one sample, appended to lists from place bounds[0] on, and to marks from bounds[2] on.

    intervals as from prepare; rows [n]: the row of weights [n_pre, lanes] that an event adds; most: spikes that a neuron can hold, a
    number of the layer's type. Of each spike the lists get q, the root x and the neuron. A mark stands for spikes of different
    neurons after the same event: event << MARK_BITS | mask of the neurons. bounds[1] and bounds[3] become the places behind the last
    ones; counts [1, lanes]: spikes of each neuron. Returns the numbers of silent neurons, of those that would fire once more than they
    can hold, and of those whose a is not finite, lanes without a neuron included.
    """
    factors, ends, limits = intervals[0], intervals[1], intervals[2]
    zero, one, full = splat(c - c), c / c, splat(intervals.dtype.type(np.inf))
    four_c = c + c + c + c
    a, b, count = zero, zero, zero
    fallen = zero  # the sum of resets, apart from b: what the events add need not wait for a spike that comes before them
    place, mark, overflow = bounds[0], bounds[2], 0
    for e in range(n):
        factor, y, limit = number(factors, e), number(ends, e), number(limits, e)
        w = load_row(weights, number(rows, e)) * factor
        b = b + w
        a = a + w * factor
        at_end = b - a * y
        if some(at_end >= fallen + limit):
            until, begin = number(factors, e + 1), splat(factor)
            while some(at_end >= fallen + limit):
                rest, twice = b - fallen, a + a
                square = rest * rest - a * four_c
                fires = (square > zero) & ((at_end >= fallen + c * until) | ((rest * begin < twice) & (rest > twice * y)))
                if not some(fires):
                    break
                over = fires & (count >= most)
                if some(over):
                    overflow += how_many(over)
                    fallen = select(over, full, fallen)
                    continue
                x = root(square)
                q = least(greatest(twice / (rest + x), begin), splat(until))
                compress(list_q, place, q, fires)
                compress(list_x, place, x, fires)
                compress(list_neurons, place, numbers(low, a), fires)
                marks[mark] = e << MARK_BITS | bits(fires)
                mark += 1
                place += how_many(fires)
                count = select(fires, count + one, count)
                begin = select(fires, q, begin)
                # A neuron with one slot is done: that is the meaning of time to first spike, and no overflow.
                fallen = select(fires, fallen + q * reset if most > one else full, fallen)
    bounds[1], bounds[3] = place, mark
    store_row(counts, 0, count)
    return how_many(count < one), overflow, how_many(zero < one) - how_many(a - a < one)


@njit(cache=True, _nrt=False)
def clear_rows(packed):
    """packed [rows, lanes] = 0."""
    for j in range(packed.shape[0]):
        for i in range(packed.shape[1]):
            packed[j, i] = 0


@njit(cache=True, _nrt=False)
def pack(weights, low, packed):
    """packed [n_pre, lanes] = the columns low ... of weights [n_pre, n_post], 0 where there are none."""
    lanes, n_post = packed.shape[1], weights.shape[1]
    for j in range(weights.shape[0]):
        if low + lanes <= n_post:
            store_row(packed, j, load(weights, j, low))
        else:
            for i in range(lanes):
                packed[j, i] = weights[j, low + i] if low + i < n_post else 0


@njit(cache=True, _nrt=False, error_model="numpy")
def _take_events(sample, table_factors, table_rows, last_factor, c, intervals, rows, number):
    """Copies a sample's events, and their number into number[0]."""
    first, n = sample[0], sample[1] & LOW_HALF
    for e in range(n):
        intervals[0, e] = table_factors[first + e]
        rows[e] = table_rows[first + e]
    intervals[0, n] = last_factor
    prepare(n, c, intervals)
    number[0] = n


@njit(cache=True, _nrt=False, error_model="numpy")
def _simulate_tile(tile, n_events, intervals, rows, weights, packed, c, reset, most, counts, list_q, list_x, list_neurons, marks, bounds,
                   tile_status):  # fmt: skip
    """The groups of neurons of one tile, all samples; packed and counts are of the thread."""
    batch, n_groups, lanes, n_tiles, n_post = n_events.shape[0], bounds.shape[1], packed.shape[1], list_q.shape[1], weights.shape[1]
    first = tile * n_groups // n_tiles
    for k in range(4):
        tile_status[tile, k] = 0
    for group in range(first, (tile + 1) * n_groups // n_tiles):
        low = group * lanes
        pack(weights, low, packed)
        for s in range(batch):
            for end in (1, 3):  # of the places in the lists and in marks
                bounds[s, group, end - 1] = bounds[s, group - 1, end] if group > first else 0
            silent, overflow, broken = walk(
                n_events[s], intervals[s], rows[s], packed, c, reset, most, low, bounds[s, group], list_q[s, tile], list_x[s, tile],
                list_neurons[s, tile], marks[s, tile], counts,
            )  # fmt: skip
            tile_status[tile, 0] += bounds[s, group, 1] - bounds[s, group, 0]
            tile_status[tile, 1] += silent - max(0, low + lanes - n_post)
            tile_status[tile, 2] += overflow
            tile_status[tile, 3] += broken


@njit(cache=True, parallel=True)
def hidden_forward(in_order, first, table_factors, table_rows, last_factor, weights, c, reset, most, n_events, intervals, rows, packed,
                   counts, list_q, list_x, list_neurons, marks, bounds, tile_status):  # fmt: skip
    """B samples from in_order[first] on (bats.fused.event_table) -> their events and the spikes of the first layer.

    n_events [B], intervals [B, 3, E + 1], rows [B, E]: the events, as `walk` wants them; the lists and marks [B, tiles, R]: spikes, tile
    by tile of the neurons; bounds [B, groups, 4]: where those of a group of neurons begin and end in its tile, and its marks;
    tile_status [tiles, 4]: spikes, silent, overflowing, non-finite neurons. Scratch of a thread: packed [threads, n_pre, lanes],
    counts [threads, 1, lanes].
    """
    for s in prange(n_events.shape[0]):
        _take_events(in_order[first + s], table_factors, table_rows, last_factor, c, intervals[s], rows[s], n_events[s : s + 1])
    for tile in prange(list_q.shape[1]):
        thread = get_thread_id()
        _simulate_tile(
            np.int64(tile), n_events, intervals, rows, weights, packed[thread], c, reset, most, counts[thread], list_q, list_x,
            list_neurons, marks, bounds, tile_status,
        )  # fmt: skip
