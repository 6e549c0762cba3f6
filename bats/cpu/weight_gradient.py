"""CPU twin of cuda/lif/weight_gradient.cu: dL/dw of a dense layer, summed over the batch in a fixed order.

For a (sample, post-neuron) pair the spikes cut the events into segments; within one, dL/dw is E^2 Q - E P with constants
P = sum g_k / E_k, Q = sum g_k / E_k^2 over the later spikes (docs/theory.md, section 3).
"""

import numpy as np
from numba import njit, prange

from bats.cpu.time_grid import factor, origin_of

TILE = 16  # post-neurons accumulated together, then written as one stretch of a row


@njit(cache=True)
def _first_at_or_after(times, n, t):
    """Number of the first n (ascending) times that are < t; without branches to mispredict."""
    low = 0
    while n > 0:
        half = (n + 1) >> 1
        low += half if times[low + half - 1] < t else 0
        n -= half
    return low


@njit(cache=True, fastmath={"contract"})
def _add_segment(total, neurons, factors, low, high, p, q):
    for e in range(low, high):
        total[neurons[e]] += factors[e] * (factors[e] * q - p)


@njit(cache=True)
def _add_pair(total, event_times, event_neurons, factors, n_events, i, times, gains, count, length, tau):
    """One origin only: every time is below L."""
    p = tau - tau
    q = tau - tau
    high = _first_at_or_after(event_times, n_events, times[count - 1, i])
    for k in range(count - 1, -1, -1):
        low = _first_at_or_after(event_times, high, times[k - 1, i]) if k > 0 else 0
        y = np.exp(-times[k, i] / tau)
        p += gains[k, i] * y
        q += gains[k, i] * y * y
        _add_segment(total, event_neurons, factors, low, high, p, q)
        high = low


@njit(cache=True)
def _add_long_pair(total, event_times, event_neurons, factors, n_events, i, times, gains, count, length, tau):
    """Any duration: P and Q move from origin to origin, backwards in time."""
    p = tau - tau
    q = tau - tau
    origin = origin_of(times[count - 1, i], length)
    high = _first_at_or_after(event_times, n_events, times[count - 1, i])
    for k in range(count - 1, -1, -1):
        low = _first_at_or_after(event_times, high, times[k - 1, i]) if k > 0 else 0
        p, q, origin = _moved(p, q, origin, origin_of(times[k, i], length), length, tau)
        y = 1 / factor(times[k, i], origin, length, tau)
        p += gains[k, i] * y
        q += gains[k, i] * y * y
        while high > low:  # the events of one origin at a time
            p, q, origin = _moved(p, q, origin, origin_of(event_times[high - 1], length), length, tau)
            start = high - 1
            while start > low and origin_of(event_times[start - 1], length) == origin:
                start -= 1
            _add_segment(total, event_neurons, factors, start, high, p, q)
            high = start


@njit(cache=True, inline="always")
def _moved(p, q, origin, moved, length, tau):
    decay = np.exp((moved - origin) * length / tau)
    return p * decay, q * decay * decay, moved


@njit(cache=True)
def _add_any_pair(total, event_times, event_neurons, factors, n_events, i, times, gains, count, length, tau):
    if max(times[count - 1, i], event_times[n_events - 1]) < length:
        _add_pair(total, event_times, event_neurons, factors, n_events, i, times, gains, count, length, tau)
    else:
        _add_long_pair(total, event_times, event_neurons, factors, n_events, i, times, gains, count, length, tau)


@njit(cache=True, parallel=True)
def event_factors(event_times, event_counts, length, tau, factors):
    """factors [B, E] = e^{(t - c L) / tau} of every event."""
    for b in prange(event_times.shape[0]):
        for e in range(event_counts[b]):
            t = event_times[b, e]
            factors[b, e] = factor(t, origin_of(t, length), length, tau)


@njit(cache=True, parallel=True)
def weight_gradient(event_times, event_neurons, event_counts, factors, times, counts, gains, length, tau, scale, total, gradient):
    """Events and factors [B, E]; times, gains [B, K, n_post], counts [B, n_post] -> gradient [n_pre, n_post] * scale.

    event_neurons as unsigned integers (no index is counted from the end); total [n_post rounded up to TILE, n_pre] is scratch.
    """
    n_pre, n_post = gradient.shape
    for tile in prange((n_post + TILE - 1) // TILE):
        first = tile * TILE
        last = min(first + TILE, n_post)
        total[first:last] = 0
        for b in range(times.shape[0]):
            for i in range(first, last):
                if counts[b, i] > 0 and event_counts[b] > 0:
                    _add_any_pair(
                        total[i], event_times[b], event_neurons[b], factors[b], event_counts[b],
                        i, times[b], gains[b], counts[b, i], length, tau,
                    )  # fmt: skip
        for j in range(n_pre):
            for i in range(first, last):
                gradient[j, i] = total[i, j] * scale
