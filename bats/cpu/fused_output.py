"""The output layer in the fused step on the CPU: hidden spikes in order, its spikes, and the way back (docs/theory.md, section 3).

A vector holds outputs. Going back, what all later output spikes mean to an earlier event are two sums per output, P and Q of
theory (30); they change only at output spikes, between which hidden spikes follow in straight loops.
"""

import numpy as np
from numba import get_thread_id, njit, prange

from bats.cpu.fused_forward import MARK_BITS, clear_rows, pack, prepare, walk
from bats.cpu.sort_events import DIGITS, radix_sort
from bats.cpu.vectors import expand, how_many, load_row, mask_of, number, splat, store_row, total

BUCKETS = 1024
CROWDED = 16  # spikes that share the bucket of a spike, in the mean, above which the list is sorted digit by digit instead


@njit(cache=True, _nrt=False, error_model="numpy")
def _bucket_sort(n, lowest, highest, q, addresses, start, sorted_q, sorted_addresses):
    """q [n] in ascending order, equal ones in the order they had, and their addresses; False, with nothing done, in a crowd."""
    scale = q.dtype.type(BUCKETS - 1) / (highest - lowest) if highest > lowest else lowest - lowest
    for bucket in range(BUCKETS):
        start[bucket] = 0
    for k in range(n):
        start[int((q[k] - lowest) * scale)] += 1
    place = crowd = 0
    for bucket in range(BUCKETS):
        count = start[bucket]
        start[bucket] = place
        place += count
        crowd += count * count
    if crowd > CROWDED * n:
        return False
    for k in range(n):
        bucket = int((q[k] - lowest) * scale)
        place = start[bucket]
        start[bucket] = place + 1
        sorted_q[place] = q[k]
        sorted_addresses[place] = addresses[k]
    for k in range(1, n):  # within a bucket
        key, address, place = sorted_q[k], sorted_addresses[k], k
        while place > 0 and sorted_q[place - 1] > key:
            sorted_q[place] = sorted_q[place - 1]
            sorted_addresses[place] = sorted_addresses[place - 1]
            place -= 1
        sorted_q[place] = key
        sorted_addresses[place] = address
    return True


