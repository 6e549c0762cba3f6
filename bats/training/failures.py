"""Turns the failure counters of an epoch into one message: what happened, how often, and what to change."""

import warnings

import numpy as np

ON_FAILURE = ("warn", "raise", "ignore")


class TrainingWarning(UserWarning):
    """A run goes on although spikes were dropped, numbers were not finite, or gradients were bounded."""


class TrainingFailure(RuntimeError):
    """The same, where the user asked for it to stop the run (on_failure="raise")."""


_ADVICE = {
    "overflow": "{count} spike buffers were full (max_n_spike = {max_n_spike}), later spikes were dropped: "
    "raise max_n_spike or the threshold",
    "non_finite": "{count} values were not finite (never taken for a spike): lower the learning rate, look at the weights",
}


def describe_failures(network, row):
    """One line per layer and failure of the training samples. `row` is the epoch's row of the history.

    A full buffer of a layer with max_n_spike = 1 is no failure: such a layer stops after its first spike by definition.
    Bounded gradients of grazing spikes are a documented limiter, recorded in metrics.csv and not warned about.
    """
    lines = []
    for layer in network.layers:
        for kind, advice in _ADVICE.items():
            count = row.get(f"train_{kind}_{layer.name}", 0)
            max_n_spike = getattr(layer, "max_n_spike", None)
            if count and not (kind == "overflow" and max_n_spike == 1):
                lines.append(f"layer {layer.name}: " + advice.format(count=count, max_n_spike=max_n_spike))
    return lines


def non_finite_weights(weights):
    """One line per layer with NaN or infinite weights. `weights`: {layer name: np.ndarray}."""
    counts = {name: int(array.size - np.isfinite(array).sum()) for name, array in weights.items()}
    return [f"layer {name}: {count} of {weights[name].size} weights are not finite" for name, count in counts.items() if count]


def report(lines, on_failure, error=TrainingFailure):
    """Warns or raises once with all lines, as `on_failure` says; nothing for no lines."""
    if not lines or on_failure == "ignore":
        return
    message = "\n  ".join(lines)
    if on_failure == "raise":
        raise error(message)
    warnings.warn(message, TrainingWarning, stacklevel=3)
