"""What all layers share: a name, a size, a place in a network."""

import numbers


class Layer:
    """A group of neurons. Subclasses set `max_n_spike`, the spikes that a neuron's train holds.

    trainable: whether the layer has weights that an optimizer changes.
    neurons_shape: (X, Y, channels) of the layers whose neurons lie on a grid, else None; index (ix * Y + iy) * channels + ic.
    """

    trainable = False
    weights = None
    neurons_shape = None

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

    def __repr__(self):
        return f"{type(self).__name__}({self.name!r}, n_neurons={self.n_neurons})"


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
