"""Pooling: several neurons of a grid become one that emits all their spikes."""

import numpy as np

from bats import ops
from bats.device import to_numpy
from bats.layers.base import Layer, grid_before
from bats.ops.conv_geometry import pair, pool
from bats.spikes import EventList


class PoolingLayer(Layer):
    """Merges the spike trains of each window and channel into one train (Bacho & Chu, arXiv 2212.09500; docs/theory.md, section 7).

    previous_layer: a layer with a grid (ConvInputLayer, ConvLIFLayer, PoolingLayer), or None if the layers are given to Network in order
    window: an integer or one for each axis; stride: the same, at least the window (windows do not overlap); default, the window

    Rows and columns that fill no window are left out: their spikes go no further and their errors are exactly 0. A train
    holds up to max_n_spike = window size times that of the previous layer. Nothing is computed here: the next layer reads
    the previous layer's sorted spikes under new names, and its errors go straight to the spikes they came from.
    Raises TypeError or ValueError for wrong parameters, a window larger than the grid, a previous layer without a grid.
    """

    instead_last = "a last layer with weights"

    def __init__(self, previous_layer=None, name="", *, window=2, stride=None):
        super().__init__(previous_layer, 1, name)
        self.window = pair("window", window, 1)
        self.stride = self.window if stride is None else pair("stride", stride, 1)
        self.n_neurons = self.geometry = self._events = None
        self._room = None
        self._rows = 0  # samples that there is room for
        self.generation = 0  # how often the workspace was replaced
        if previous_layer is not None and previous_layer.neurons_shape is not None:
            self._connect()

    def _connect(self):
        """Works out the layer's own grid from that of the layer before."""
        self.geometry = pool(grid_before(self), self.window, self.stride)
        self.neurons_shape = self.geometry.post_shape
        self.n_neurons = self.geometry.n_post
        before = self.previous_layer
        self._leaves_out = not self.geometry.covers_all or (isinstance(before, PoolingLayer) and before._leaves_out)

    def attach(self, xp, dtype, generator):
        """Gives the layer its device and dtype."""
        self._connect()
        self.xp, self.dtype = xp, dtype

    @property
    def max_n_spike(self):
        return self.previous_layer.max_n_spike * self.window[0] * self.window[1]

    @property
    def events(self):
        """The pooled spikes of the last forward pass; their positions point into the trains of the layer that emitted them."""
        return self._events

    @property
    def spike_trains(self):
        """(times [batch, n_neurons, max_n_spike] inf-padded, counts [batch, n_neurons]) of the last forward pass, as new arrays."""
        if self._events is None:
            raise RuntimeError(f"layer {self.name!r}: no spike trains yet, run network.forward first")
        events = self._events
        times = np.full((events.batch, self.n_neurons, events.n_slots), np.inf, dtype=self.dtype)
        counts = np.zeros((events.batch, self.n_neurons), dtype=np.int32)
        list_times, neurons, n_events = (to_numpy(array) for array in (events.times, events.neurons, events.counts))
        for b, n in enumerate(n_events):
            own = neurons[b, :n]
            counts[b] = np.bincount(own, minlength=self.n_neurons)
            by_neuron = np.argsort(own, kind="stable")
            slots = np.arange(n) - np.repeat(np.cumsum(counts[b]) - counts[b], counts[b])
            times[b, own[by_neuron], slots] = list_times[b, by_neuron]
        return self.xp.asarray(times), self.xp.asarray(counts)

    # ------------------------------------------------------------------------------------------------------------------
    def allocate(self, batch):
        """Notes that batches of up to `batch` samples will come; what they need depends on the slots of the spikes."""
        self._rows = max(self._rows, batch)

    def use(self, batch):
        """Says how many samples the next passes have."""
        if self._room is not None and batch <= self._room.batch:
            self._events = self._room.first(batch)

    def forward(self, events, t_max, sort=True):
        """Renames the events; returns the pooled list."""
        self._make_room(events.batch, events.n_slots, events.train_shape)
        ops.pool_events(events, self.geometry, self._events)
        return self._events

    def sorts(self):
        """Whether forward_trains can take the place of the previous layer's sort and forward()."""
        before = self.previous_layer
        if self.xp is np or not before.trainable:
            return False
        return ops.fits_buckets(before.n_neurons * before.max_n_spike, self.dtype)

    def forward_trains(self, times, counts, t_max, following):
        """Sorts and pools the spike trains of the previous layer, as they lie in memory, in one launch; returns the pooled list.
        following: the next layer, which may have use for more."""
        batch, n_slots, n_neurons = times.shape
        self._make_room(batch, n_slots, (n_slots, n_neurons))
        behind = following.prepare(self._events, t_max) if hasattr(following, "prepare") else None
        ops.bucket_sort(times, counts, self.geometry, self._events, behind, self.previous_layer.spike_list)
        return self._events

    def _make_room(self, batch, n_slots, train_shape):
        n_slots *= self.window[0] * self.window[1]
        if self._room is None or self._room.n_slots != n_slots or self._room.batch < self._rows:
            self._room = EventList.allocate(self.xp, max(self._rows, batch), self.n_neurons, n_slots, self.dtype)
            self._room.positions = self.xp.zeros_like(self._room.neurons)
            self.generation += 1
        self._room.origin = train_shape
        self._events = self._room.first(batch)

    def clear_left_out(self, errors):
        """Sets errors to 0 if there are spikes that no later layer sees; called before those that are seen get theirs."""
        if self._leaves_out:
            errors.fill(0)
