"""CPU twin of cuda/lif/recurrent_errors.cu: errors through a neuron's own resets (docs/theory.md, section 3)."""

import numpy as np
from numba import njit, prange


@njit(cache=True, parallel=True)
def recurrent_errors(errors, times, slopes, counts, tau, reset, slope_floor, gains, status):
    """errors, times, slopes [B, K, N], counts [B, N] -> gains [B, K, N] = delta_k tau / z_k; slots at and after counts untouched.

    z_k = max(slopes, slope_floor); status [B, 4] column 0 is added the number of spikes at which the floor acted.
    gains may be errors itself.
    """
    for b in prange(errors.shape[0]):
        bounded = 0
        for i in range(errors.shape[2]):
            later = tau - tau  # sum over later spikes m of delta_m D / z_m e^{-(t_m - t_k) / tau}
            t_later = later
            for k in range(counts[b, i] - 1, -1, -1):
                slope = slopes[b, k, i]
                if slope < slope_floor:
                    slope = slope_floor
                    bounded += 1
                t = times[b, k, i]
                later *= np.exp((t - t_later) / tau) if later != 0 else 1
                delta = errors[b, k, i] + later
                gains[b, k, i] = delta * tau / slope
                later += delta * reset / slope
                t_later = t
        status[b, 0] += bounded
