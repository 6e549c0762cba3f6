"""CPU twin of cuda/conv/conv_spike_times.cu: event-driven forward pass of a convolutional LIF layer.

An event visits the positions that see it. At each, the interval since the position's last event is searched first (its end
is known only now), then the event is added: sums, interval and time origin belong to the position, and nothing is done
where nothing arrives. The inner loops over channels are vectorised.
"""

import numpy as np
from numba import njit, prange

from bats.cpu.conv_geometry import filter_row, place_of, positions_seeing
from bats.cpu.crossings import crosses, fire
from bats.cpu.time_grid import factor, move, origin_of


@njit(cache=True, fastmath={"contract"}, error_model="numpy")
def _test(a, b, c, y_high, y_low, found):
    four_c = c + c + c + c
    twice_low, twice_high, c_over_low = y_low + y_low, y_high + y_high, c / y_low
    for i in range(a.shape[0]):
        found[i] = crosses(a[i], b[i], four_c, y_low, twice_low, twice_high, c_over_low)


@njit(cache=True, fastmath={"contract"})
def _add(a, b, row, e):
    e2 = e * e
    for i in range(row.shape[0]):
        a[i] += row[i] * e2
        b[i] += row[i] * e


@njit(cache=True, error_model="numpy")
def _close_interval(position, a, b, c, reset, tau, t_origin, t_last, t_next, y_high, y_low, found, found_words, times, counts,
                    slopes, status):  # fmt: skip
    """Spikes of the neurons at a position between its last event, where y is y_high, and t_next, where it is y_low."""
    _test(a, b, c, y_high, y_low, found)
    for word in range(found_words.shape[0]):
        if found_words[word] != 0:
            for i in range(word * 8, min(word * 8 + 8, a.shape[0])):
                if found[i]:
                    neuron = position * a.shape[0] + i
                    b[i] = fire(
                        neuron, a[i], b[i], c, reset, tau, y_high, y_low, t_origin, t_last, t_next, times, counts, slopes, status
                    )


@njit(cache=True, error_model="numpy")
def _simulate(event_times, event_neurons, n_events, weights, g, tau, c, reset, length, t_max, a, b, last, last_y, found, found_words,
              times, counts, slopes, status):  # fmt: skip
    """One sample. a, b [positions, C]; last, last_y [positions]: time (NaN: none yet) and y of the last event."""
    n_slots = times.shape[0]
    for n in range(counts.shape[0]):
        count = counts[n]
        n_filled = count if count >= 0 and count < n_slots else n_slots
        for k in range(n_filled):
            times[k, n] = np.inf
        counts[n] = 0
    for position in range(a.shape[0]):
        last[position] = np.nan
        for i in range(a.shape[1]):
            a[position, i] = 0
            b[position, i] = 0
    for e in range(n_events):
        t = event_times[e]
        if not t < t_max:
            break
        origin = origin_of(t, length)
        e_factor = factor(t, origin, length, tau)
        y = np.exp((origin * length - t) / tau)
        grid_x, grid_y, channel = place_of(g, event_neurons[e])
        first_x, end_x = positions_seeing(grid_x, g.filter_x, g.stride_x, g.post_x)
        first_y, end_y = positions_seeing(grid_y, g.filter_y, g.stride_y, g.post_y)
        for px in range(first_x, end_x):
            for py in range(first_y, end_y):
                position = px * g.post_y + py
                a_here, b_here, t_last = a[position], b[position], last[position]
                if t_last < t:
                    own = origin_of(t_last, length)
                    y_low = y if own == origin else np.exp((own * length - t) / tau)
                    _close_interval(
                        position, a_here, b_here, c, reset, tau, own * length, t_last, t, last_y[position], y_low, found,
                        found_words, times, counts, slopes, status,
                    )  # fmt: skip
                    if own != origin:
                        move(b_here, a_here, own - origin, length, tau)
                last[position] = t
                last_y[position] = y
                row = filter_row(g, channel, grid_x - px * g.stride_x, grid_y - py * g.stride_y)
                _add(a_here, b_here, weights[row], e_factor)
    for position in range(a.shape[0]):
        t_last = last[position]
        if t_last < t_max:
            t_origin = origin_of(t_last, length) * length
            y_low = np.exp((t_origin - t_max) / tau)
            _close_interval(
                position, a[position], b[position], c, reset, tau, t_origin, t_last, t_max, last_y[position], y_low, found,
                found_words, times, counts, slopes, status,
            )  # fmt: skip
    for position in range(a.shape[0]):
        for i in range(a.shape[1]):
            count = counts[position * a.shape[1] + i]
            status[0] += count
            status[1] += count == 0
            status[3] += not np.isfinite(a[position, i])


@njit(cache=True, parallel=True)
def conv_spike_times(event_times, event_neurons, event_counts, weights, g, tau, c, reset, length, t_max, a, b, last, last_y, found,
                     found_words, times, counts, slopes, status):  # fmt: skip
    """Event list [B, E], weights [C_pre * FY * FX, C], g: ConvGeometry -> times, slopes [B, K, N], counts [B, N], status [B, 4].

    Scratch: a, b [B, positions, C], last, last_y [B, positions]; found uint8 [B, C up to a
    multiple of 8] (0 past C), the same memory as uint64 words. times and counts come as the last run left them.
    """
    for s in prange(counts.shape[0]):
        _simulate(
            event_times[s], event_neurons[s], event_counts[s], weights, g, tau, c, reset, length, t_max, a[s], b[s], last[s],
            last_y[s], found[s], found_words[s], times[s], counts[s], slopes[s], status[s],
        )  # fmt: skip
