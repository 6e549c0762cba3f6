"""Networks of STDP layers as they are trained: stages without labels one after the other, then a read-out by reward.

Once a stage is trained it never changes, so its output for the whole data set is computed once, kept as latencies (one
byte per neuron) on the device, and is the input on which the next stage trains.
"""

from dataclasses import dataclass

import numpy as np

from bats.device import array_module, is_cupy
from bats.stdp.maps import pad, pool

CHUNK = 4096  # images whose unpooled latencies are in memory at once: 200 MB at 250 features of 14 x 14


def in_chunks(function, latencies, size=CHUNK):
    """function(latencies of up to `size` images) -> array [n, ...], over all images, in one array."""
    xp = array_module("cuda" if is_cupy(latencies) else "cpu")
    starts = range(0, max(len(latencies), 1), size)
    first = function(latencies[:size])
    if len(starts) == 1:
        return first
    whole = xp.empty((len(latencies), *first.shape[1:]), dtype=first.dtype)
    whole[:size] = first
    for start in starts[1:]:
        whole[start : start + size] = function(latencies[start : start + size])
    return whole


def pool_and_pad(latencies, window, padding, n_bins):
    """The earliest spike of every window x window square, then `padding` silent rows and columns on each side."""
    return pad(pool(latencies, window, window, 0, n_bins), padding, n_bins)


def only(outputs, latencies):
    """The merge of a stage with one layer: its output."""
    (output,) = outputs
    return output


@dataclass
class Stage:
    """Layers that train without labels on the same input, one after the other.

    layers   {name: STDPConvolution}.
    window   side of the pooling squares; padding: silent border of the pooled maps, which the next layer sees.
    merge    (list of the layers' latencies, the stage's input) -> latencies uint8 [n, C, H, W] before the pooling.
    """

    layers: dict
    window: int
    padding: int
    merge: object = only

    def output(self, latencies):
        """Input of the next stage, uint8 [n, C, H, W]."""

        def one_chunk(part):
            outputs = [layer.forward(part) for layer in self.layers.values()]
            n_bins = next(iter(self.layers.values())).rule.n_bins
            return pool_and_pad(self.merge(outputs, part), self.window, self.padding, n_bins)

        return in_chunks(one_chunk, latencies)


@dataclass
class LayeredModel:
    """name; stages in order; the read-out (bats.stdp.readouts); padding of the encoded images; default epochs, one number
    per phase (see phases)."""

    name: str
    stages: list
    readout: object
    epochs: tuple
    padding: int = 2

    def phases(self):
        """[(layer name, layer, stage or None)] of what trains without labels, in order; then comes the read-out."""
        trained = [(name, layer, stage) for stage in self.stages for name, layer in stage.layers.items()]
        return trained + [(name, layer, None) for name, layer in self.readout.pretraining.items()]

    def epochs_of(self, epochs):
        """One number of epochs per phase and one for the read-out, from one per *stage*: layers of the same stage share it.

        Errors: ValueError saying how many were expected.
        """
        groups = [list(stage.layers) for stage in self.stages] + [[name] for name in self.readout.pretraining]
        if len(epochs) != len(groups) + 1:
            names = ", ".join(["+".join(group) for group in groups] + ["decision"])
            expected = f"expected {len(groups) + 1} numbers for {self.name} ({names})"
            raise ValueError(f"epochs: {expected}, received {len(epochs)}: {' '.join(map(str, epochs))}")
        repeated = [count for count, group in zip(epochs, groups, strict=False) for _ in group]
        return [*repeated, epochs[-1]]

    def layers(self):
        """{name: layer} of all layers, in the order of training."""
        return {**{name: layer for name, layer, _ in self.phases()}, **self.readout.decision_layers}

    def state(self):
        """{"<layer>/<name>": NumPy array} of everything that learning changes."""
        return {f"{name}/{key}": np.asarray(value) for name, layer in self.layers().items() for key, value in layer.state().items()}

    def load_state(self, state):
        """Takes over what state() gave. Errors: ValueError naming the layers that are missing or too many."""
        names = {key.split("/", 1)[0] for key in state}
        if names != set(self.layers()):
            raise ValueError(f"state: expected the layers {', '.join(self.layers())}, received {', '.join(sorted(names))}")
        for name, layer in self.layers().items():
            layer.load_state({key.split("/", 1)[1]: value for key, value in state.items() if key.startswith(f"{name}/")})
