"""Time relative to a grid of origins, so that no exponential overflows at any duration (docs/theory.md, section 5).

Origins stand at c * L with L = 8 tau. A time belongs to the origin c = floor(t / L), and its factor
E = e^{(t - c L) / tau} lies in [1, e^8). What is summed relative to origin c moves to origin c + n by e^{-n L / tau}.
"""

import numpy as np
from numba import njit

SPAN = 8  # L / tau


@njit(cache=True, _nrt=False, inline="always")
def origin_of(t, length):
    """Number c of the origin that t belongs to (an integer, held as a float)."""
    return np.floor(t / length)


@njit(cache=True, _nrt=False, inline="always")
def factor(t, origin, length, tau):
    """E = e^{(t - c L) / tau}."""
    return np.exp((t - origin * length) / tau)


@njit(cache=True, _nrt=False)
def move(single, double, n_lengths, length, tau):
    """Sums over neurons that decay with tau (single) and tau_s (double), moved by n_lengths origins.

    A loop, not an array expression: Numba makes every pass through a function that holds one several times slower.
    """
    decay = np.exp(n_lengths * length / tau)
    for i in range(single.shape[0]):
        single[i] *= decay
        double[i] *= decay * decay
