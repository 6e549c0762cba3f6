"""CPU twin of cuda/lif/spike_times.cu: event-driven forward pass of a dense LIF layer (docs/theory.md, section 2).

Each sample walks its events; the inner loops over neurons are free of branches, so that LLVM vectorises them. They leave
a byte per neuron that says whether it fires before the next event; only those neurons are then looked at one by one.
"""

import numpy as np
from numba import njit, prange

from bats.cpu.time_grid import factor, move, origin_of

TILE = 1024  # neurons of a work item, at most


@njit(cache=True, inline="always")
def crosses(a, b, four_c, y_low, twice_low, twice_high, c_over_low):
    """Does u cross theta while y falls from y_high to y_low? NaN in a or b never does.

    The parabola b y - a y^2 must exceed c (touching it is no spike: the slope would be 0), and either u >= theta when the
    interval closes, or the vertex lies inside. Written with 4 c, 2 y_low, 2 y_high and c / y_low, which neurons share.
    """
    return (b * b - a * four_c > 0) & ((b - a * y_low >= c_over_low) | ((b < a * twice_high) & (b > a * twice_low)))


@njit(cache=True, inline="always")
def _fire(i, neuron, a, b, c, reset, tau, y_high, y_low, t_origin, t_last, t_next, times, counts, slopes, status):
    """Emits the spikes of a neuron, entry i of a and b, between two events, in order."""
    n_slots = times.shape[0]
    n = counts[neuron]
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
        times[n, neuron] = t
        slopes[n, neuron] = x * y
        n += 1
        bi -= reset / y
        y_high = y
        t_last = t
        if n_slots == 1:  # time to first spike: done by definition, nothing overflows
            bi = -np.inf
            break
    b[i] = bi
    counts[neuron] = n


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
def _prepare(event_times, n_events, tau, length, t_max, factors, ends):
    """What all neurons share about the events of a sample: E, and y at the end of the interval that an event opens.

    ends is NaN where more events follow at the same time: nothing can happen in between. Returns the number of events
    before t_max.
    """
    for e in range(n_events):
        t = event_times[e]
        if not t < t_max:
            return e
        origin = origin_of(t, length)
        factors[e] = factor(t, origin, length, tau)
        t_end = min(event_times[e + 1], t_max) if e + 1 < n_events else t_max
        ends[e] = np.exp((origin * length - t_end) / tau) if t_end != t else np.nan
    return n_events


@njit(cache=True, error_model="numpy")
def _simulate(event_times, event_neurons, n_events, factors, ends, weights, tau, c, reset, length, t_max, low, a, b, found,
              found_words, times, counts, slopes, status):  # fmt: skip
    """Neurons low ... low + len(a) - 1 of one sample."""
    n_slots, tile = times.shape[0], a.shape[0]
    for k in range(4):
        status[k] = 0
    for i in range(tile):  # empties the slots that the previous run filled; all of them where its count makes no sense
        count = counts[low + i]
        n_filled = count if count >= 0 and count < n_slots else n_slots
        for k in range(n_filled):
            times[k, low + i] = np.inf
        counts[low + i] = 0
        a[i] = 0
        b[i] = 0
    found[:] = 0
    origin = tau - tau  # zero, in the layer's type
    for e in range(n_events):
        t = event_times[e]
        if origin_of(t, length) != origin:
            move(b, a, origin - origin_of(t, length), length, tau)
            origin = origin_of(t, length)
        row = weights[event_neurons[e], low : low + tile]
        y_low = ends[e]
        if np.isnan(y_low):
            _accumulate(a, b, row, factors[e])
            continue
        y_high = 1 / factors[e]
        _accumulate_and_test(a, b, row, factors[e], c, y_high, y_low, found)
        for word in range(found_words.shape[0]):
            if found_words[word] != 0:
                t_end = min(event_times[e + 1], t_max) if e + 1 < n_events else t_max
                for i in range(word * 8, min(word * 8 + 8, tile)):
                    if found[i]:
                        _fire(i, low + i, a, b, c, reset, tau, y_high, y_low, origin * length, t, t_end, times, counts, slopes, status)
    for i in range(tile):
        status[0] += counts[low + i]
        status[1] += counts[low + i] == 0
        status[3] += not np.isfinite(a[i])


@njit(cache=True, parallel=True)
def spike_times(event_times, event_neurons, event_counts, weights, tau, c, reset, length, t_max, n_events, factors, ends, a, b,
                found, found_words, item_status, times, counts, slopes, status):  # fmt: skip
    """Event list [B, E], weights [n_pre, n_post] -> times, slopes [B, K, n_post], counts [B, n_post], status [B, 4].

    tau, c = theta / tau, reset = delta_theta / tau, length = L, t_max: scalars of the layer's type. Scratch: n_events [B];
    factors, ends [B, E]; for each tile of neurons a, b [B, tiles, width], found uint8 [B, tiles, width], the same memory as
    uint64 words, and item_status [B, tiles, 4].
    slopes: du/dt at the spike. times and counts come as the last run left them: only the slots that it filled are emptied
    (counts that are out of range empty everything). status per sample, added to: spikes, silent, overflowing, non-finite
    neurons.
    """
    batch, n_post = counts.shape
    n_tiles, width = a.shape[1], a.shape[2]
    for s in prange(batch):
        n_events[s] = _prepare(event_times[s], event_counts[s], tau, length, t_max, factors[s], ends[s])
    for item in prange(n_tiles * batch):  # tile by tile, so that a very wide layer's weights are read in turn
        tile, s = item // batch, item % batch
        low = tile * width
        n = min(width, n_post - low)
        _simulate(
            event_times[s], event_neurons[s], n_events[s], factors[s], ends[s], weights, tau, c, reset, length, t_max, low,
            a[s, tile, :n], b[s, tile, :n], found[s, tile], found_words[s, tile], times[s], counts[s], slopes[s],
            item_status[s, tile],
        )  # fmt: skip
    for s in range(batch):
        for tile in range(n_tiles):
            for k in range(4):
                status[s, k] += item_status[s, tile, k]
