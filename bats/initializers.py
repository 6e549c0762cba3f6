"""Weight initializers: functions of the weight shape and a random generator."""

import inspect
import math

import numpy as np

from bats.device import is_cupy, to_numpy


def uniform(low=-1.0, high=1.0):
    """Weights drawn from U(low, high)."""
    if not low < high:
        raise ValueError(f"uniform initializer: expected low < high, received {low} and {high}")
    return lambda shape, generator: generator.uniform(low, high, size=shape)


def normal(mean=0.0, std=1.0):
    """Weights drawn from N(mean, std)."""
    if std < 0:
        raise ValueError(f"normal initializer: expected std >= 0, received {std}")
    return lambda shape, generator: generator.normal(mean, std, size=shape)


def fan_in_uniform(low=-1.0, high=1.0):
    """U(low, high) / sqrt(n), n being the number of weights of a neuron: the spread of its summed input does not grow with n."""
    draw = uniform(low, high)
    return lambda shape, generator: draw(shape, generator) / np.sqrt(_fan_in(shape))


def fan_in_normal(mean=0.0, std=1.0):
    """N(mean / n, std^2 / n), n being the number of weights of a neuron: if every input spikes once, the sum of its weights has
    this mean and standard deviation whatever n is. A mean > 0 keeps neurons of wide layers from starting silent."""
    draw = normal(0.0, std)
    return lambda shape, generator: mean / _fan_in(shape) + draw(shape, generator) / np.sqrt(_fan_in(shape))


def _fan_in(shape):
    return math.prod(shape[1:])


def initialize(initializer, shape, generator, layer_name):
    """Weights [shape] float64 from `initializer(shape, generator)`, or, as in scripts for the 2022 BATS code,
    from `initializer(*shape)`, a function of as many integers; NumPy or CuPy. Raises TypeError or ValueError naming the layer."""
    legacy = _takes_integers(initializer, len(shape))
    weights = initializer(*shape) if legacy else initializer(shape, generator)
    weights = to_numpy(weights) if is_cupy(weights) else np.asarray(weights)
    if weights.shape != shape:
        raise ValueError(f"weight initializer of layer {layer_name!r}: expected shape {shape}, received {weights.shape}")
    if weights.dtype.kind not in "fiu":
        raise TypeError(f"weight initializer of layer {layer_name!r}: expected numbers, received dtype {weights.dtype}")
    return weights.astype(np.float64)


def _takes_integers(initializer, n_integers):
    """Whether an initializer is the older kind: its arguments are annotated as int or named n_..., or it takes another number than two."""
    try:
        parameters = [
            parameter
            for parameter in inspect.signature(initializer).parameters.values()
            if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
        ]
    except (TypeError, ValueError):  # built-ins without a signature
        return False
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return False
    if len(parameters) != n_integers:
        return False
    return n_integers != 2 or all(
        parameter.annotation in (int, "int") or parameter.name.startswith("n_") for parameter in parameters
    )
