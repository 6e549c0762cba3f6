"""Dense layer of leaky integrate-and-fire neurons."""

import functools
import numbers
from types import SimpleNamespace

import numpy as np

from bats import initializers, ops
from bats.device import is_cupy
from bats.layers.base import Layer, positive
from bats.ops.neuron import Neuron
from bats.regularization import SpikeRateRegularizer, SpikeRates
from bats.spikes import EventList

SLOPE_FLOOR = 0.01  # acts on about one spike in a million on MNIST; without it a gradient may overflow


class LIFLayer(Layer):
    """Fully connected current-based LIF neurons with a soft reset (Bacho & Chu, arXiv 2212.09500; docs/theory.md).

    previous_layer: the layer whose spikes come in; may be None if the layers are given to Network in order
    n_neurons: number of neurons
    tau_s: synaptic time constant in seconds; the membrane time constant is tau = 2 tau_s
    theta: threshold; delta_theta: what a spike takes from the membrane (both > 0)
    weight_initializer: f(shape, numpy random generator) -> weights [n_neurons, n_pre]; default U(-1, 1); a function of the
        two integers (n_post, n_pre) works too
    max_n_spike: spikes kept per neuron and sample; 1 is time to first spike. A neuron that would fire once more than it can
        hold falls silent and is counted in status()["overflow"] (not for 1, where that is the meaning)
    slope_floor: bound of the gradient of grazing spikes: du/dt at a spike counts as at least slope_floor theta / tau in the
        backward pass; 0 is the exact gradient. Each spike at which it acts is counted in status()["bounded"]
    regularizer: a bats.SpikeRateRegularizer that keeps neurons from falling silent, or None

    Raises TypeError or ValueError for parameters that are no positive numbers.
    """

    trainable = True

    def __init__(self, previous_layer=None, n_neurons=None, tau_s=None, theta=None, delta_theta=None,
                 weight_initializer=None, max_n_spike=32, name="", *, slope_floor=SLOPE_FLOOR, regularizer=None):  # fmt: skip
        super().__init__(previous_layer, n_neurons, name)
        if not isinstance(regularizer, SpikeRateRegularizer | None):
            raise TypeError(f"regularizer: expected a SpikeRateRegularizer or None, received {regularizer!r}")
        self.regularizer = regularizer
        self._rates = None  # the regularizer at work
        self.tau_s = positive("tau_s", tau_s)
        self.theta = positive("theta", theta)
        self.delta_theta = positive("delta_theta", delta_theta)
        self.slope_floor = positive("slope_floor", slope_floor, zero_allowed=True)
        if not isinstance(max_n_spike, numbers.Integral) or isinstance(max_n_spike, bool):
            raise TypeError(f"max_n_spike: expected an integer, received {max_n_spike!r}")
        if max_n_spike < 1:
            raise ValueError(f"max_n_spike: expected at least 1, received {max_n_spike}")
        self.max_n_spike = int(max_n_spike)
        self._initializer = weight_initializer or initializers.uniform()
        self._weights = None  # [n_pre, n_post]: a row is what one incoming spike adds, contiguous over the neurons
        self._space = None  # workspace for the largest batch so far
        self._later = None  # room for _later_sums
        self._tally = None  # counters of kernels that do without the workspace
        self._at = None  # batch size -> the part of the workspace it uses
        self._batch = 0
        self.generation = 0  # how often allocate() replaced the workspace

    # ------------------------------------------------------------------------------------------------------------------
    def attach(self, xp, dtype, generator):
        """Gives the layer its device, dtype and initial weights."""
        weights = initializers.initialize(self._initializer, self.weight_shape, generator, self.name)
        self.xp, self.dtype = xp, dtype
        self._weights = xp.ascontiguousarray(xp.asarray(weights, dtype=dtype).T)
        self.neuron = Neuron.make(self.tau_s, self.theta, self.delta_theta, dtype, self.slope_floor)
        self.gradient = xp.zeros_like(self._weights)
        if self.regularizer is not None:
            self._rates = SpikeRates(self.regularizer, xp, dtype, self.gradient.shape[-1])

    @property
    def matrix(self):
        """The weights as they lie in memory, [n_pre, n_neurons]."""
        return self._weights

    @property
    def weight_shape(self):
        """Shape of the weights that users see; in memory they lie transposed."""
        return self.n_neurons, self.previous_layer.n_neurons

    @property
    def weights(self):
        """[n_neurons, n_pre], a view: writing into it changes the layer. Settable from a NumPy or CuPy array of that shape."""
        return None if self._weights is None else self._weights.T

    @weights.setter
    def weights(self, values):
        if not self.attached:
            raise RuntimeError(f"layer {self.name!r}: expected it to be part of a Network before its weights are set")
        values = values if is_cupy(values) else np.asarray(values)
        if values.shape != self.weight_shape:
            raise ValueError(f"weights of layer {self.name!r}: expected shape {self.weight_shape}, received {values.shape}")
        if values.dtype.kind not in "fiu":
            raise TypeError(f"weights of layer {self.name!r}: expected numbers, received dtype {values.dtype}")
        if is_cupy(values) and self.xp is np:
            values = values.get()
        self._weights[...] = self.xp.asarray(values, dtype=self.dtype).T

    @property
    def spike_trains(self):
        """(times [batch, n_neurons, max_n_spike] inf-padded, counts [batch, n_neurons]) of the last forward pass.

        Views of the layer's workspace: the next forward pass overwrites them.
        """
        if self._space is None:
            raise RuntimeError(f"layer {self.name!r}: no spike trains yet, run network.forward first")
        space = self._at(self._batch)
        return space.times.transpose(0, 2, 1), space.counts

    @property
    def trains(self):
        """The same as they lie in memory: times [batch, max_n_spike, n_neurons], counts."""
        space = self._at(self._batch)
        return space.times, space.counts

    @property
    def events(self):
        """The spikes of the last forward pass as an event list."""
        return self._at(self._batch).events

    @property
    def errors(self):
        """Workspace [batch, max_n_spike, n_neurons] for dL/dt of the layer's spikes; empty slots are undefined."""
        return self._at(self._batch).errors

    # ------------------------------------------------------------------------------------------------------------------
    def allocate(self, batch):
        """Makes room for `batch` samples; a smaller batch uses a part of it."""
        if self._space is not None and batch <= self._space.counts.shape[0]:
            return
        xp, dtype = self.xp, self.dtype
        shape = (batch, self.max_n_spike, self.n_neurons)
        events = EventList.allocate(xp, batch, self.n_neurons, self.max_n_spike, dtype)
        on_cpu = xp is np
        counters = np.int64 if on_cpu else np.uint64
        old = self.counters() if self._space is not None else None
        self._space = SimpleNamespace(
            times=xp.full(shape, np.inf, dtype=dtype),
            counts=xp.zeros((batch, self.n_neurons), dtype=np.int32),
            slopes=xp.zeros(shape, dtype=dtype),
            errors=xp.zeros(shape, dtype=dtype),
            events=events,
            status=xp.zeros((batch, 4), dtype=counters),
            bounded=xp.zeros((batch, 4), dtype=counters),
            sums=tuple(np.empty((batch, self.n_neurons), dtype=dtype) for _ in range(2)) if on_cpu else None,
            sort=ops.sort_scratch(events),
        )
        self._gradient_scratch = self._make_gradient_scratch(batch)
        self._factors = self._scratch = None
        self._at = functools.cache(self._cut)
        self.generation += 1
        if old is not None:
            self.load_counters(old)

    def _cut(self, batch):
        """The workspace restricted to its first `batch` samples (views, made once per batch size)."""
        whole = vars(self._space)
        cut = {name: whole[name][:batch] for name in ("times", "counts", "slopes", "errors", "status", "bounded")}
        for name in ("sums", "sort"):
            cut[name] = None if whole[name] is None else tuple(array[:batch] for array in whole[name])
        return SimpleNamespace(events=whole["events"].first(batch), **cut)

    def use(self, batch):
        """Says how many samples the next passes have."""
        self._batch = batch

    # ------------------------------------------------------------------------------------------------------------------
    def forward(self, events, t_max, sort=True):
        """Runs the layer on its input events; returns its own, sorted (not filled if sort is False)."""
        space = self._at(self._batch)
        scratch = self._forward_scratch(events)
        ops.spike_times(
            events, self._weights, self.neuron, t_max, space.times, space.counts, space.slopes, space.status, scratch
        )
        if sort:
            ops.sort_events(space.times, space.counts, space.events, space.sort)
        return space.events

    def backward(self, errors, events, pre_errors=None):
        """errors = dL/dt of this layer's spikes (may be its own workspace); events: its input; pre_errors: where dL/dt of
        the input spikes goes, or None. Leaves the batch-mean gradient in self.gradient [n_pre, n_post]."""
        space = self._at(self._batch)
        gains = space.errors
        if self._rates is not None:
            errors = self._rates.add_errors(errors, space.counts, gains)
        ops.recurrent_errors(errors, space.times, space.slopes, space.counts, self.neuron, gains, space.bounded)
        factors = self._event_factors(events)
        later = None
        if pre_errors is not None:
            later = self._later_sums(space) if ops.wants_later_sums(self.xp, self.n_neurons) else None
            ops.presynaptic_errors(events, factors, self._weights, space.events, gains, self.neuron, pre_errors, space.sums, later)
        ops.weight_gradient(
            events, factors, space.times, space.counts, space.events, gains, self.neuron, self.gradient, self._gradient_scratch, later
        )
        if self._rates is not None:
            self._rates.raise_silent(self.gradient)

    def _make_gradient_scratch(self, batch):
        return ops.gradient_scratch(self.xp, batch, self.previous_layer.n_neurons, self.n_neurons, self.dtype)

    def _forward_scratch(self, events):
        """Room for the forward pass on the CPU; None on CUDA."""
        if self.xp is not np:
            return None
        batch, n_events = events.times.shape
        if self._scratch is None or len(self._scratch[0]) < batch or self._scratch[1].shape[1] != n_events:
            self._scratch = ops.forward_scratch(np, batch, n_events, self.n_neurons, self.dtype)
        return tuple(array[:batch] for array in self._scratch)

    def _event_factors(self, events):
        """Exponential of every input event, computed once for both operations of the backward pass."""
        room = self._factors
        if room is None or room.shape[1] != events.times.shape[1] or len(room) < events.batch:
            self._factors = self.xp.empty_like(events.times)
            self.generation += 1
        factors = self._factors[: events.batch]
        ops.event_factors(events, self.neuron, factors)
        return factors

    def _later_sums(self, space):
        """Sums over the later spikes of each neuron, from the gains that space.errors holds now (CUDA only)."""
        room = self._later
        if room is None or len(room) < self._batch:
            self._later = self.xp.empty((len(self._space.counts), self.max_n_spike, self.n_neurons, 4), dtype=self.dtype)
            self.generation += 1
        later = self._later[: self._batch]
        ops.later_sums(space.times, space.counts, space.errors, self.neuron, later)
        return later

    # ------------------------------------------------------------------------------------------------------------------
    def counters(self):
        """Totals since the last clear, int64 [5]: spikes, silent, overflowing, non-finite neurons, bounded spikes. Waits for the device."""
        totals = np.zeros(5, dtype=np.int64)
        for status, bounded in self._counter_arrays():
            found = self.xp.concatenate([status.sum(axis=0), bounded.sum(axis=0)[:1]])
            totals += np.asarray(found.get() if is_cupy(found) else found, dtype=np.int64)
        return totals

    def tally(self):
        """(status, bounded) [64, 4] for kernels that count without the workspace: counters() adds them up; never replaced."""
        if self._tally is None:
            shape, dtype = (64, 4), np.int64 if self.xp is np else np.uint64
            self._tally = self.xp.zeros(shape, dtype=dtype), self.xp.zeros(shape, dtype=dtype)
        return self._tally

    def _counter_arrays(self):
        space = [] if self._space is None else [(self._space.status, self._space.bounded)]
        return space + ([] if self._tally is None else [self._tally])

    def load_counters(self, totals):
        """The inverse of counters(). Nothing to do before the first forward pass."""
        for place, (status, bounded) in enumerate(self._counter_arrays()):
            status.fill(0)
            bounded.fill(0)
            if place == 0:
                status[0] = self.xp.asarray(totals[:4], dtype=status.dtype)
                bounded[0, 0] = int(totals[4])
