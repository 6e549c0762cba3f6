"""CPU twin of cuda/lif/ensemble_gradient.cu: dL/dw of a layer with many neurons and few inputs.

Every neuron walks its own spikes and the events of a sample backwards. Unlike weight_gradient, whose work items each look
through the spikes of the whole layer, the work is linear in the number of neurons, and no sorted list of spikes is needed.
"""

import numpy as np
from numba import njit, prange

from bats.cpu.time_grid import factor, origin_of

TILE = 256  # neurons of a work item: a few of their slots are neighbours in memory and stay in the nearest cache


@njit(cache=True, error_model="numpy")
def _add_sample(event_times, event_neurons, n_events, factors, times, counts, gains, length, tau, scale, low, high, gradient):
    """gradient [n_pre, n_post] += the sample's part for the neurons low ... high - 1. times, gains [K, n_post]."""
    zero = tau - tau
    for i in range(low, high):
        last = counts[i] - 1
        if last < 0:
            continue
        k = last
        origin = origin_of(times[k, i], length)
        p, q = zero, zero  # sums over the spikes after the event, of gain / q_k and gain / q_k^2
        for e in range(n_events - 1, -1, -1):
            t = event_times[e]
            while k >= 0 and times[k, i] > t:
                own = origin_of(times[k, i], length)
                if own != origin:
                    decay = np.exp((own - origin) * length / tau)
                    p *= decay
                    q *= decay * decay
                    origin = own
                y = 1 / factor(times[k, i], origin, length, tau)
                gain = gains[k, i] * scale * y
                p += gain
                q += gain * y
                k -= 1
            if k == last:  # the neuron has not spiked after this event
                continue
            own = origin_of(t, length)
            if own != origin:
                decay = np.exp((own - origin) * length / tau)
                p *= decay
                q *= decay * decay
                origin = own
            gradient[event_neurons[e], i] += factors[e] * (factors[e] * q - p)


@njit(cache=True, parallel=True)
def ensemble_gradient(event_times, event_neurons, event_counts, factors, times, counts, gains, length, tau, scale, gradient):
    """Input events and factors [B, E], times, gains [B, K, n_post], counts [B, n_post] -> gradient [n_pre, n_post] * scale."""
    n_pre, n_post = gradient.shape
    for item in prange((n_post + TILE - 1) // TILE):
        low, high = item * TILE, min((item + 1) * TILE, n_post)
        for j in range(n_pre):
            for i in range(low, high):
                gradient[j, i] = 0
        for b in range(event_times.shape[0]):
            _add_sample(
                event_times[b], event_neurons[b], event_counts[b], factors[b], times[b], counts[b], gains[b], length, tau, scale,
                low, high, gradient,
            )  # fmt: skip
