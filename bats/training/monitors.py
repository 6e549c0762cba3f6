"""The monitors of a run: each quantity over the epochs, as .npz files (epochs, values) and one plot per quantity."""

import numpy as np

from bats.training import plots
from bats.training.atomic import atomic_file

# file name of the plot: (title, label of the value axis, how its columns in the history are recognised)
_MONITORS = {
    "accuracy": ("Accuracy", "accuracy (%)", "{part}_accuracy_percent"),
    "loss": ("Loss", "loss per sample", "{part}_loss"),
    "silent_labels": ("Samples whose label neuron is silent", "silent labels (%)", "{part}_silent_labels_percent"),
    "silent_neurons": (
        "Neurons without a spike, mean over samples",
        "silent neurons (%)",
        "{part}_silent_neurons_percent_{layer}",
    ),
    "spikes_per_sample": ("Spikes of each layer", "spikes per sample", "{part}_spikes_per_sample_{layer}"),
    "weight_norm": ("Weight norm of each layer", "Frobenius norm", "weight_norm_{layer}"),
    "learning_rate": ("Learning rate", "learning rate", "learning_rate"),
    "time": ("Wall time of an epoch", "time (s)", "{part}_seconds"),
}
_PARTS = ("train", "validation", "test", "evaluation")


def _match(column, pattern):
    """Label of the curve that `column` belongs to under `pattern`, or None."""
    for part in _PARTS if "{part}" in pattern else ("",):
        start, *layer = pattern.replace("{part}", part).split("{layer}")
        if layer and column.startswith(start):
            return " ".join(filter(None, (column[len(start) :], part)))
        if not layer and column == start:
            return part
    return None


def collect(history):
    """{monitor: {curve label: (column, values float64 [epochs])}} of a history, in the order of its columns."""
    curves = {name: {} for name in _MONITORS}
    for column in history[-1]:
        for name, (_, _, pattern) in _MONITORS.items():
            label = _match(column, pattern)
            if label is not None:
                values = np.array([row.get(column, np.nan) for row in history], dtype=np.float64)
                curves[name][label] = (column, values)
    return curves


def export(history, folder):
    """Writes <column>.npz (`epochs` int64, `values` float64) for every monitored column, and <monitor>.png."""
    epochs = np.array([row["epoch"] for row in history], dtype=np.int64)
    for name, curves in collect(history).items():
        for column, values in curves.values():
            with atomic_file(folder / f"{column}.npz") as file:
                np.savez(file, epochs=epochs, values=values)
        if curves:
            title, label, _ = _MONITORS[name]
            plots.metric_curves(epochs, {key: values for key, (_, values) in curves.items()}, title, label, folder / f"{name}.png")
