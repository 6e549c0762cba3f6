"""Losses: values, errors dL/dt per output spike, and read-outs (Bacho & Chu 2023; docs/theory.md, section 4).

A sample whose outputs are all silent is predicted as -1: it is never right. Ties go to the neuron that spiked first.
"""

import numpy as np

from bats import ops
from bats.device import is_cupy, to_numpy
from bats.layers.base import positive


class Loss:
    """Common part: checks, outputs, prediction. `rule` names the read-out."""

    rule = None
    name = ""

    def predict(self, times, counts):
        """times [batch, n_neurons, slots], counts [batch, n_neurons] -> classes [batch] int32, -1 for a silent sample."""
        xp, times, counts = _arrays(times, counts)
        predictions = xp.empty(times.shape[0], dtype=np.int32)
        ops.predict(self.rule, times, counts, predictions)
        return predictions

    def compute_loss_and_errors(self, times, counts, labels_or_targets):
        """(loss [batch], errors [batch, n_neurons, slots] = dL/dt of each spike, 0 in empty slots)."""
        xp, times, counts = _arrays(times, counts)
        wanted = self._check_wanted(xp, labels_or_targets, times)
        loss = xp.empty(times.shape[0], dtype=times.dtype)
        errors = xp.empty(times.shape, dtype=times.dtype)
        self.launch(times, counts, wanted, loss, errors)
        return loss, errors.transpose(0, 2, 1)

    def compute_loss(self, times, counts, labels_or_targets):
        """loss [batch]."""
        return self.compute_loss_and_errors(times, counts, labels_or_targets)[0]

    def compute_errors(self, times, counts, labels_or_targets):
        """errors [batch, n_neurons, slots]."""
        return self.compute_loss_and_errors(times, counts, labels_or_targets)[1]

    def step(self, times, counts, labels, loss, errors, predictions, totals, ticket):
        """Everything between the forward and the backward pass of a step, on arrays as they lie in memory: loss [B] and errors [B, K, N]
        as from launch, predictions [B], what a batch adds to totals [4]. ticket: uint32 [1], 0, for kernels that count their blocks."""
        self.launch(times, counts, labels, loss, errors)
        ops.predict(self.rule, times, counts, predictions)
        ops.accumulate_metrics(loss, predictions, counts, labels, totals)

    def _check_wanted(self, xp, labels, times):
        return check_labels(xp, labels, times.shape[0], times.shape[2])

    def describe(self):
        """Name and parameters, for a run's configuration."""
        return {"loss": type(self).__name__, **vars(self)}


class SpikeCountClassLoss(Loss):
    """1/2 sum_i (target_i - n_i)^2 with target_true for the label's neuron, target_false for the others (spike counts).

    The error of every emitted spike is target - n: the surrogate dn/dt = -1. Labels [batch], integers from 0.
    """

    rule = "most_spikes"

    def __init__(self, target_true, target_false):
        self.target_true = positive("target_true", target_true, zero_allowed=True)
        self.target_false = positive("target_false", target_false, zero_allowed=True)

    def launch(self, times, counts, labels, loss, errors):
        ops.spike_count_class_loss(times, counts, labels, self.target_true, self.target_false, loss, errors)

    def step(self, times, counts, labels, loss, errors, predictions, totals, ticket):
        if not is_cupy(times):
            super().step(times, counts, labels, loss, errors, predictions, totals, ticket)
            return
        targets = self.target_true, self.target_false
        ops.spike_count_class_step(times, counts, labels, *targets, loss, errors, predictions, totals, ticket)


class SpikeCountLoss(Loss):
    """1/2 sum_i (target_i - n_i)^2 for targets [batch, n_neurons] given with every call (spike counts)."""

    rule = "most_spikes"

    def _check_wanted(self, xp, targets, times):
        return _check_targets(xp, targets, times)

    def launch(self, times, counts, targets, loss, errors):
        ops.spike_count_loss(times, counts, targets, loss, errors)


class TTFSSoftmaxCrossEntropy(Loss):
    """-ln softmax(-t / tau)[label] on the first spikes t; tau in seconds. Labels [batch], integers from 0.

    A silent neuron has probability 0 and gets no error. If the label's neuron is silent the loss is the constant `silent_loss`
    and no neuron gets an error: pushing the others later, as the softmax alone would, ends with all of them silent
    (docs/theory.md, section 6).
    """

    rule = "first_spike"

    def __init__(self, tau, silent_loss=100.0):
        self.tau = positive("tau", tau)
        self.silent_loss = positive("silent_loss", silent_loss, zero_allowed=True)

    def launch(self, times, counts, labels, loss, errors):
        ops.ttfs_softmax_cross_entropy(times, counts, labels, self.tau, self.silent_loss, loss, errors)


class SpikeTimeLoss(Loss):
    """1/2 sum_i (t_i - t*_i)^2 on first spikes for targets t* [batch, n_neurons] in seconds given with every call.

    A neuron that is silent, or whose target is inf, adds nothing.
    """

    rule = "first_spike"

    def _check_wanted(self, xp, targets, times):
        return _check_targets(xp, targets, times)

    def launch(self, times, counts, targets, loss, errors):
        ops.spike_time_loss(times, counts, targets, loss, errors)


# ----------------------------------------------------------------------------------------------------------------------
def _arrays(times, counts):
    """(array module, times as [batch, slots, n_neurons], counts), checked; NumPy or CuPy by where the times are."""
    if is_cupy(times):
        import cupy as xp
    else:
        xp, times = np, np.asarray(times)
    if times.ndim != 3:
        raise ValueError(f"output times: expected shape [batch, neurons, slots], received {times.shape}")
    if times.dtype not in (np.float32, np.float64):
        raise TypeError(f"output times: expected float32 or float64, received {times.dtype}")
    counts = xp.asarray(counts)
    if counts.shape != times.shape[:2] or counts.dtype.kind not in "iu":
        raise ValueError(f"output counts: expected integers of shape {times.shape[:2]}, received {counts.dtype} {counts.shape}")
    return xp, xp.ascontiguousarray(times.transpose(0, 2, 1)), xp.ascontiguousarray(counts, dtype=np.int32)


def check_labels(xp, labels, batch, n_classes):
    """labels as int32 [batch]; raises TypeError or ValueError if they are no integers from 0 to n_classes - 1."""
    host = to_numpy(labels) if is_cupy(labels) else np.asarray(labels)
    if host.shape != (batch,):
        raise ValueError(f"labels: expected shape ({batch},), received {host.shape}")
    if host.dtype.kind not in "iu" and host.size:
        raise TypeError(f"labels: expected integers, received dtype {host.dtype}")
    if host.size and (host.min() < 0 or host.max() >= n_classes):
        raise ValueError(f"labels: expected classes from 0 to {n_classes - 1}, received {host.min()} to {host.max()}")
    return xp.asarray(host.astype(np.int32))


def _check_targets(xp, targets, times):
    targets = xp.ascontiguousarray(xp.asarray(targets, dtype=times.dtype))
    shape = (times.shape[0], times.shape[2])
    if targets.shape != shape:
        raise ValueError(f"targets: expected shape {shape}, received {targets.shape}")
    return targets
