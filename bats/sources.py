"""Sources: samples that stay on the device and turn into the event list of any batch of indices."""

from types import SimpleNamespace

import numpy as np

from bats import ops
from bats.device import array_module, check_dtype, resolve
from bats.discretization import check_grid
from bats.layers.base import positive
from bats.layers.input import InputBuffer
from bats.losses import check_labels
from bats.spikes import EventList, check_spike_trains


class Source:
    """Common part: labels, and the resident copy that `to` makes."""

    def __init__(self, labels, n_samples, n_classes):
        labels = np.asarray(labels)
        if n_classes is None:
            n_classes = int(labels.max()) + 1 if labels.size else 1
        self.labels = check_labels(np, labels, n_samples, n_classes)
        self.n_classes = n_classes

    def __len__(self):
        return len(self.labels)

    def subset(self, indices):
        """The same source with only these samples, in this order."""
        raise NotImplementedError


class LatencyImages(Source):
    """Images, one spike per pixel: at t_max (1 - p / 255) for value p > 0, none for p = 0 (seconds).

    images [n, ...] uint8; labels [n] integers from 0; n_classes: default, the largest label + 1; grid: a bats.TimeGrid to which
    the times are rounded, or None.
    Raises TypeError or ValueError for other dtypes, shapes, labels.
    """

    def __init__(self, images, labels, t_max=0.1, n_classes=None, *, grid=None):
        images = np.asarray(images)
        if images.dtype != np.uint8:
            raise TypeError(f"images: expected dtype uint8 (0 to 255), received {images.dtype}")
        if images.ndim < 2:
            raise ValueError(f"images: expected shape [n, height, width] or [n, pixels], received {images.shape}")
        self.images = np.ascontiguousarray(images.reshape(len(images), -1))
        self.n_neurons = self.images.shape[1]
        self.n_slots = 1
        self.t_max = positive("t_max", t_max)
        self.grid = check_grid(grid)
        super().__init__(labels, len(images), n_classes)

    def subset(self, indices):
        return LatencyImages(self.images[indices], self.labels[indices], self.t_max, self.n_classes, grid=self.grid)

    def to(self, device, dtype):
        """Copy on a device, able to encode batches."""
        xp, dtype = array_module(resolve(device)), check_dtype(dtype)
        latencies = self.t_max * (1 - np.arange(256) / 255)
        return Resident(xp, dtype, self, lambda r: self._keep(r, latencies), _encode_images)

    def _keep(self, resident, latencies):
        images = resident.xp.asarray(self.images)
        if self.grid is not None:
            # Pixels that share a bin take one value, so that the encoder, which sorts by value, leaves equal times sorted by neuron.
            latencies = self.grid.discretize(latencies, resident.dtype)
            bins = self.grid.bins(self.t_max * (1 - np.arange(256) / 255))
            representatives = np.array([0, *(1 + np.argmax(bins[1:] == own) for own in bins[1:])], dtype=np.uint8)
            images = resident.xp.asarray(representatives)[images]
        resident.images = images
        resident.latencies = resident.xp.asarray(latencies.astype(resident.dtype))


class SpikeSamples(Source):
    """Spike trains: times [n, n_neurons, slots] float, seconds, ascending, inf-padded; counts [n, n_neurons]; labels [n];
    grid: a bats.TimeGrid to which the times are rounded (spikes that share a bin then add up), or None."""

    def __init__(self, times, counts, labels, n_classes=None, *, grid=None):
        times = np.asarray(times)
        if times.ndim != 3:
            raise ValueError(f"spike times: expected shape [n, neurons, slots], received {times.shape}")
        self.times, counts = check_spike_trains(times, counts, times.shape[1])
        self.grid = check_grid(grid)
        self.counts = np.ascontiguousarray(counts, dtype=np.int32)
        self.n_neurons, self.n_slots = times.shape[1:]
        super().__init__(labels, len(times), n_classes)

    def subset(self, indices):
        return SpikeSamples(self.times[indices], self.counts[indices], self.labels[indices], self.n_classes, grid=self.grid)

    def to(self, device, dtype):
        """Copy on a device, able to make batches."""
        return Resident(array_module(resolve(device)), check_dtype(dtype), self, self._keep, _gather_trains)

    def _keep(self, resident):
        times = self.times if self.grid is None else self.grid.discretize(self.times, resident.dtype)
        resident.times = resident.xp.asarray(np.ascontiguousarray(times.transpose(0, 2, 1), dtype=resident.dtype))
        resident.counts = resident.xp.asarray(self.counts)


class Resident:
    """A source on its device. allocate(batch) makes the room that load fills."""

    def __init__(self, xp, dtype, source, keep, fill):
        self.xp, self.dtype = xp, dtype
        self.n_neurons, self.n_slots, self.n_classes = source.n_neurons, source.n_slots, source.n_classes
        self.labels = xp.asarray(source.labels)
        self._length = len(source)
        self._fill = fill
        keep(self)

    def __len__(self):
        return self._length

    def begin_epoch(self, epoch):
        """Called by the Trainer before epoch `epoch` (from 0); sources that vary from epoch to epoch take note."""

    def allocate(self, batch):
        """A place for batches of up to `batch` samples."""
        xp = self.xp
        place = SimpleNamespace(indices=xp.zeros(batch, dtype=np.int32), labels=xp.zeros(batch, dtype=np.int32))
        if self._fill is _encode_images:
            place.events = EventList.allocate(xp, batch, self.n_neurons, 1, self.dtype)
            place.scratch = np.zeros((batch, 257), dtype=np.int32) if xp is np else None
            place.ticket = None if xp is np else xp.zeros(1, dtype=np.uint32)
            place.prepare = None  # f(events): what the network's first layer wants to know of the events, for ops.encode_next
        else:
            place.buffer = InputBuffer(xp, batch, self.n_neurons, self.n_slots, self.dtype)
            place.events = place.buffer.events
        return place

    def load(self, order, cursor, batch, place):
        """The next `batch` samples of order from cursor on -> (their event list, their labels), in the arrays of `place`.

        order int32, cursor [1] int64 (moved on): arrays on the source's device.
        """
        indices, labels = place.indices[:batch], place.labels[:batch]
        if self._fill is _encode_images and place.ticket is not None:
            events = place.events.first(batch)
            behind = None if place.prepare is None else place.prepare(events)
            ops.encode_next(self.images, order, cursor, self.labels, indices, labels, self.latencies, events, place.ticket, behind)
            return events, labels
        ops.next_batch(order, cursor, self.labels, indices, labels, self.dtype)
        return self._fill(self, indices, place), labels


def _encode_images(resident, indices, place):
    events = place.events.first(len(indices))
    scratch = None if place.scratch is None else place.scratch[: len(indices)]
    ops.encode_latency(resident.images, indices, resident.latencies, events, scratch)
    return events


def _gather_trains(resident, indices, place):
    batch = len(indices)
    buffer = place.buffer
    ops.gather_spike_trains(resident.times, resident.counts, indices, buffer.times[:batch], buffer.counts[:batch])
    return buffer.sort(batch)
