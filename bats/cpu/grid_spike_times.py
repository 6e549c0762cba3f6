"""CPU twin of cuda/grid/grid_spike_times.cu: forward pass of LIF neurons that emit on a time grid (docs/time_discretization.md).

Events of one time are taken together: first the interval that they close is searched for every neuron, in a loop that LLVM
vectorises and that leaves a byte per neuron, then the events are added. A dense layer is a convolution with one position.
"""

import numpy as np
from numba import njit, prange

from bats.cpu.conv_geometry import filter_row, place_of, positions_seeing
from bats.cpu.conv_spike_times import _add
from bats.cpu.time_grid import factor, move, origin_of

LATCHED = -1.0  # in `free`: rule "study", the neuron waits until its membrane is below threshold


@njit(cache=True, inline="always")
def _bin_of(t, dt, rounding):
    """Bin of a crossing, as a float; rounding: place in bats.discretization.ROUNDINGS."""
    steps = t / dt
    if rounding == 0:
        return np.floor(steps) + 1
    return np.ceil(steps) if rounding == 1 else np.floor(steps + 0.5)


@njit(cache=True, error_model="numpy")
def _may_fire(a, b, c, y_high, y_low, found):
    """Whether u reaches theta anywhere in the interval, its beginning included: a neuron may be above already."""
    twice_low, twice_high, four_c = y_low + y_low, y_high + y_high, c + c + c + c
    for i in range(a.shape[0]):
        ai, bi = a[i], b[i]
        above = (y_high * (bi - ai * y_high) >= c) | (y_low * (bi - ai * y_low) >= c)
        found[i] = above | ((bi * bi - ai * four_c > 0) & (bi < ai * twice_high) & (bi > ai * twice_low))


@njit(cache=True, error_model="numpy")
def _fire(i, a, b, free, last_bin, neuron, grid, t_origin, t_start, t_end, y_start, y_end, times, crossings, counts, slopes, status):
    """Emits the spikes of neuron i whose crossings lie between t_start and t_end, in order."""
    tau, c, reset = neuron
    dt, rounding, study, max_bin = grid
    n_slots, n, ai, bi = times.shape[0], counts[i], a[i], b[i]
    start, y_high = t_start, y_start
    first_search = n > 0 and free[i] >= t_start  # since the last spike: above threshold means that a spike is due
    if free[i] > start:
        start = free[i]
        y_high = np.exp((t_origin - start) / tau)
    while start < t_end:
        above = y_high * (bi - ai * y_high) >= c
        if free[i] < 0:
            if above:
                break
            free[i] = 0
        square = bi * bi - 4 * ai * c
        inside = (y_end * (bi - ai * y_end) >= c) | ((bi < 2 * ai * y_high) & (bi > 2 * ai * y_end))
        if not (above or (square > 0 and inside)):
            break
        due = above and first_search
        y, t = y_high, start
        if not above:
            y = min(max((bi + np.sqrt(square)) / (ai + ai), y_end), y_high)
            t = min(max(t_origin - tau * np.log(y), start), t_end)
        bin = _bin_of(t, dt, rounding)
        if due or bin <= last_bin[i]:
            if study:
                free[i] = LATCHED
                break
            bin = last_bin[i] + 1
        if not bin <= max_bin:
            bi = -np.inf  # it would be emitted after the end
            break
        if n == n_slots:
            status[2] += 1  # overflow
            bi = -np.inf
            break
        last_bin[i] = np.int32(bin)
        times[n, i] = bin * dt
        crossings[n, i] = t
        slopes[n, i] = np.inf if due else np.sqrt(max(square, 0.0)) * y
        n += 1
        start, y_high = t, y
        if study:
            bi -= reset / y
        else:
            emitted = times[n - 1, i]
            bi -= reset * np.exp((emitted - t_origin) / tau)
            free[i] = max(emitted, t)
            first_search = True
            if free[i] > t:
                start = free[i]
                y_high = np.exp((t_origin - start) / tau)
        if n_slots == 1:  # time to first spike: nothing overflows
            bi = -np.inf
            break
    b[i] = bi
    counts[i] = n


@njit(cache=True, error_model="numpy")
def _close_interval(a, b, free, last_bin, neuron, grid, t_origin, t_start, t_end, found, found_words, times, crossings, counts,
                    slopes, status):  # fmt: skip
    tau, c, _ = neuron
    y_start, y_end = np.exp((t_origin - t_start) / tau), np.exp((t_origin - t_end) / tau)
    _may_fire(a, b, c, y_start, y_end, found)
    for word in range(found_words.shape[0]):
        if found_words[word] != 0:
            for i in range(word * 8, min(word * 8 + 8, a.shape[0])):
                if found[i]:
                    _fire(i, a, b, free, last_bin, neuron, grid, t_origin, t_start, t_end, y_start, y_end, times, crossings, counts,
                          slopes, status)  # fmt: skip


