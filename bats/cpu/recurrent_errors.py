"""CPU twin of cuda/lif/recurrent_errors.cu: errors through a neuron's own resets (docs/theory.md, section 3)."""

import numpy as np
from numba import njit, prange


@njit(cache=True, _nrt=False, error_model="numpy")
def _one(errors, times, slopes, counts, tau, reset, slope_floor, gains):
    """One sample; returns the number of spikes at which the floor acted."""
    bounded, zero = 0, tau - tau
    for i in range(errors.shape[1]):
        last = counts[i] - 1
        later = zero  # sum over later spikes m of delta_m D / z_m e^{-(t_m - t_k) / tau}
        for k in range(last, -1, -1):
            slope = slopes[k, i]
            if slope < slope_floor:
                slope = slope_floor
                bounded += 1
            if k < last:
                later *= np.exp((times[k, i] - times[k + 1, i]) / tau)
            share = (errors[k, i] + later) / slope
            gains[k, i] = share * tau
            later += share * reset
    return bounded


@njit(cache=True, parallel=True)
def recurrent_errors(errors, times, slopes, counts, tau, reset, slope_floor, gains, status):
    """errors, times, slopes [B, K, N], counts [B, N] -> gains [B, K, N] = delta_k tau / z_k; slots at and after counts untouched.

    z_k = max(slopes, slope_floor); status [B, 4] column 0 is added the number of spikes at which the floor acted.
    gains may be errors itself.
    """
    for b in prange(errors.shape[0]):
        status[b, 0] += _one(errors[b], times[b], slopes[b], counts[b], tau, reset, slope_floor, gains[b])
