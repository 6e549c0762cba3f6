"""The layer that holds the spikes a user gives."""

import numpy as np

from bats import ops
from bats.device import is_cupy, to_numpy
from bats.discretization import check_grid
from bats.layers.base import Layer
from bats.spikes import EventList, check_spike_trains


class InputLayer(Layer):
    """Input neurons: they emit the spike trains they are given.

    n_neurons: number of inputs; name: used in files, plots and messages; grid: a bats.TimeGrid to which the times that
    Network.forward is given are rounded (spikes that share a bin then add up), or None. Sources have a grid of their own.
    """

    def __init__(self, n_neurons, name="input", *, grid=None):
        super().__init__(None, n_neurons, name)
        self.max_n_spike = 1
        self.grid = check_grid(grid)
        self.events = None
        self._capacity = (0, 0)
        self._buffer = None

    def attach(self, xp, dtype, generator):
        self.xp, self.dtype = xp, dtype

    def check(self, spike_times, n_spikes):
        """What a user hands to Network.forward, checked and on a device that the layer can read: (times, counts)."""
        times, counts = check_spike_trains(spike_times, n_spikes, self.n_neurons)
        if self.xp is np and is_cupy(times):
            times, counts = times.get(), counts.get() if is_cupy(counts) else counts
        return times, counts

    def check_source(self, source):
        """Raises ValueError if a source does not fit the layer."""
        if source.n_neurons != self.n_neurons:
            raise ValueError(f"source: expected {self.n_neurons} inputs, as the network has, received {source.n_neurons}")

    def load(self, times, counts):
        """Takes checked spike trains [batch, n_neurons, slots], [batch, n_neurons] and sorts them into an event list."""
        batch, _, n_slots = times.shape
        n_slots = max(1, n_slots)
        if self.grid is not None:
            times = self.grid.discretize(to_numpy(times), self.dtype)
        if batch > self._capacity[0] or n_slots != self._capacity[1]:
            self._buffer = InputBuffer(self.xp, batch, self.n_neurons, n_slots, self.dtype)
            self._capacity = (batch, n_slots)
        self.max_n_spike = n_slots
        buffer_times, buffer_counts = self._buffer.times[:batch], self._buffer.counts[:batch]
        if times.shape[2]:
            buffer_times[...] = self.xp.asarray(times, dtype=self.dtype).transpose(0, 2, 1)
        else:
            buffer_times[...] = np.inf
        buffer_counts[...] = self.xp.asarray(counts, dtype=np.int32)
        self.events = self._buffer.sort(batch)

    @property
    def spike_trains(self):
        """(times [batch, n_neurons, slots] inf-padded, counts [batch, n_neurons]) of the last forward pass, as new arrays."""
        if self.events is None:
            raise RuntimeError(f"layer {self.name!r}: no spike trains yet, run network.forward first")
        events = self.events
        batch = events.batch
        times = np.full((batch, self.n_neurons * events.n_slots), np.inf, dtype=self.dtype)
        counts = np.zeros((batch, self.n_neurons), dtype=np.int32)
        list_times, positions, n_events = to_numpy(events.times), to_numpy(events.positions), to_numpy(events.counts)
        for b in range(batch):
            own = positions[b, : n_events[b]]
            times[b, own] = list_times[b, : n_events[b]]
            np.add.at(counts[b], own % self.n_neurons, 1)
        times = times.reshape(batch, events.n_slots, self.n_neurons).transpose(0, 2, 1)
        return self.xp.asarray(times), self.xp.asarray(counts)


class InputBuffer:
    """Spike trains of a batch and the event list they are sorted into; allocated once."""

    def __init__(self, xp, batch, n_neurons, n_slots, dtype):
        self.times = xp.full((batch, n_slots, n_neurons), np.inf, dtype=dtype)
        self.counts = xp.zeros((batch, n_neurons), dtype=np.int32)
        self.events = EventList.allocate(xp, batch, n_neurons, n_slots, dtype)
        self._scratch = ops.sort_scratch(self.events)

    def sort(self, batch):
        events = self.events.first(batch)
        ops.sort_events(self.times[:batch], self.counts[:batch], events, _first(self._scratch, batch))
        return events


def _first(scratch, batch):
    return None if scratch is None else tuple(array[:batch] for array in scratch)
