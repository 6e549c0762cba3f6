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
    low, high = 0, n
    while low < high:
        middle = (low + high) >> 1
        if times[middle] < t:
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True)
def _first_of_origin(times, n, origin, length):
    low, high = 0, n
    while low < high:
        middle = (low + high) >> 1
        if origin_of(times[middle], length) < origin:
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True, fastmath={"contract"})
def _add_segment(total, neurons, factors, low, high, p, q):
    for e in range(low, high):
        total[neurons[e]] += factors[e] * (factors[e] * q - p)


@njit(cache=True)
def _add_pair(total, event_times, event_neurons, factors, n_events, times, gains, count, length, tau):
    high = n_events
    p = tau - tau
    q = tau - tau
    origin = origin_of(times[count - 1], length)
    for k in range(count - 1, -1, -1):
        t = times[k]
        high = _first_at_or_after(event_times, high, t)
        low = _first_at_or_after(event_times, high, times[k - 1]) if k > 0 else 0
        moved = origin_of(t, length)
        if moved != origin:
            decay = np.exp((moved - origin) * length / tau)
            p *= decay
            q *= decay * decay
            origin = moved
        y = 1 / factor(t, origin, length, tau)
        p += gains[k] * y
        q += gains[k] * y * y
        while high > low:
            moved = origin_of(event_times[high - 1], length)
            if moved != origin:
                decay = np.exp((moved - origin) * length / tau)
                p *= decay
                q *= decay * decay
                origin = moved
            start = low
            if origin_of(event_times[low], length) != origin:
                start = _first_of_origin(event_times, high, origin, length)
            _add_segment(total, event_neurons, factors, start, high, p, q)
            high = start


@njit(cache=True, parallel=True)
def event_factors(event_times, event_counts, length, tau, factors):
    """factors [B, E] = e^{(t - c L) / tau} of every event."""
    for b in prange(event_times.shape[0]):
        for e in range(event_counts[b]):
            t = event_times[b, e]
            factors[b, e] = factor(t, origin_of(t, length), length, tau)


@njit(cache=True, parallel=True)
def weight_gradient(event_times, event_neurons, event_counts, factors, times, counts, gains, length, tau, scale, total, gradient):
    """Events and factors [B, E]; times, gains [B, n_post, K], counts [B, n_post] -> gradient [n_pre, n_post] * scale.

    total [n_post rounded up to TILE, n_pre] is scratch.
    """
    n_pre, n_post = gradient.shape
    for tile in prange((n_post + TILE - 1) // TILE):
        first = tile * TILE
        last = min(first + TILE, n_post)
        for i in range(first, last):
            total[i, :] = 0
            for b in range(times.shape[0]):
                if counts[b, i] > 0:
                    _add_pair(
                        total[i], event_times[b], event_neurons[b], factors[b], event_counts[b],
                        times[b, i], gains[b, i], counts[b, i], length, tau,
                    )  # fmt: skip
        for j in range(n_pre):
            for i in range(first, last):
                gradient[j, i] = total[i, j] * scale