@njit(cache=True)
def _receive(pre_neuron, e_factor, g, weights, a, b):
    """Adds an event to the neurons that see it."""
    x, y, channel = place_of(g, pre_neuron)
    first_x, end_x = positions_seeing(x, g.filter_x, g.stride_x, g.post_x)
    first_y, end_y = positions_seeing(y, g.filter_y, g.stride_y, g.post_y)
    for px in range(first_x, end_x):
        for py in range(first_y, end_y):
            i = (px * g.post_y + py) * g.post_c
            row = filter_row(g, channel, x - px * g.stride_x, y - py * g.stride_y)
            _add(a[i : i + g.post_c], b[i : i + g.post_c], weights[row], e_factor)


@njit(cache=True, error_model="numpy")
def _simulate(event_times, event_neurons, n_events, weights, g, neuron, grid, length, t_max, a, b, free, last_bin, found, found_words,
              times, crossings, counts, slopes, status):  # fmt: skip
    """One sample."""
    tau = neuron[0]
    times[:] = np.inf
    for i in range(a.shape[0]):
        counts[i] = 0
        a[i] = 0
        b[i] = 0
        free[i] = 0
        last_bin[i] = -1
    e = 0
    t_last = origin = tau - tau
    while e < n_events and event_times[e] < t_max:
        t = event_times[e]
        if e > 0:
            _close_interval(a, b, free, last_bin, neuron, grid, origin * length, t_last, t, found, found_words, times, crossings,
                            counts, slopes, status)  # fmt: skip
        if origin_of(t, length) != origin:
            move(b, a, origin - origin_of(t, length), length, tau)
            origin = origin_of(t, length)
        e_factor = factor(t, origin, length, tau)
        while e < n_events and event_times[e] == t:
            _receive(event_neurons[e], e_factor, g, weights, a, b)
            e += 1
        t_last = t
    if e > 0:
        _close_interval(a, b, free, last_bin, neuron, grid, origin * length, t_last, t_max, found, found_words, times, crossings, counts,
                        slopes, status)  # fmt: skip
    for i in range(a.shape[0]):
        status[0] += counts[i]
        status[1] += counts[i] == 0
        status[3] += not np.isfinite(a[i])


@njit(cache=True, parallel=True)
def grid_spike_times(event_times, event_neurons, event_counts, weights, g, neuron, grid, length, t_max, a, b, free, last_bin, found,
                     found_words, times, crossings, counts, slopes, status):  # fmt: skip
    """Event list [B, E], weights [C_pre * FY * FX, C], g: ConvGeometry, neuron: (tau, c, reset), grid: (dt, place of the rounding,
    study, last bin) -> times, crossings, slopes [B, K, N], counts [B, N]; added to status [B, 4].

    Scratch: a, b, free [B, N], last_bin [B, N] int32; found uint8 [B, N up to a multiple of 8] (0 past N), the same memory as
    uint64 words. slopes: du/dt at the crossing; infinite where a spike was due when the search began.
    """
    for s in prange(counts.shape[0]):
        _simulate(
            event_times[s], event_neurons[s], event_counts[s], weights, g, neuron, grid, length, t_max, a[s], b[s], free[s], last_bin[s],
            found[s], found_words[s], times[s], crossings[s], counts[s], slopes[s], status[s],
        )  # fmt: skip


@njit(cache=True, parallel=True)
def grid_recurrent_errors(errors, times, crossings, slopes, counts, tau, reset, slope_floor, gains, status):
    """As recurrent_errors, for neurons that are reset at times and fire at crossings; a spike that was due (slope infinite) moves with
    the one before it, so its error goes there and its gain is 0."""
    for s in prange(errors.shape[0]):
        bounded = 0
        for i in range(errors.shape[2]):
            later = passed_on = t_later = tau - tau
            for k in range(counts[s, i] - 1, -1, -1):
                slope, t = slopes[s, k, i], times[s, k, i]
                later *= np.exp((t - t_later) / tau) if later != 0 else 1
                delta = errors[s, k, i] + later + passed_on
                t_later = t
                if slope == np.inf:
                    gains[s, k, i] = 0
                    passed_on = delta
                    continue
                if slope < slope_floor:
                    slope = slope_floor
                    bounded += 1
                passed_on = tau - tau
                gains[s, k, i] = delta * tau / slope
                t_later = crossings[s, k, i]
                later = later * np.exp((t_later - t) / tau) + delta * reset / slope
        status[s, 0] += bounded
