"""What all layers share: a name, a size, a place in a network."""

import numbers

import numpy as np

from bats.device import is_cupy


class Layer:
    """A group of neurons. Subclasses set `max_n_spike`, the spikes that a neuron's train holds.

    trainable: whether the layer has weights that an optimizer changes.
    spiking: whether its neurons spike; a read-out of membranes does not.
    stepped: whether it works on waves in time steps (bats.timestep) instead of events; a network is one or the other.
    instead_last: what a network expects as its last layer if it cannot be this one, else None.
    neurons_shape: (X, Y, channels) of the layers whose neurons lie on a grid, else None; index (ix * Y + iy) * channels + ic.
    """

    trainable = False
    stepped = False
    spiking = True
    instead_last = None
    weights = None
    neurons_shape = None
    training = False  # whether a backward pass will follow the next forward pass

    def __init__(self, previous_layer, n_neurons, name):
        if previous_layer is not None and not isinstance(previous_layer, Layer):
            raise TypeError(f"previous_layer: expected a layer or None, received {type(previous_layer).__name__}")
        if not isinstance(n_neurons, numbers.Integral) or isinstance(n_neurons, bool):
            raise TypeError(f"n_neurons: expected an integer, received {n_neurons!r}")
        if n_neurons < 1:
            raise ValueError(f"n_neurons: expected at least 1, received {n_neurons}")
        self.previous_layer = previous_layer
        self.n_neurons = int(n_neurons)
        self.name = str(name)
        self.xp = None
        self.dtype = None

    @property
    def attached(self):
        """Whether the layer is part of a network, which gives it its device and dtype."""
        return self.xp is not None

    @property
    def parameters(self):
        """{name: array} of what an optimizer changes, "weights" first; each is an attribute that can be set."""
        return {} if self.weights is None else {"weights": self.weights}

    @property
    def further_gradients(self):
        """{name: gradient} of the parameters beside the weights, after a backward pass: arrays that stay the same."""
        return {}

    def __repr__(self):
        return f"{type(self).__name__}({self.name!r}, n_neurons={self.n_neurons})"


class WeightedLayer(Layer):
    """A layer with weights [n_neurons, n_pre]; in memory they lie as self._weights [n_pre, n_neurons]."""

    trainable = True
    _weights = None

    @property
    def weight_shape(self):
        """Shape of the weights that users see; in memory they lie transposed."""
        return self.n_neurons, self.previous_layer.n_neurons

    @property
    def weights(self):
        """[n_neurons, n_pre], a view: writing into it changes the layer. Settable from a NumPy or CuPy array of that shape."""
        return None if self._weights is None else self._weights.T

    @weights.setter
    def weights(self, values):
        self._take("weights", values, lambda: self._weights.T)

    def _take(self, what, values, parameter):
        """Checks values that a user gives for a parameter and copies them into it, the array parameter()."""
        if not self.attached:
            raise RuntimeError(f"layer {self.name!r}: expected it to be part of a Network before its {what} are set")
        values, target = values if is_cupy(values) else np.asarray(values), parameter()
        if values.shape != target.shape:
            raise ValueError(f"{what} of layer {self.name!r}: expected shape {target.shape}, received {values.shape}")
        if values.dtype.kind not in "fiu":
            raise TypeError(f"{what} of layer {self.name!r}: expected numbers, received dtype {values.dtype}")
        if is_cupy(values) and self.xp is np:
            values = values.get()
        target[...] = self.xp.asarray(values, dtype=self.dtype)


def grid_before(layer):
    """neurons_shape of the layer before `layer`; raises ValueError if its neurons lie on no grid."""
    shape = layer.previous_layer.neurons_shape
    if shape is None:
        raise ValueError(
            f"layer {layer.name!r}: expected to follow a layer with neurons_shape (ConvInputLayer, ConvLIFLayer, PoolingLayer), "
            f"received {layer.previous_layer!r}"
        )
    return shape


def positive(name, value, zero_allowed=False):
    """float(value); raises TypeError for what is no number, ValueError unless it is finite and > 0 (or >= 0)."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise TypeError(f"{name}: expected a number, received {value!r}")
    value = float(value)
    if not (value >= 0 if zero_allowed else value > 0) or value == float("inf"):
        raise ValueError(f"{name}: expected a finite number {'>=' if zero_allowed else '>'} 0, received {value}")
    return value
