"""What must agree between a checkpoint and the run that continues it: network, loss, optimizer, batches and data."""

import hashlib
import json

import numpy as np

_LAYER_FIELDS = ("n_neurons", "neurons_shape", "filters_shape")
_NEURON_FIELDS = ("tau_s", "theta", "delta_theta", "max_n_spike", "slope_floor")  # of layers with weights


def _plain(value):
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def describe_object(value):
    """Kind and plain attributes (numbers, strings, flags) of a loss, optimizer or schedule."""
    if value is None:
        return None
    attributes = {name.lstrip("_"): _plain(item) for name, item in vars(value).items()}
    plain = {name: item for name, item in attributes.items() if isinstance(item, (bool, int, float, str))}
    return {"kind": type(value).__name__, **plain}


def describe_network(network):
    """Precision and, for each layer, its kind and every figure that shapes its computation."""
    layers = {}
    for layer in network.layers:
        names = (*_LAYER_FIELDS, *(_NEURON_FIELDS if layer.trainable else ()))
        fields = {name: _plain(getattr(layer, name)) for name in names if getattr(layer, name, None) is not None}
        if getattr(layer, "regularizer", None) is not None:
            fields["regularizer"] = describe_object(layer.regularizer)
        layers[layer.name] = {"kind": type(layer).__name__, **fields}
    return {"dtype": np.dtype(network.dtype).name, "layers": layers}


def describe_source(source):
    """Kind, size and checksum (labels and, where there are such, images or spike times) of the training samples."""
    digest = hashlib.sha256()
    for name in ("labels", "images", "times", "counts"):
        array = getattr(source, name, None)
        if array is not None:
            from bats.device import to_numpy

            array = np.ascontiguousarray(to_numpy(array))
            digest.update(f"{name} {array.dtype} {array.shape}".encode())
            digest.update(array.data)
    return {"kind": type(source).__name__, "samples": len(source), "sha256": digest.hexdigest()}


def _flatten(value, prefix=""):
    if isinstance(value, dict) and value:
        return {key: item for name, part in value.items() for key, item in _flatten(part, f"{prefix}{name}.").items()}
    return {prefix.rstrip("."): value}


def check_fingerprint(expected, received, origin):
    """Compares two nested dictionaries. Errors: ValueError that names every difference, expected and received."""
    expected, received = (_flatten(json.loads(json.dumps(part, default=str))) for part in (expected, received))
    lines = [
        f"  {name}: expected {expected.get(name, 'nothing')}, received {received.get(name, 'nothing')}"
        for name in sorted({*expected, *received})
        if expected.get(name, "nothing") != received.get(name, "nothing")
    ]
    if lines:
        raise ValueError("\n".join([f"{origin} belongs to another run (expected: this run; received: the checkpoint):", *lines]))
