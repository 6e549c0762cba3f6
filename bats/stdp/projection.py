"""What a neuron has learned, seen in the image: its weights, projected back through the layers and filters before it.

A neuron's picture is the sum of the pictures of its inputs, each moved to where that input looks and weighted; the picture
of an encoding channel is its filter. Pooling hands the picture on to every neuron of the square alike, as their mean.
"""

import numpy as np

from bats.device import to_numpy


def project(weights, pictures, stride):
    """Pictures of the layer above: float64 [F, h + (kh - 1) stride, w + (kw - 1) stride].

    weights [F, C, kh, kw]; pictures [C, h, w] of the layer's inputs; stride: pixels between neighbouring inputs.
    """
    weights, pictures = np.asarray(weights, dtype=np.float64), np.asarray(pictures, dtype=np.float64)
    n_features, _, rows, columns = weights.shape
    height, width = pictures.shape[1:]
    out = np.zeros((n_features, height + (rows - 1) * stride, width + (columns - 1) * stride))
    for i in range(rows):
        for j in range(columns):
            top, left = i * stride, j * stride
            out[:, top : top + height, left : left + width] += np.tensordot(weights[:, :, i, j], pictures, 1)
    return out


def pooled(pictures, window, stride):
    """Pictures of neurons that take the first spike of window x window neurons, `stride` pixels apart."""
    n_maps = len(pictures)
    mean = np.zeros((n_maps, n_maps, window, window))
    mean[np.arange(n_maps), np.arange(n_maps)] = 1 / window**2
    return project(mean, pictures, stride)


def filter_pictures(bank):
    """The filters of a FilterBank, centred in its largest window: float64 [C, window, window], each scaled to |values| <= 1."""
    pictures = np.zeros((len(bank), bank.window, bank.window))
    for picture, kernel in zip(pictures, bank.kernels, strict=True):
        border = (bank.window - len(kernel)) // 2
        picture[border : border + len(kernel), border : border + len(kernel)] = kernel / np.abs(kernel).max()
    return pictures


def learned_features(model, bank):
    """{layer name: pictures float64 [F, h, w]} of all layers of a LayeredModel whose input was encoded with `bank`.

    Branches of a stage are projected on their own and joined, centred, for the layer above. A skip connection is left out.
    Of a decision layer's neuron, what differs from its mean weight is shown: the same weight everywhere shows nothing.
    """
    inputs, stride, found = filter_pictures(bank), 1, {}
    for stage in model.stages:
        branches = {name: project(to_numpy(layer.weights), inputs, stride) for name, layer in stage.layers.items()}
        found.update(branches)
        inputs = pooled(_side_by_side(list(branches.values())), stage.window, stride)
        stride *= stage.window
    for name, layer in model.readout.pretraining.items():
        found[name] = project(to_numpy(layer.weights), inputs, stride)
        inputs, stride = pooled(found[name], model.readout.window, stride), stride * model.readout.window
    for name, layer in model.readout.decision_layers.items():
        weights = to_numpy(layer.weights)
        found[name] = project(weights - weights.mean(axis=(1, 2, 3), keepdims=True), inputs, stride)
    return found


def _side_by_side(groups):
    size = max(group.shape[-1] for group in groups)
    borders = [(size - group.shape[-1]) // 2 for group in groups]
    return np.concatenate([np.pad(group, ((0, 0), (b, b), (b, b))) for group, b in zip(groups, borders, strict=True)])
