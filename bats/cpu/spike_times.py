"""CPU twin of cuda/lif/spike_times.cu: event-driven forward pass of a dense LIF layer (docs/theory.md, section 2).

Each sample walks its events; the inner loops over neurons are free of branches, so that LLVM vectorises them. Only a
group of neurons in which some neuron crosses its threshold before the next event is looked at one by one.
"""

import numpy as np
from numba import njit, prange

from bats.cpu.time_grid import factor, origin_of

GROUP = 32  # neurons tested together


@njit(cache=True, inline="always")
def crosses(a, b, c, y_high, y_low):
    """Does u reach theta while y falls from y_high to y_low? NaN in a or b never does.

    Either u >= theta when the interval closes, or the vertex of the parabola b y - a y^2 lies inside and reaches c.
    """
    two_a = a + a
    closes_above = y_low * (b - a * y_low) >= c
    return closes_above | ((b < two_a * y_high) & (b > two_a * y_low) & (b * b >= (two_a + two_a) * c))


@njit(cache=True)
def _fire(i, a, b, c, reset, tau, y_high, y_low, t_origin, t_last, t_next, times, counts, slopes, status):
    """Emits the spikes of neuron i between two events, in order."""
    n_slots = times.shape[1]
    n = counts[i]
    while crosses(a[i], b[i], c, y_high, y_low):
        if n == n_slots:
            status[2] += 1  # overflow: it would fire once more than it can hold
            b[i] = -np.inf
            break
        square = b[i] * b[i] - (a[i] + a[i] + a[i] + a[i]) * c
        x = np.sqrt(max(square, square - square))
        y = min(max((b[i] + x) / (a[i] + a[i]), y_low), y_high)
        t = min(max(t_origin - tau * np.log(y), t_last), t_next)
        times[i, n] = t
        slopes[i, n] = x * y
        n += 1
        b[i] -= reset / y
        y_high = y
        t_last = t
        if n_slots == 1:  # time to first spike: done by definition, nothing overflows
            b[i] = -np.inf
            break
    counts[i] = n


@njit(cache=True, fastmath={"contract"})
def _accumulate(a, b, row, e):
    e2 = e * e
    for i in range(row.shape[0]):
        a[i] += row[i] * e2
        b[i] += row[i] * e


@njit(cache=True, fastmath={"contract"})
def _accumulate_and_test(a, b, row, e, c, y_high, y_low):
    e2 = e * e
    found = False
    for i in range(row.shape[0]):
        ai = a[i] + row[i] * e2
        bi = b[i] + row[i] * e
        a[i] = ai
        b[i] = bi
        found |= crosses(ai, bi, c, y_high, y_low)
    return found


@njit(cache=True)
def _simulate(event_times, event_neurons, n_events, weights, tau, c, reset, length, t_max, a, b, times, counts, slopes, status):
    n_post, n_slots = times.shape
    for i in range(n_post):
        a[i] = 0
        b[i] = 0
        counts[i] = 0
        for k in range(n_slots):
            times[i, k] = np.inf
    origin = tau - tau  # zero, in the layer's type
    for e in range(n_events):
        t = event_times[e]
        if not t < t_max:
            break
        t_next = min(event_times[e + 1], t_max) if e + 1 < n_events else t_max
        if origin_of(t, length) != origin:
            moved = origin_of(t, length)
            decay = np.exp((origin - moved) * length / tau)
            origin = moved
            for i in range(n_post):
                b[i] *= decay
                a[i] *= decay * decay
        e_factor = factor(t, origin, length, tau)
        row = weights[event_neurons[e]]
        if t_next == t:  # more events at this very time: nothing can happen in between
            _accumulate(a, b, row, e_factor)
            continue
        t_origin = origin * length
        y_high = 1 / e_factor
        y_low = np.exp((t_origin - t_next) / tau)
        for low in range(0, n_post, GROUP):
            high = min(low + GROUP, n_post)
            if _accumulate_and_test(a[low:high], b[low:high], row[low:high], e_factor, c, y_high, y_low):
                for i in range(low, high):
                    if crosses(a[i], b[i], c, y_high, y_low):
                        _fire(i, a, b, c, reset, tau, y_high, y_low, t_origin, t, t_next, times, counts, slopes, status)
    for i in range(n_post):
        status[0] += counts[i]
        status[1] += counts[i] == 0
        status[3] += not np.isfinite(a[i])


@njit(cache=True, parallel=True)
def spike_times(event_times, event_neurons, event_counts, weights, tau, c, reset, length, t_max, a, b, times, counts, slopes, status):
    """Event list [B, E], weights [n_pre, n_post] -> times, slopes [B, n_post, K], counts [B, n_post], status [B, 4].

    tau, c = theta / tau, reset = delta_theta / tau, length = L, t_max: scalars of the layer's type; a, b [B, n_post] scratch.
    slopes: du/dt at the spike. status per sample, added to: spikes, silent, overflowing, non-finite neurons.
    """
    for s in prange(event_times.shape[0]):
        _simulate(
            event_times[s], event_neurons[s], event_counts[s], weights, tau, c, reset, length, t_max,
            a[s], b[s], times[s], counts[s], slopes[s], status[s],
        )  # fmt: skip