@njit(cache=True, _nrt=False)
def _in_order(list_q, list_neurons, bounds, room, room_bits, addresses, other_bits, other_addresses, start, last_factor, c,
              intervals, rows, places):  # fmt: skip
    """A sample's spikes as events of the output layer, intervals and rows as `walk` wants them; places: where they stand in the lists.
    list_q [tiles, R], list_neurons [tiles * R]. Returns the number of spikes.

    room, other_bits, addresses, other_addresses, start: scratch; room_bits is the same memory as room.
    """
    n_tiles, capacity = list_q.shape
    n_groups, sorted_q = bounds.shape[0], intervals[0]
    n = np.int64(0)  # a literal 0 would have Numba compile what is called with it twice
    lowest, highest = room.dtype.type(np.inf), room.dtype.type(0)
    for tile in range(n_tiles):
        for k in range(bounds[(tile + 1) * n_groups // n_tiles - 1, 1]):
            q = list_q[tile, k]
            if q < lowest:
                lowest = q
            if q > highest:
                highest = q
            room[n] = q
            addresses[n] = tile * capacity + k
            n += 1
    if not _bucket_sort(n, lowest, highest, room, addresses, start, sorted_q, places):
        radix_sort(room_bits, addresses, n, start[:DIGITS], other_bits, other_addresses)
        for k in range(n):
            sorted_q[k] = room[k]
            places[k] = addresses[k]
    for k in range(n):
        rows[k] = list_neurons[places[k]]
    sorted_q[n] = last_factor
    prepare(n, c, intervals)
    return n


@njit(cache=True, _nrt=False, error_model="numpy")
def _simulate_outputs(n, intervals, rows, packed, tau, c, reset, most, counts, out_q, out_x, out_neurons, out_marks, out_bounds,
                      first_times, out_counts, status):  # fmt: skip
    """The output layer on the n hidden spikes of a sample; arguments as of output_forward, without the sample's axis."""
    n_out, lanes = out_counts.shape[0], packed.shape[2]
    for k in range(4):
        status[k] = 0
    for group in range(packed.shape[0]):
        low = group * lanes
        for end in (1, 3):
            out_bounds[group, end - 1] = out_bounds[group - 1, end] if group > 0 else 0
        silent, overflow, broken = walk(
            n, intervals, rows, packed[group], c, reset, most, low, out_bounds[group], out_q, out_x, out_neurons, out_marks, counts
        )
        status[1] += silent - max(0, low + lanes - n_out)
        status[2] += overflow
        status[3] += broken
        for i in range(low, min(low + lanes, n_out)):
            out_counts[i] = int(counts[0, i - low])
            first_times[i] = np.inf
    status[0] = out_bounds[packed.shape[0] - 1, 1]
    for k in range(status[0] - 1, -1, -1):  # the first spike of a neuron comes last
        first_times[out_neurons[k]] = tau * np.log(out_q[k])


@njit(cache=True, _nrt=False)
def _pack_all(weights, packed):
    for group in range(packed.shape[0]):
        pack(weights, group * packed.shape[2], packed[group])


@njit(cache=True, parallel=True)
def output_forward(list_q, list_neurons, bounds, weights, tau, c, reset, most, last_factor, n_events, intervals, rows, places, room,
                   room_bits, addresses, other_bits, other_addresses, start, packed, counts, out_q, out_x, out_neurons, out_marks,
                   out_bounds, first_times, out_counts, status):  # fmt: skip
    """The lists of hidden spikes (bats.cpu.fused_forward) in the order of time, and the output spikes that follow from them.

    n_events [B], intervals [B, 3, F + 1], rows, places [B, F]: hidden spikes as events; out_* [B, M], out_bounds [B, groups, 4]: output
    spikes; first_times [B, 1, n_out] seconds, inf for a silent neuron; out_counts [B, n_out]; status [B, 4]: spikes, silent, overflowing,
    non-finite neurons. packed [groups, n_hidden, lanes]: the weights, also for the way back. The rest, room ... counts, is scratch of a
    thread.
    """
    _pack_all(weights, packed)
    for s in prange(n_events.shape[0]):
        thread = get_thread_id()
        n = _in_order(
            list_q[s], list_neurons[s], bounds[s], room[thread], room_bits[thread], addresses[thread], other_bits[thread],
            other_addresses[thread], start[thread], last_factor, c, intervals[s], rows[s], places[s],
        )  # fmt: skip
        n_events[s] = n
        _simulate_outputs(
            n, intervals[s], rows[s], packed, tau, c, reset, most, counts[thread], out_q[s], out_x[s], out_neurons[s], out_marks[s],
            out_bounds[s], first_times[s, 0], out_counts[s], status[s],
        )  # fmt: skip


@njit(cache=True, _nrt=False, error_model="numpy")
def _output_gains(begin, end, low, out_q, out_x, out_neurons, errors, counts, on_all, scale, tau, reset, slope_floor, later, gains):
    """gains [2, M] = G / q and G / q^2 of the output spikes begin ... end - 1 of a group of outputs. later [2, lanes]: scratch.

    Errors of a neuron's spikes through its own resets: delta_k = dL/dt_k + q_k sum over later spikes of delta_m D / (z_m q_m). Returns the
    number of spikes whose slope was bounded.
    """
    one, bounded = tau / tau, 0
    for i in range(later.shape[1]):
        later[0, i] = 0
        later[1, i] = 0  # spikes seen
    for k in range(end - 1, begin - 1, -1):
        neuron = out_neurons[k]
        i = neuron - low
        q, y = out_q[k], one / out_q[k]
        slope = out_x[k] * y
        if slope < slope_floor:
            slope = slope_floor
            bounded += 1
        later[1, i] += 1
        error = errors[neuron] * scale if on_all or later[1, i] == counts[neuron] else scale - scale
        share = (error + q * later[0, i]) / slope
        later[0, i] += share * reset * y
        gains[0, k] = share * tau * y
        gains[1, k] = share * tau * y * y
    return bounded


@njit(cache=True, _nrt=False, error_model="numpy")
def _back_through_outputs(factors, rows, weights, bounds, marks, gains, rate, errors, gradient):
    """errors [n] += those of the hidden spikes, gradient [n_hidden, lanes] += the sample's part, for a group of outputs; rate = 1 / tau."""
    p = splat(rate - rate)
    q, place = p, bounds[1]
    e = marks[bounds[3] - 1] >> MARK_BITS  # hidden spikes after the last output spike mean nothing
    for k in range(bounds[3] - 1, bounds[2] - 2, -1):
        mark = number(marks, k) if k >= bounds[2] else np.int64(-1)
        until = mark >> MARK_BITS
        while e > until:
            row, factor = number(rows, e), number(factors, e)
            double = q * factor
            single = double - p
            store_row(gradient, row, load_row(gradient, row) + single * factor)
            errors[e] += total(load_row(weights, row) * (single + double)) * factor * rate
            e -= 1
        if mark >= 0:
            own = mask_of(mark, p)
            place -= how_many(own)
            p = p + expand(gains[0], place, own)
            q = q + expand(gains[1], place, own)


@njit(cache=True, _nrt=False, error_model="numpy")
def _hidden_gains(n, factors, rows, places, list_x, errors, tau, reset, slope_floor, later, list_single, list_double):
    """G / q and G / q^2 of every hidden spike, at its place in the lists; the number of bounded slopes. later [n_hidden]: scratch."""
    one, bounded = tau / tau, 0
    for i in range(later.shape[0]):
        later[i] = 0
    for k in range(n - 1, -1, -1):
        place, i, y = places[k], rows[k], one / factors[k]
        slope = list_x[place] * y
        if slope < slope_floor:
            slope = slope_floor
            bounded += 1
        share = (errors[k] + factors[k] * later[i]) / slope
        later[i] += share * reset * y
        single = share * tau * y
        list_single[place] = single
        list_double[place] = single * y
    return bounded


@njit(cache=True, _nrt=False, error_model="numpy")
def _back(own, n_events, intervals, rows, places, list_x, packed, out_q, out_x, out_neurons, out_marks, out_bounds, out_counts, out_errors,
          on_all, scale, tau, out_reset, out_floor, reset, slope_floor, out_later, out_gains, errors, later, list_single, list_double,
          clear, partial, bounded):  # fmt: skip
    """One set of samples; arguments as of output_backward, those of a thread or a set without its axis."""
    n_sets, lanes = partial.shape[0], packed.shape[2]
    bounded[own, 0] = 0
    bounded[own, 1] = 0
    if clear:
        for group in range(packed.shape[0]):
            clear_rows(partial[own, group])
    for s in range(own, n_events.shape[0], n_sets):
        n = n_events[s]
        for k in range(n):
            errors[k] = 0
        for group in range(packed.shape[0]):
            begin, end = out_bounds[s, group, 0], out_bounds[s, group, 1]
            bounded[own, 1] += _output_gains(
                begin, end, group * lanes, out_q[s], out_x[s], out_neurons[s], out_errors[s, 0], out_counts[s], on_all, scale, tau,
                out_reset, out_floor, out_later, out_gains,
            )  # fmt: skip
            if end > begin:
                _back_through_outputs(
                    intervals[s, 0], rows[s], packed[group], out_bounds[s, group], out_marks[s], out_gains, tau / tau / tau, errors,
                    partial[own, group],
                )  # fmt: skip
        bounded[own, 0] += _hidden_gains(
            n, intervals[s, 0], rows[s], places[s], list_x[s], errors, tau, reset, slope_floor, later, list_single[s], list_double[s]
        )


@njit(cache=True, parallel=True)
def output_backward(n_events, intervals, rows, places, list_x, packed, out_q, out_x, out_neurons, out_marks, out_bounds, out_counts,
                    out_errors, on_all, scale, tau, out_reset, out_floor, reset, slope_floor, out_later, out_gains, errors, later,
                    list_single, list_double, clear, partial, bounded):  # fmt: skip
    """out_errors [B, 1, n_out] = dL/dt of the output spikes (of the first ones only, unless on_all) -> the gains of all hidden spikes, and
    partial [sets, groups, n_hidden, lanes]: the gradient of the output layer times scale, to which is added unless `clear`.

    Which samples form a set does not depend on the threads. list_x, list_single, list_double [B, tiles * R]; scratch of a thread:
    out_later [threads, 2, lanes], out_gains [threads, 2, M], errors [threads, F], later [threads, n_hidden]. bounded [sets, 2]: spikes
    whose slope was bounded, hidden and output.
    """
    for own in prange(partial.shape[0]):
        thread = get_thread_id()
        _back(
            np.int64(own), n_events, intervals, rows, places, list_x, packed, out_q, out_x, out_neurons, out_marks, out_bounds,
            out_counts, out_errors, on_all, scale, tau, out_reset, out_floor, reset, slope_floor, out_later[thread], out_gains[thread],
            errors[thread], later[thread], list_single, list_double, clear, partial, bounded,
        )  # fmt: skip
