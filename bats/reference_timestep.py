"""Networks in time steps in NumPy float64, written to be read: the oracle of bats.timestep (docs/timestep.md).

Arrays [batch, n_steps, n]. Every sum over time is written as the matrix that it is, so nothing here is a scan but the reset.
"""

from dataclasses import dataclass

import numpy as np


@dataclass
class Layer:
    """One layer. kind: "standard", "fast" or "readout"; weights [n, n_pre]; bias [n]; response [n_steps], the membrane after a
    current of 1 in step 0 (beta^t unless learned); surrogate: a name and its slope."""

    kind: str
    weights: np.ndarray
    bias: np.ndarray
    response: np.ndarray
    threshold: float = 1.0
    reset: bool = True
    skip: bool = False
    surrogate: tuple = ("FastSigmoid", 100.0)


def surrogate(kind, x):
    """dS/dV at x = V - threshold."""
    name, slope = kind
    if name == "FastSigmoid":
        return 1 / (slope * np.abs(x) + 1) ** 2
    if name == "ArcTan":
        return 1 / (1 + (slope * x) ** 2)
    s = 1 / (1 + np.exp(-slope * x))
    return 4 * s * (1 - s)


def causal(response):
    """[t, s] = response[t - s] for s <= t, else 0."""
    n = len(response)
    distance = np.arange(n)[:, None] - np.arange(n)
    return np.where(distance >= 0, response[np.clip(distance, 0, None)], 0.0)


def currents(layer, x):
    return x @ layer.weights.T + layer.bias


def membrane_and_spikes(layer, x):
    """(V before resets, the layer's own spikes) for input x [batch, n_steps, n_pre]."""
    current = currents(layer, x)
    if layer.kind != "standard":
        membrane = np.einsum("ts,bsn->btn", causal(layer.response), current)
        crossed = membrane > layer.threshold
        ramp = causal(1.0 + np.arange(x.shape[1]))  # two running sums in one
        z = np.einsum("ts,bsn->btn", ramp, crossed.astype(float))
        return membrane, z == 1
    membrane, left = np.zeros_like(current), np.zeros_like(current[:, 0])
    for t in range(x.shape[1]):
        membrane[:, t] = layer.response[1] * left + current[:, t] if t else current[:, t]
        left = membrane[:, t] - (layer.threshold * (membrane[:, t] > layer.threshold) if layer.reset else 0)
    return membrane, membrane > layer.threshold


def forward(layers, x):
    """(inputs of every layer, their membranes, logits [batch, n_outputs])."""
    inputs, membranes = [], []
    for layer in layers:
        membrane, spikes = membrane_and_spikes(layer, x)
        inputs.append(x)
        membranes.append(membrane)
        x = np.clip(spikes + (x if layer.skip else 0.0), 0, 1)
    return inputs, membranes, membranes[-1].max(axis=1)


def backward_currents(layer, x, membrane, errors):
    """(dL/dI, dL/dV, what a skip connection hands back) from errors = dL/d(output), of a read-out dL/dlogits."""
    into_membrane = causal(layer.response).T  # [s, t]: from V[t] back to I[s]
    if layer.kind == "readout":
        peak = membrane.argmax(axis=1)[:, None]
        dv = np.where(np.arange(membrane.shape[1])[None, :, None] == peak, errors[:, None], 0.0)
        return np.einsum("st,btn->bsn", into_membrane, dv), dv, None
    _, spikes = membrane_and_spikes(layer, x)
    if layer.skip:
        errors = errors * (spikes + x <= 1)
    handed_back = errors
    slope = surrogate(layer.surrogate, membrane - layer.threshold)
    if layer.kind == "fast":
        not_yet = np.cumsum(membrane > layer.threshold, axis=1) == 0
        ramp = causal(1.0 + np.arange(x.shape[1])).T
        dv = np.einsum("st,btn->bsn", ramp, errors * not_yet) * slope
        return np.einsum("st,btn->bsn", into_membrane, dv), dv, handed_back
    current_errors, after = np.zeros_like(membrane), np.zeros_like(membrane[:, 0])
    for t in reversed(range(x.shape[1])):  # after: dL/d(membrane after the reset of step t)
        spike_error = errors[:, t] - (layer.threshold * after if layer.reset else 0)
        current_errors[:, t] = after + spike_error * slope[:, t]
        after = layer.response[1] * current_errors[:, t] if t else 0
    return current_errors, current_errors, handed_back


def backward(layers, inputs, membranes, errors):
    """errors = dL/dlogits per sample -> a dictionary per layer: weights, bias, response, summed over the batch; and dL/d(input)."""
    gradients = []
    for layer, x, membrane in zip(layers[::-1], inputs[::-1], membranes[::-1], strict=True):
        di, dv, handed_back = backward_currents(layer, x, membrane, errors)
        current, n_steps = currents(layer, x), x.shape[1]
        response = np.array([np.sum(dv[:, d:] * current[:, : n_steps - d]) for d in range(n_steps)])
        gradients.append({"weights": np.einsum("btn,btm->nm", di, x), "bias": di.sum(axis=(0, 1)), "response": response})
        errors = di @ layer.weights + (handed_back if layer.skip else 0)
    return gradients[::-1], errors


def cross_entropy(logits, labels):
    """(loss [batch], dL/dlogits)."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    probabilities = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
    wanted = np.eye(logits.shape[1])[labels]
    return -np.log((probabilities * wanted).sum(axis=1)), probabilities - wanted
