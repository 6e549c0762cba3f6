"""Sources of waves: images as one latency per pixel and event recordings as lists, dense only in the batch at work.

Dense, Fashion-MNIST would be 18.8 GB and N-MNIST 83 GB; here they are 47 MB and 4 bytes per event.
"""

from types import SimpleNamespace

import numpy as np

from bats import ops
from bats.cpu.densify import sort_cells
from bats.data.events import Events
from bats.device import array_module, check_dtype, resolve
from bats.layers.base import positive
from bats.ops.densify import NEVER
from bats.sources import Resident, Source
from bats.timestep.input import LARGEST
from bats.timestep.spike_trains import count
from bats.timestep.waves import Waves


def fashion_latency_bins(n_steps=100, dt=0.001, tau=20.0, theta=0.2):
    """Table [256] uint8: the step in which a pixel of each value spikes, 255 for never (FastSNN, arXiv 2205.15286).

    A leaky neuron (time constant tau) charged by a constant input x reaches theta after tau ln(x / (x - theta)). As in the
    released code x is the raw value, 0 to 255, and the result is taken for seconds: step = round(tau ln(x / (x - theta)) / dt),
    about 4 / (x dt); pixels that come later than n_steps (at dt = 1 ms, 100 steps: those up to 40) never spike.
    n_steps: 1 to 255; dt: seconds. Raises TypeError or ValueError for other numbers.
    """
    if count("n_steps", n_steps) > NEVER:
        raise ValueError(f"n_steps: expected at most {NEVER}, as a latency is one byte, received {n_steps}")
    tau, theta, dt = positive("tau", tau), positive("theta", theta), positive("dt", dt)
    values = np.arange(256, dtype=np.float64)
    table = np.full(256, NEVER, dtype=np.uint8)
    reached = np.flatnonzero(values > theta)
    steps = np.round(tau * np.log(values[reached] / (values[reached] - theta)) * 1000 / (1000 * dt))
    in_time = steps < n_steps
    table[reached[in_time]] = steps[in_time]
    return table


class LatencyBins(Source):
    """Images, at most one spike per pixel, in the step that a table gives for the pixel's value.

    images [n, ...] uint8; labels [n] integers from 0; n_steps: steps of a sample, 1 to 255; table [256] uint8: the step of
    each value, those from n_steps on never spike (default: fashion_latency_bins(n_steps)); n_classes: default, the largest
    label + 1. Raises TypeError or ValueError for other dtypes, shapes, labels.
    """

    n_slots = 1

    def __init__(self, images, labels, n_steps=100, table=None, n_classes=None):
        images = np.asarray(images)
        if images.dtype != np.uint8:
            raise TypeError(f"images: expected dtype uint8 (0 to 255), received {images.dtype}")
        if images.ndim < 2:
            raise ValueError(f"images: expected shape [n, height, width] or [n, pixels], received {images.shape}")
        table = fashion_latency_bins(n_steps) if table is None else np.asarray(table)
        if count("n_steps", n_steps) > NEVER:
            raise ValueError(f"n_steps: expected at most {NEVER}, as a latency is one byte, received {n_steps}")
        if table.dtype != np.uint8 or table.shape != (256,):
            raise ValueError(f"table: expected uint8 [256], received {table.dtype} {list(table.shape)}")
        self._take(table[images.reshape(len(images), -1)], n_steps)
        super().__init__(labels, len(images), n_classes)

    def _take(self, latencies, n_steps):
        self.latency_bins = np.ascontiguousarray(latencies)
        self.n_neurons, self.n_steps = self.latency_bins.shape[1], n_steps

    def subset(self, indices):
        part = object.__new__(LatencyBins)
        part._take(self.latency_bins[indices], self.n_steps)
        Source.__init__(part, self.labels[indices], len(part.latency_bins), self.n_classes)
        return part

    def to(self, device, dtype):
        """Copy on a device, able to make batches."""
        return _resident(self, device, dtype, ("latency_bins",), _spread_latencies)


class BinnedEvents(Source):
    """Event recordings, counted per step and unit: an event at time t falls into step round(t / dt), the even one of two.

    events: bats.data.Events, e.g. bats.data.load_shd().train; n_units: input lines; n_steps; dt: seconds.
    Several events in one step and unit add up, as in FastSNN. Events from step n_steps on are left out: n_dropped says how many.
    Raises TypeError or ValueError for other arguments.
    """

    n_slots = 1

    def __init__(self, events, n_units, n_steps, dt, n_classes=None):
        if not isinstance(events, Events):
            raise TypeError(f"events: expected bats.data.Events, received {type(events).__name__}")
        self.n_neurons, self.n_steps = count("n_units", n_units), count("n_steps", n_steps)
        if self.n_neurons * self.n_steps > 2**32:
            raise ValueError(f"n_steps: expected at most {2**32 // self.n_neurons} for {n_units} units, received {n_steps}")
        if events.units.size and events.units.max() >= n_units:
            raise ValueError(f"events: expected units 0..{n_units - 1}, received {events.units.max()}")
        self.dt = positive("dt", dt)
        steps = np.round(events.times * 1000 / (1000 * self.dt))
        kept = steps < n_steps
        before = np.concatenate(([0], np.cumsum(kept, dtype=np.int64)))  # events kept before each
        self.offsets = before[events.offsets]
        self.n_dropped = len(steps) - int(self.offsets[-1])
        self.cells = steps[kept].astype(np.uint32) * np.uint32(n_units) + events.units[kept].astype(np.uint32)
        self.fullest = int(sort_cells(self.cells, self.offsets))
        super().__init__(events.labels, len(events), n_classes)

    def subset(self, indices):
        """The same source with only these samples, in this order; n_dropped remains that of the whole."""
        indices = np.arange(len(self))[indices]
        counts = np.diff(self.offsets)[indices]
        part = object.__new__(BinnedEvents)
        part.__dict__.update(self.__dict__)
        part.offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
        part.cells = self.cells[np.arange(part.offsets[-1]) + np.repeat(self.offsets[indices] - part.offsets[:-1], counts)]
        Source.__init__(part, self.labels[indices], len(indices), self.n_classes)
        return part

    def to(self, device, dtype):
        """Copy on a device, able to make batches."""
        return _resident(self, device, dtype, ("cells", "offsets"), _count_events, self.fullest <= LARGEST)


def _resident(source, device, dtype, names, fill, small_integers=True):
    """SteppedResident with copies of the arrays `names` of the source."""

    def keep(resident):
        resident.n_steps, resident.small_integers = source.n_steps, small_integers
        for name in names:
            setattr(resident, name, resident.xp.asarray(getattr(source, name)))

    return SteppedResident(array_module(resolve(device)), check_dtype(dtype), source, keep, fill)


class SteppedResident(Resident):
    """A source of waves on its device."""

    def allocate(self, batch):
        xp = self.xp
        waves = Waves.allocate(xp, batch, self.n_steps, self.n_neurons, self.dtype, self.small_integers)
        return SimpleNamespace(indices=xp.zeros(batch, dtype=np.int32), labels=xp.zeros(batch, dtype=np.int32), events=waves)


def _spread_latencies(resident, indices, place):
    waves = place.events.first(len(indices))
    ops.densify_latencies(resident.latency_bins, indices, waves.array)
    return waves


def _count_events(resident, indices, place):
    waves = place.events.first(len(indices))
    ops.densify_events(resident.cells, resident.offsets, indices, waves.array)
    return waves
