"""The two ways spikes are held: spike trains (what a layer produces) and event lists (what a layer consumes).

Users see spike trains as times [batch, neuron, slot]. In memory they are [batch, slot, neuron]: most neurons spike once or
twice, so the first slots are dense and the rest is hardly touched, and neighbouring neurons are neighbours in memory.
"""

from dataclasses import dataclass

import numpy as np

from bats.device import is_cupy, to_numpy


@dataclass
class EventList:
    """Spikes of every sample in one list sorted by time, then neuron.

    times      [batch, capacity] float, ascending, seconds; entries at and after counts[b] are undefined
    neurons    [batch, capacity] int32, the neuron that spiked
    positions  [batch, capacity] int32, slot * n_neurons + neuron: where the spike stands in the trains [slot, neuron]
    counts     [batch] int32
    origin     shape (slots, neurons) of the trains that positions point into, if they are not the list's own: a pooled list
               renames its neurons, and its positions still say where the spikes came from (its order: time, then that neuron)
    """

    times: object
    neurons: object
    positions: object
    counts: object
    n_neurons: int
    n_slots: int
    origin: tuple | None = None

    @classmethod
    def allocate(cls, xp, batch, n_neurons, n_slots, dtype):
        capacity = max(1, n_neurons * n_slots)
        neurons = xp.zeros((batch, capacity), dtype=np.int32)
        # With one spike per neuron a position is the neuron itself: one array serves both.
        positions = neurons if n_slots == 1 else xp.zeros((batch, capacity), dtype=np.int32)
        times = xp.zeros((batch, capacity), dtype=dtype)
        return cls(times, neurons, positions, xp.zeros(batch, dtype=np.int32), n_neurons, n_slots)

    def first(self, batch):
        """The same list, restricted to its first `batch` samples (views)."""
        neurons = self.neurons[:batch]
        positions = neurons if self.positions is self.neurons else self.positions[:batch]
        return EventList(self.times[:batch], neurons, positions, self.counts[:batch], self.n_neurons, self.n_slots, self.origin)

    def after(self, first):
        """The same without its first `first` samples (views)."""
        neurons = self.neurons[first:]
        positions = neurons if self.positions is self.neurons else self.positions[first:]
        return EventList(self.times[first:], neurons, positions, self.counts[first:], self.n_neurons, self.n_slots, self.origin)

    @property
    def batch(self):
        return self.times.shape[0]

    @property
    def train_shape(self):
        """(slots, neurons) of the trains that positions point into: the shape of errors, without the batch."""
        return self.origin or (self.n_slots, self.n_neurons)


def check_spike_trains(times, counts, n_neurons):
    """Checks what a user hands to a network and returns it as NumPy or CuPy arrays, untouched.

    times [batch, n_neurons, slots] float, seconds, ascending along the slots, inf-padded; counts [batch, n_neurons] integer.
    Raises TypeError or ValueError naming what was expected and what came: wrong number of axes or neurons, counts that
    do not fit the slots, negative, NaN or unsorted times, a spike after an empty slot.
    """
    times = times if is_cupy(times) else np.asarray(times)
    counts = counts if is_cupy(counts) else np.asarray(counts)
    if times.ndim != 3:
        raise ValueError(f"spike times: expected shape [batch, neurons, slots], received shape {times.shape}")
    if times.dtype.kind != "f":
        raise TypeError(f"spike times: expected a floating-point array (seconds), received dtype {times.dtype}")
    if times.shape[1] != n_neurons:
        raise ValueError(f"spike times: expected {n_neurons} neurons on axis 1, received shape {times.shape}")
    if counts.shape != times.shape[:2]:
        raise ValueError(f"spike counts: expected shape {times.shape[:2]}, received {counts.shape}")
    if counts.dtype.kind not in "iu":
        raise TypeError(f"spike counts: expected an integer array, received dtype {counts.dtype}")
    host_times, host_counts = to_numpy(times), to_numpy(counts)
    n_slots = host_times.shape[2]
    if host_counts.size and (host_counts.min() < 0 or host_counts.max() > n_slots):
        raise ValueError(
            f"spike counts: expected values from 0 to {n_slots} (the slots of the times), "
            f"received {host_counts.min()} to {host_counts.max()}"
        )
    emitted = np.arange(n_slots) < host_counts[:, :, None]
    if not np.isfinite(host_times[emitted]).all():
        raise ValueError("spike times: expected finite times in the first counts[b, n] slots, received NaN or inf there")
    if (host_times[emitted] < 0).any():
        raise ValueError(f"spike times: expected times >= 0, received {host_times[emitted].min()}")
    if not np.isposinf(host_times[~emitted]).all():
        raise ValueError("spike times: expected inf in the empty slots, received a time after the first counts[b, n] slots")
    if n_slots > 1 and (host_times[:, :, 1:] < host_times[:, :, :-1]).any():
        b, n, k = (int(axis[0]) for axis in np.nonzero(host_times[:, :, 1:] < host_times[:, :, :-1]))
        raise ValueError(
            f"spike times: expected ascending times per neuron, received {host_times[b, n, k]} "
            f"before {host_times[b, n, k + 1]} (sample {b}, neuron {n})"
        )
    return times, counts
