"""What the tests of whole networks against bats.reference share."""

import numpy as np

import bats
from bats.device import to_numpy

TOLERANCE = 1e-9
MIN_RELATIVE_SLOPE = 0.02  # du/dt at a spike, in units of theta / tau_s


def build(layers, n_inputs, device, dtype="float64"):
    """bats.Network with the parameters and weights of reference layers."""
    network = bats.Network(device=device, dtype=dtype, seed=0)
    network.add_layer(bats.InputLayer(n_inputs, "input"), input=True)
    for n, layer in enumerate(layers):
        parameters = (len(layer.weights), layer.tau_s, layer.theta, layer.delta_theta)
        added = bats.LIFLayer(network.layers[-1], *parameters, max_n_spike=layer.max_n_spike, name=f"layer {n}")
        network.add_layer(added).weights = layer.weights
    return network


def well_conditioned(layers, trains):
    """No spike of any layer grazes the threshold."""
    for layer, spikes in zip(layers, trains, strict=True):
        slopes = spikes.slopes[np.isfinite(spikes.times)]
        if (slopes * layer.tau_s < MIN_RELATIVE_SLOPE * layer.theta).any():
            return False
    return True


def difference(value, expected):
    """Norm of the difference over the norm of what is expected; the norm itself where 0 is expected."""
    value, expected = to_numpy(value), np.asarray(expected)
    size = np.linalg.norm(expected)
    return np.linalg.norm(value - expected) / (size if size > 0 else 1)


def rounded(array):
    """The float32 values of a float64 array, so that both precisions start from the same numbers."""
    return array.astype(np.float32).astype(np.float64)


def causal_order(times, trains):
    """Which pre-spikes precede which spikes, layer by layer, as bytes to be compared."""
    found = []
    for spikes in trains:
        found.append((times.reshape(len(times), 1, 1, -1) < spikes[..., None]).tobytes())
        found.append(np.isfinite(spikes).tobytes())
        times = spikes
    return found


def random_errors(rng, spikes, tau_s):
    return np.where(np.isfinite(spikes.times), rng.uniform(-1, 1, spikes.times.shape) * tau_s, 0)


def time_differences(found, expected, tau_s):
    """|t - t*| / max(t*, tau_s) of the spikes; both trains have the same counts."""
    on = np.isfinite(expected)
    return np.abs(to_numpy(found)[on] - expected[on]) / np.maximum(expected[on], tau_s)
