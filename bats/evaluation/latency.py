"""Latency: what the answer would be if it were read at time t, and when it is final."""

import numpy as np

from bats.device import to_numpy

_CELLS = 8_000_000  # counts held at once


def decisions(rule, times, counts):
    """The prediction after every output spike.

    rule "most_spikes" or "first_spike"; times [batch, n_neurons, slots] ascending, inf-padded, in seconds; counts [batch, n_neurons]
    -> (times [batch, E] of all output spikes in order, inf-padded; predictions [batch, E], those after each of these times).

    As losses.predict: the most spikes win, ties go to the neuron that spiked first, then to the lower index; a prediction counts
    all spikes of its time. Raises ValueError for another rule.
    """
    if rule not in ("most_spikes", "first_spike"):
        raise ValueError(f"rule: expected most_spikes or first_spike, received {rule!r}")
    batch, n_neurons, n_slots = times.shape
    emitted = np.arange(n_slots) < counts[:, :, None]
    flat = np.where(emitted, times, np.inf).reshape(batch, n_neurons * n_slots)
    order = np.argsort(flat, axis=1, kind="stable")  # by time, then neuron
    flat = np.take_along_axis(flat, order, axis=1)
    neurons = order // n_slots
    n_events = int(emitted.sum(axis=(1, 2)).max(initial=0))
    flat, neurons = flat[:, :n_events], neurons[:, :n_events]
    predictions = np.empty((batch, n_events), dtype=np.int32)
    first = np.where(counts > 0, times[:, :, 0], np.inf)
    if rule == "first_spike":
        predictions[...] = np.argmin(first, axis=1)[:, None]
        return flat, predictions
    size = max(1, _CELLS // max(1, n_events * n_neurons))
    for start in range(0, batch, size):
        part = slice(start, start + size)
        predictions[part] = _most_spikes(neurons[part], np.isfinite(flat[part]), first[part])
    for event in range(n_events - 2, -1, -1):  # spikes of one time count together
        tied = flat[:, event] == flat[:, event + 1]
        predictions[tied, event] = predictions[tied, event + 1]
    return flat, predictions


def _most_spikes(neurons, real, first):
    counts = np.zeros((*neurons.shape, first.shape[1]), dtype=np.int32)
    np.put_along_axis(counts, neurons[:, :, None], real[:, :, None].astype(np.int32), axis=2)
    np.cumsum(counts, axis=1, out=counts)
    leading = counts == counts.max(axis=2, keepdims=True)
    return np.argmin(np.where(leading, first[:, None, :], np.inf), axis=2)


def decision_times(times, predictions):
    """Output of decisions() -> [batch] seconds: the time from which the prediction stays what it is at the end; inf for silent samples."""
    batch, n_events = times.shape
    final = np.full(batch, np.inf)
    if n_events == 0:
        return final
    real = np.isfinite(times)
    last = np.maximum(real.sum(axis=1) - 1, 0)
    at_end = predictions[np.arange(batch), last]
    same = (predictions == at_end[:, None]) | ~real
    stays = np.logical_and.accumulate(same[:, ::-1], axis=1)[:, ::-1]
    spoke = real[:, 0]
    final[spoke] = times[np.arange(batch), np.argmax(stays, axis=1)][spoke]
    return final


class LatencyCurve:
    """Accuracy against the time of reading, gathered batch by batch.

    rule: read-out of a loss (loss.rule); times [n] ascending: when the answer is read, in seconds.
    """

    def __init__(self, rule, times):
        self.rule, self.times = rule, np.asarray(times, dtype=np.float64)
        self._correct = np.zeros(len(self.times), dtype=np.int64)
        self._spoke = np.zeros(len(self.times), dtype=np.int64)
        self._final = []

    def add(self, times, counts, labels):
        """times [batch, n_neurons, slots], counts [batch, n_neurons] of the output layer (NumPy or CuPy), labels [batch]."""
        times, counts, labels = to_numpy(times).astype(np.float64), to_numpy(counts), np.asarray(labels)
        at, predictions = decisions(self.rule, times, counts)
        self._final.append(decision_times(at, predictions))
        for n, time in enumerate(self.times):
            seen = (at <= time).sum(axis=1)  # spikes up to then
            spoke = seen > 0
            answer = predictions[spoke, seen[spoke] - 1]
            self._spoke[n] += spoke.sum()
            self._correct[n] += (answer == labels[spoke]).sum()

    @property
    def decision_times(self):
        """[samples] seconds, inf for silent samples."""
        return np.concatenate(self._final) if self._final else np.zeros(0)

    @property
    def accuracy(self):
        """[n] fraction of all samples that are answered right at each of the times."""
        return self._correct / max(1, len(self.decision_times))

    @property
    def answered(self):
        """[n] fraction of samples with any output spike by then."""
        return self._spoke / max(1, len(self.decision_times))
