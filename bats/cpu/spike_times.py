"""CPU twin of cuda/lif/spike_times.cu: event-driven forward pass of a dense LIF layer (docs/theory.md, section 2).

Each sample walks its events; the inner loops over neurons are free of branches, so that LLVM vectorises them. They leave
a byte per neuron that says whether it fires before the next event; only those neurons are then looked at one by one.
"""

import numpy as np
from numba import njit, prange

from bats.cpu.time_grid import factor, move, origin_of


@njit(cache=True, inline="always")
def crosses(a, b, four_c, y_low, twice_low, twice_high, c_over_low):
    """Does u cross theta while y falls from y_high to y_low? NaN in a or b never does.

    The parabola b y - a y^2 must exceed c (touching it is no spike: the slope would be 0), and either u >= theta when the
    interval closes, or the vertex lies inside. Written with 4 c, 2 y_low, 2 y_high and c / y_low, which neurons share.
    """
    return (b * b - a * four_c > 0) & ((b - a * y_low >= c_over_low) | ((b < a * twice_high) & (b > a * twice_low)))


@njit(cache=True, inline="always")
def _fire(i, a, b, c, reset, tau, y_high, y_low, t_origin, t_last, t_next, times, counts, slopes, status):
    """Emits the spikes of neuron i between two events, in order."""
    n_slots = times.shape[0]
    n = counts[i]
    ai, bi = a[i], b[i]
    two_c, two_a = c + c, ai + ai
    twice_low = y_low + y_low
    c_over_low = c / y_low
    while crosses(ai, bi, two_c + two_c, y_low, twice_low, y_high + y_high, c_over_low):
        if n == n_slots:
            status[2] += 1  # overflow: it would fire once more than it can hold
            bi = -np.inf
            break
        x = np.sqrt(bi * bi - ai * (two_c + two_c))
        y = min(max((bi + x) / two_a, y_low), y_high)
        t = min(max(t_origin - tau * np.log(y), t_last), t_next)
        times[n, i] = t
        slopes[n, i] = x * y
        n += 1
        bi -= reset / y
        y_high = y
        t_last = t
        if n_slots == 1:  # time to first spike: done by definition, nothing overflows
            bi = -np.inf
            break
    b[i] = bi
    counts[i] = n


@njit(cache=True, fastmath={"contract"})
def _accumulate(a, b, row, e):
    e2 = e * e
    for i in range(row.shape[0]):
        a[i] += row[i] * e2
        b[i] += row[i] * e


@njit(cache=True, fastmath={"contract"}, error_model="numpy")
def _accumulate_and_test(a, b, row, e, c, y_high, y_low, found):
    e2 = e * e
    four_c = c + c + c + c
    twice_low = y_low + y_low
    twice_high = y_high + y_high
    c_over_low = c / y_low
    for i in range(row.shape[0]):
        ai = a[i] + row[i] * e2
        bi = b[i] + row[i] * e
        a[i] = ai
        b[i] = bi
        found[i] = crosses(ai, bi, four_c, y_low, twice_low, twice_high, c_over_low)


@njit(cache=True, error_model="numpy")
def _simulate(event_times, event_neurons, n_events, weights, tau, c, reset, length, t_max, a, b, found, found_words,
              times, counts, slopes, status):  # fmt: skip
    n_slots, n_post = times.shape
    a[:] = 0
    b[:] = 0
    for i in range(n_post):  # empties the slots that the previous run filled; all of them where its count makes no sense
        n_filled = counts[i] if 0 <= counts[i] < n_slots else n_slots
        for k in range(n_filled):
            times[k, i] = np.inf
        counts[i] = 0
    found[:] = 0
    origin = tau - tau  # zero, in the layer's type
    t_next = event_times[0]
    next_origin = origin_of(t_next, length)
    next_factor = factor(t_next, next_origin, length, tau)
    for e in range(n_events):
        t, e_factor = t_next, next_factor
        if not t < t_max:
            break
        if next_origin != origin:
            move(b, a, origin - next_origin, length, tau)
            origin = next_origin
        row = weights[event_neurons[e]]
        if e + 1 < n_events:
            t_next = event_times[e + 1]
            if t_next == t:  # more events at this very time: nothing can happen in between
                _accumulate(a, b, row, e_factor)
                continue
            next_origin = origin_of(t_next, length)
            next_factor = factor(t_next, next_origin, length, tau)
        t_origin = origin * length
        if e + 1 < n_events and t_next < t_max and next_origin == origin:
            t_end, y_low = t_next, 1 / next_factor
        else:
            t_end = min(t_next, t_max) if e + 1 < n_events else t_max
            y_low = np.exp((t_origin - t_end) / tau)
        y_high = 1 / e_factor
        _accumulate_and_test(a, b, row, e_factor, c, y_high, y_low, found)
        for word in range(found_words.shape[0]):
            if found_words[word] != 0:
                for i in range(word * 8, min(word * 8 + 8, n_post)):
                    if found[i]:
                        _fire(i, a, b, c, reset, tau, y_high, y_low, t_origin, t, t_end, times, counts, slopes, status)
    for i in range(n_post):
        status[0] += counts[i]
        status[1] += counts[i] == 0
        status[3] += not np.isfinite(a[i])


@njit(cache=True, parallel=True)
def spike_times(event_times, event_neurons, event_counts, weights, tau, c, reset, length, t_max, a, b, found, found_words,
                times, counts, slopes, status):  # fmt: skip
    """Event list [B, E], weights [n_pre, n_post] -> times, slopes [B, K, n_post], counts [B, n_post], status [B, 4].

    tau, c = theta / tau, reset = delta_theta / tau, length = L, t_max: scalars of the layer's type.
    a, b [B, n_post], found uint8 [B, n_post rounded up to 8], and the same memory as uint64 words: scratch.
    slopes: du/dt at the spike. times and counts come as the last run left them: only the slots that it filled are emptied
    (counts that are out of range empty everything). status per sample, added to: spikes, silent, overflowing, non-finite neurons.
    """
    for s in prange(event_times.shape[0]):
        _simulate(
            event_times[s], event_neurons[s], event_counts[s], weights, tau, c, reset, length, t_max,
            a[s], b[s], found[s], found_words[s], times[s], counts[s], slopes[s], status[s],
        )  # fmt: skip
