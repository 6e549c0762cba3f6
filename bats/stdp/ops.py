"""Single steps of a layer on arrays of latencies, for compositions that the online loop does not cover (joint learning)."""

import numpy as np

from bats import kernels
from bats.cpu import stdp_convolution, stdp_ops
from bats.device import array_module, is_cupy
from bats.ops.arguments import expect
from bats.stdp.online import check


def convolve(latencies, weights, threshold, n_bins=15):
    """Latencies uint8 and potentials float32 [n, F, Ho, Wo] at the first spike (0: silent) of non-leaky one-spike neurons.

    latencies uint8 [n, C, H, W], weights float32 [F, C, kh, kw], no padding. A neuron fires when its potential, the sum of the
    weights of the inputs so far, exceeds the threshold. None: at the last bin, where it is positive; potentials are final ones.
    """
    check(latencies, weights)
    xp = array_module("cuda" if is_cupy(latencies) else "cpu")
    n, (n_features, _, *kernel) = len(latencies), weights.shape
    height, width = latencies.shape[2:]
    shape = n, n_features, height - kernel[0] + 1, width - kernel[1] + 1
    fired, potentials = xp.empty(shape, dtype=np.uint8), xp.empty(shape, dtype=np.float32)
    level = np.float32(-1 if threshold is None else threshold)
    by_input = xp.ascontiguousarray(weights.reshape(n_features, -1).T)
    if fired.size == 0:
        return fired, potentials
    if is_cupy(latencies):
        from bats.stdp import online_cuda

        online_cuda.convolve(latencies, by_input, tuple(kernel), level, n_bins, fired, potentials)
    else:
        flat = n, n_features, shape[2] * shape[3]
        views = fired.reshape(flat), potentials.reshape(flat)
        stdp_convolution.convolve(latencies, by_input, tuple(kernel), level, n_bins, *views)
    return fired, potentials


def inhibit(latencies, potentials, n_bins=15):
    """Point-wise inhibition: at each place only the first feature to fire keeps its spike; new arrays.

    Ties in time: larger potential, then lower feature. uint8 and float32 [n, F, H, W]; losers get n_bins and 0.
    """
    _check_maps(latencies, potentials)
    xp = array_module("cuda" if is_cupy(latencies) else "cpu")
    fired, values = xp.empty_like(latencies), xp.empty_like(potentials)
    if fired.size == 0:
        return fired, values
    n, n_features, height, width = latencies.shape
    arguments = latencies, potentials, *_ints(n_features, height * width, n_bins), fired, values
    if is_cupy(latencies):
        kernels.kernel("stdp/steps", "inhibit", np.float32)((n, (height * width + 127) // 128), (128,), arguments)
    else:
        stdp_ops.inhibit_maps(latencies, potentials, n_bins, fired, values)
    return fired, values


def winners(latencies, potentials, k, radius=0, n_bins=15, rule="exact"):
    """int32 [n, k, 3]: (feature, row, column) of the k winners after point-wise inhibition, -1 where there are fewer.

    Order: earlier spike, larger potential, lower flat index; at most one winner per feature, and with a radius none within that
    distance (in rows and in columns) of another. rule "rounded": by the float32 score n (p + T max p).
    """
    _check_maps(latencies, potentials)
    if not 1 <= k <= 64:
        raise ValueError(f"k: expected 1..64 winners, received {k}")
    n, n_features, height, width = latencies.shape
    xp = array_module("cuda" if is_cupy(latencies) else "cpu")
    chosen = xp.full((n, k, 3), -1, dtype=np.int32)
    if latencies.size == 0:
        return chosen
    if is_cupy(latencies):
        shared = 8 * height * width
        kernel = kernels.kernel("stdp/steps", "winners", np.float32)
        kernel.max_dynamic_shared_size_bytes = shared
        sizes = _ints(n_features, height, width, n_bins, k, radius, rule == "rounded")
        kernel((n,), (256,), (latencies, potentials, *sizes, chosen), shared_mem=shared)
    else:
        stdp_ops.winners_of_maps(latencies, potentials, n_bins, radius, rule == "rounded", chosen)
    return chosen


def outcomes(chosen, labels, per_class):
    """int32 [n]: 0 where the first winner's class (feature // per_class) is the label, 1 where it is another, -1 without a winner."""
    xp = array_module("cuda" if is_cupy(chosen) else "cpu")
    features = chosen[:, 0, 0]
    return xp.where(features < 0, -1, (features // per_class != labels)).astype(np.int32)


def update(weights, image, chosen, latencies, rates, *, outcome=None, stabilizer=True, bounds=(0.0, 1.0)):
    """STDP of the winners of one image, in place; then all weights are clamped to the bounds.

    weights float32 [F, C, kh, kw], image uint8 [C, H, W], chosen int32 [k, 3], latencies uint8 [F, Ho, Wo] of the layer.
    rates: ((LTP, LTD), (LTP, LTD)), float32 [2, 2] on the device; outcome int32 [1] on the device: which row, -1: nothing happens;
    None: the first row.
    """
    check(image[None], weights)
    xp = array_module("cuda" if is_cupy(weights) else "cpu")
    expect("chosen", chosen, (None, 3), np.int32, weights)
    expect("latencies", latencies, (weights.shape[0], None, None), np.uint8, weights)
    expect("rates", rates, (2, 2), np.float32, weights)
    outcome = xp.zeros(1, dtype=np.int32) if outcome is None else outcome
    expect("outcome", outcome, (1,), np.int32, weights)
    low, high = np.float32(bounds[0]), np.float32(bounds[1])
    if is_cupy(weights):
        sizes = _ints(*weights.shape, *image.shape[1:], len(chosen), stabilizer)
        arguments = weights, image, chosen, latencies, rates, outcome, *sizes, low, high
        kernels.kernel("stdp/steps", "update", np.float32)((weights.shape[0],), (256,), arguments)
    else:
        stdp_ops.update_layer(weights, image, chosen, latencies, rates, outcome, stabilizer, low, high)


def _check_maps(latencies, potentials):
    expect("latencies", latencies, (None, None, None, None), np.uint8)
    expect("potentials", potentials, latencies.shape, np.float32, latencies)


def _ints(*values):
    return [np.int32(value) for value in values]
