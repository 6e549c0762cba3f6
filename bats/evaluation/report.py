"""One pass over a test set -> tables and plots of classification, sparsity and latency."""

import csv
import io

import numpy as np

from bats.evaluation import plots
from bats.evaluation.classification import classification_figures
from bats.evaluation.latency import LatencyCurve
from bats.evaluation.sparsity import Sparsity
from bats.training.atomic import write_text

N_TIMES = 101


class Evaluation:
    """Gathers the spikes of a network's layers with weights, and its answers, batch by batch.

    network, loss: whose read-out judges it; labels [n] of the source in its order; class_names; max_simulation in seconds: the
    latency curve has 101 times from 0 to there.

    Call observe() after every batch of Step.evaluate_next over the whole source in order, then write().
    """

    def __init__(self, network, loss, labels, class_names, max_simulation):
        self.network, self.labels, self.class_names = network, np.asarray(labels), [str(name) for name in class_names]
        self.sparsity = Sparsity()
        self.latency = LatencyCurve(loss.rule, np.linspace(0, max_simulation, N_TIMES))
        self._at = 0

    def observe(self):
        """Takes in the batch that the network has just simulated."""
        for layer in self.network.trainable_layers:
            times, counts = layer.spike_trains
            self.sparsity.add(layer.name, counts)
        part = slice(self._at, self._at + len(counts))
        self.latency.add(times, counts, self.labels[part])
        self._at = part.stop

    def write(self, folder, predictions, title):
        """per_class.csv, sparsity.csv, spikes_per_neuron.csv, latency.csv, sparsity.png, latency.png in `folder`.

        predictions [n], -1 for silent samples. Returns the figures: those of classification_figures() without per_class,
        sparsity {layer: figures}, median_decision_seconds (None if every sample is silent).
        """
        figures = classification_figures(self.labels, predictions, len(self.class_names))
        per_class = figures.pop("per_class")
        names = ("samples", "accuracy", "precision", "f1")
        rows = zip(self.class_names, *(per_class[name] for name in names), strict=True)
        _table(folder / "per_class.csv", ("class", *names), rows)
        layers = {name: self.sparsity.figures(name) for name in self.sparsity.layers}
        columns = tuple(next(iter(layers.values())))
        _table(folder / "sparsity.csv", ("layer", *columns), ((name, *row.values()) for name, row in layers.items()))
        neurons = ((name, n, value) for name in layers for n, value in enumerate(self.sparsity.per_neuron(name)))
        _table(folder / "spikes_per_neuron.csv", ("layer", "neuron", "spikes_per_sample"), neurons)
        curve = self.latency
        rows = zip(curve.times, curve.accuracy, curve.answered, strict=True)
        _table(folder / "latency.csv", ("time_seconds", "accuracy", "answered"), rows)
        plots.sparsity(self.sparsity, title, folder / "sparsity.png")
        plots.latency(curve, title, folder / "latency.png")
        final = curve.decision_times
        spoke = final[np.isfinite(final)]
        figures["sparsity"] = layers
        figures["median_decision_seconds"] = float(np.median(spoke)) if spoke.size else None
        return figures


def _table(path, header, rows):
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([f"{cell:.6g}" if isinstance(cell, (float, np.floating)) else cell for cell in row] for row in rows)
    write_text(path, text.getvalue())
