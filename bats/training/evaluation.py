"""Evaluation: one pass over a source, the same weights under another read-out, confusion matrix, one sample's spikes.

A read-out is a loss with its predict(), together with the limits it was made for. A network trained to its first
spikes (max_n_spike = 1) has no spike counts to compare: to evaluate it with the count read-out, build a second network
of the same architecture with the max_n_spike and max_simulation of the count model, and copy the weights into it with
copy_weights().
"""

import numpy as np

from bats.device import to_numpy


def evaluate_step(step, batch_size, check=None, predictions=None, observe=None):
    """Metrics of every sample of the step's source, in order; no weight changes.

    `check()` is called between batches, or several that run together; each batch's predictions (np.int32) are appended to
    the list `predictions`; `observe()` is called after each batch, while the network still holds its spikes.
    """
    steps = step.steps_at_once if predictions is None and observe is None else 1
    step.reset_metrics()
    step.start(np.arange(len(step.source)))
    while True:
        if check is not None:
            check()
        if not step.evaluate_next(batch_size, steps=steps):
            break
        if predictions is not None:
            predictions.append(np.array(step.predictions, dtype=np.int32))
        if observe is not None:
            observe()
    return step.metrics()


def evaluate_readout(network, loss, source, batch_size, max_simulation, observe=None, fused=False):
    """Metrics of `network` under the read-out `loss`: Step.metrics() plus "predictions", np.int32 [n], -1 = silent.

    max_simulation in seconds; observe() is called after each batch and may look at the spikes of the layers; fused: as of
    bats.step.Step, a fused step leaves no spikes. Errors: ValueError for an empty source, for observe with a fused step.
    """
    from bats.step import Step

    if not len(source):
        raise ValueError("expected a source with at least 1 sample, received an empty one")
    if observe is not None and fused:
        raise ValueError(f"fused: expected False with observe, which needs the spikes of the layers, received {fused!r}")
    predictions = []
    step = Step(network, loss, source, min(batch_size, len(source)), max_simulation, fused=fused)
    metrics = evaluate_step(step, step.batch_size, predictions=predictions, observe=observe)
    return {**metrics, "predictions": np.concatenate(predictions)}


def network_weights(network):
    """{layer name: NumPy copy of its weights} of the layers that have any; other parameters as <layer name>.<parameter>."""
    return {name: to_numpy(array) for name, (_, _, array) in _parameters(network).items()}


def _parameters(network):
    """{name in files: (layer, attribute, array)} of everything that an optimizer changes."""
    found = {}
    for layer in network.layers:
        weights = getattr(layer, "weights", None)
        parameters = getattr(layer, "parameters", {} if weights is None else {"weights": weights})
        for attribute, array in parameters.items():
            found[layer.name if attribute == "weights" else f"{layer.name}.{attribute}"] = (layer, attribute, array)
    return found


def copy_weights(origin, target):
    """Copies the weights of `origin` into `target`, layer by layer name.

    Errors: ValueError naming the layers or shapes that do not agree.
    """
    shapes = [{name: array.shape for name, array in network_weights(network).items()} for network in (origin, target)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"networks differ: expected layers {shapes[1]}, received {shapes[0]}")
    load_weights(target, network_weights(origin))


def load_weights(network, weights):
    """Sets the parameters named in `weights`, a dictionary as network_weights() gives it."""
    for name, (layer, attribute, _) in _parameters(network).items():
        if name in weights:
            setattr(layer, attribute, weights[name])


def confusion(labels, predictions, n_classes):
    """Counts [label, prediction], int64 [n_classes, n_classes]; one more column for silent samples if there are any."""
    from sklearn.metrics import confusion_matrix

    if len(labels) != len(predictions):
        raise ValueError(f"expected one prediction for each of {len(labels)} labels, received {len(predictions)}")
    matrix = confusion_matrix(labels, predictions, labels=[*range(n_classes), -1])
    return matrix[:n_classes] if matrix[:, -1].any() else matrix[:n_classes, :n_classes]


def sample_spikes(network, loss, source, index, max_simulation):
    """Spikes of sample `index` in every layer: ([(layer name, times [N, K] in seconds, counts [N])], prediction)."""
    from bats.step import Step

    step = Step(network, loss, source, 1, max_simulation)
    step.evaluate(np.array([index]))
    prediction = int(step.predictions[0])
    trains = []
    for layer in network.layers:
        times, counts = layer.spike_trains
        trains.append((layer.name, to_numpy(times[0]), to_numpy(counts[0])))
    return trains, prediction
