"""Sparsity: how many spikes each layer and each neuron spends."""

import numpy as np

from bats.device import to_numpy


class Sparsity:
    """Spike counts of every layer, gathered batch by batch."""

    def __init__(self):
        self._per_neuron, self._per_sample = {}, {}

    def add(self, name, counts):
        """counts [batch, n_neurons] of the layer `name` (NumPy or CuPy)."""
        counts = to_numpy(counts).astype(np.int64)
        self._per_neuron[name] = self._per_neuron.get(name, 0) + counts.sum(axis=0)
        self._per_sample.setdefault(name, []).append(counts.sum(axis=1))

    @property
    def layers(self):
        return list(self._per_neuron)

    def per_sample(self, name):
        """[samples] spikes of the layer in each sample."""
        return np.concatenate(self._per_sample[name])

    def per_neuron(self, name):
        """[n_neurons] mean spikes per sample of each neuron."""
        return self._per_neuron[name] / max(1, len(self.per_sample(name)))

    def figures(self, name):
        """{neurons, spikes_per_sample, standard_deviation (over samples), spikes_per_neuron, never_fired (neurons)}."""
        spikes, neurons = self.per_sample(name), self.per_neuron(name)
        return {
            "neurons": len(neurons),
            "spikes_per_sample": float(spikes.mean()),
            "standard_deviation": float(spikes.std()),
            "spikes_per_neuron": float(neurons.mean()),
            "never_fired": int((neurons == 0).sum()),
        }
