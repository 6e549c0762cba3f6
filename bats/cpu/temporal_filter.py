"""CPU twin of cuda/timestep/temporal_filter.cu: a causal filter along the time steps, and its gradients. Arrays [B, T, N]."""

from numba import njit, prange


@njit(cache=True, parallel=True)
def temporal_filter(currents, bias, response, out):
    """currents += bias ([N] or [0]), then out[t] = sum_{s <= t} response[t - s] currents[s]."""
    n_batch, n_steps, n = currents.shape
    for b in prange(n_batch):
        if bias.shape[0] > 0:
            for t in range(n_steps):
                for i in range(n):
                    currents[b, t, i] += bias[i]
        for t in range(n_steps):
            for i in range(n):
                out[b, t, i] = 0
            for s in range(t + 1):
                k = response[t - s]
                for i in range(n):
                    out[b, t, i] += k * currents[b, s, i]


@njit(cache=True, parallel=True)
def temporal_filter_backward(errors, response, out):
    """out[s] = sum_{t >= s} response[t - s] errors[t]."""
    n_batch, n_steps, n = errors.shape
    for b in prange(n_batch):
        for s in range(n_steps):
            for i in range(n):
                out[b, s, i] = 0
            for t in range(s, n_steps):
                k = response[t - s]
                for i in range(n):
                    out[b, s, i] += k * errors[b, t, i]


@njit(cache=True, parallel=True)
def temporal_filter_gradient(errors, currents, scale, sums, gradient):
    """gradient[d] = scale sum_{b, t, i} errors[t + d] currents[t]; sums [B, T] holds those of each sample."""
    n_batch, n_steps, n = errors.shape
    for b in prange(n_batch):
        for d in range(n_steps):
            total = scale - scale
            for t in range(n_steps - d):
                part = scale - scale
                for i in range(n):
                    part += errors[b, t + d, i] * currents[b, t, i]
                total += part
            sums[b, d] = total
    for d in range(n_steps):
        total = scale - scale
        for b in range(n_batch):
            total += sums[b, d]
        gradient[d] = total * scale
