"""CPU twin of cuda/timestep/stepped_neurons.cu: neurons in time steps, forward and backward; docs/timestep.md.

Arrays [B, T, N]. A sample is walked step by step, its neurons side by side, so that the inner loops are vectorised.
"""

import math

import numpy as np
from numba import njit, prange


@njit(cache=True)
def _slope(kind, slope, x):
    """Surrogate dS/dV at x = V - threshold: fast sigmoid, arctan, sigmoid."""
    one = slope / slope
    if kind == 0:
        d = slope * abs(x) + one
        return one / (d * d)
    if kind == 1:
        d = slope * x
        return one / (one + d * d)
    e = math.exp(-abs(slope * x))
    return 4 * e / ((one + e) * (one + e))


@njit(cache=True)
def _count(spikes, membrane, status, counts):
    """Counters of a sample from its counts [N] and its last membrane [N]."""
    for i in range(counts.shape[0]):
        status[0] += counts[i]
        status[1] += counts[i] == 0 and spikes
        status[3] += not np.isfinite(membrane[i])


@njit(cache=True, parallel=True)
def lif_steps(membrane, bias, beta, threshold, resets, passed_on, spikes, counts, status):
    """membrane holds the currents and receives V before the reset; bias [N] or [0]; passed_on [B, T, N] or [0, 0, 0]."""
    n_batch, n_steps, n = membrane.shape
    for b in prange(n_batch):
        left = np.zeros(n, dtype=membrane.dtype)  # of the step before, after its reset and decay
        counts[b] = 0
        for t in range(n_steps):
            for i in range(n):
                v = left[i] + membrane[b, t, i]
                if bias.shape[0] > 0:
                    v += bias[i]
                fires = v > threshold
                membrane[b, t, i] = v
                left[i] = beta * (v - threshold if fires and resets else v)
                if passed_on.shape[0] > 0:
                    fires = fires or passed_on[b, t, i] > 0
                spikes[b, t, i] = fires
                counts[b, i] += fires
        _count(True, membrane[b, n_steps - 1], status[b], counts[b])


@njit(cache=True, parallel=True)
def lif_steps_backward(errors, membrane, beta, threshold, resets, kind, slope, passed_on, passed_errors):
    """errors = dL/dS of the output, replaced by dL/dI; passed_errors receives what a skip connection hands back, or is [0, 0, 0]."""
    n_batch, n_steps, n = errors.shape
    for b in prange(n_batch):
        later = np.zeros(n, dtype=errors.dtype)  # dL/dU of the step, through the later ones
        for t in range(n_steps - 1, -1, -1):
            for i in range(n):
                v = membrane[b, t, i]
                g = errors[b, t, i]
                if passed_on.shape[0] > 0 and v > threshold and passed_on[b, t, i] > 0:
                    g = g - g  # the clamp holds
                if passed_errors.shape[0] > 0:
                    passed_errors[b, t, i] = g
                if resets:
                    g -= threshold * later[i]
                g = later[i] + g * _slope(kind, slope, v - threshold)
                errors[b, t, i] = g
                later[i] = beta * g


@njit(cache=True, parallel=True)
def single_spike_steps(membrane, bias, beta, threshold, passed_on, spikes, first, counts, status):
    """As lif_steps, without reset; only the first crossing is a spike, in step first [B, N] (T: none)."""
    n_batch, n_steps, n = membrane.shape
    for b in prange(n_batch):
        left = np.zeros(n, dtype=membrane.dtype)
        counts[b] = 0
        first[b] = n_steps
        for t in range(n_steps):
            for i in range(n):
                v = left[i] + membrane[b, t, i]
                if bias.shape[0] > 0:
                    v += bias[i]
                membrane[b, t, i] = v
                left[i] = beta * v
                fires = first[b, i] == n_steps and v > threshold
                if fires:
                    first[b, i] = t
                if passed_on.shape[0] > 0:
                    fires = fires or passed_on[b, t, i] > 0
                spikes[b, t, i] = fires
                counts[b, i] += fires
        _count(True, membrane[b, n_steps - 1], status[b], counts[b])


@njit(cache=True, parallel=True)
def single_spike_backward(errors, membrane, first, beta, threshold, kind, slope, passed_on, passed_errors):
    """As lif_steps_backward; only errors of steps before the first crossing count, through two running sums."""
    n_batch, n_steps, n = errors.shape
    for b in prange(n_batch):
        once, twice, later = np.zeros((3, n), dtype=errors.dtype)
        for t in range(n_steps - 1, -1, -1):
            for i in range(n):
                g = errors[b, t, i]
                if passed_on.shape[0] > 0 and t == first[b, i] and passed_on[b, t, i] > 0:
                    g = g - g
                if passed_errors.shape[0] > 0:
                    passed_errors[b, t, i] = g
                if t >= first[b, i]:
                    errors[b, t, i] = 0
                    continue
                once[i] += g
                twice[i] += once[i]
                g = twice[i] * _slope(kind, slope, membrane[b, t, i] - threshold) + later[i]
                errors[b, t, i] = g
                later[i] = beta * g


@njit(cache=True, parallel=True)
def readout_steps(membrane, bias, beta, logits, peaks, status):
    """membrane holds the currents and receives V; logits [B, 1, N] its largest value, peaks [B, N] the first step that has it."""
    n_batch, n_steps, n = membrane.shape
    for b in prange(n_batch):
        left = np.zeros(n, dtype=membrane.dtype)
        for t in range(n_steps):
            for i in range(n):
                v = left[i] + membrane[b, t, i]
                if bias.shape[0] > 0:
                    v += bias[i]
                membrane[b, t, i] = v
                left[i] = beta * v
                if t == 0 or v > logits[b, 0, i]:
                    logits[b, 0, i] = v
                    peaks[b, i] = t
        for i in range(n):
            status[b, 3] += not np.isfinite(membrane[b, n_steps - 1, i])


@njit(cache=True, parallel=True)
def readout_backward(errors, peaks, beta, out):
    """errors [B, 1, N] = dL/dlogits -> out [B, T, N] = dL/dI = errors beta^(peak - t) up to the peak, 0 after it."""
    n_batch, n_steps, n = out.shape
    for b in prange(n_batch):
        later = np.zeros(n, dtype=out.dtype)
        for t in range(n_steps - 1, -1, -1):
            for i in range(n):
                g = errors[b, 0, i] if t == peaks[b, i] else beta * later[i]
                out[b, t, i] = g
                later[i] = g


@njit(cache=True)
def bias_gradient(errors, sums, scale, out):
    """out [N] = scale times errors [B, T, N] summed over steps (sums [B, N]), then over samples."""
    sums[:] = 0
    out[:] = 0
    for b in range(errors.shape[0]):
        for t in range(errors.shape[1]):
            for i in range(errors.shape[2]):
                sums[b, i] += errors[b, t, i]
        for i in range(errors.shape[2]):
            out[i] += sums[b, i] * scale
