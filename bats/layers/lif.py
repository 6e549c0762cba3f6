"""Dense layer of leaky integrate-and-fire neurons."""

import functools
import numbers
from types import SimpleNamespace

import numpy as np

from bats import initializers, ops
from bats.cpu.warm_up import warm_up_grid
from bats.device import to_numpy
from bats.discretization import check_grid
from bats.layers.base import WeightedLayer, positive
from bats.layers.fast import FastPath
from bats.ops.conv_geometry import convolve
from bats.ops.neuron import Neuron
from bats.regularization import SpikeRateRegularizer, SpikeRates
from bats.spikes import EventList

SLOPE_FLOOR = 0.01  # acts on about one spike in a million on MNIST; without it a gradient may overflow


class LIFLayer(WeightedLayer):
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
    grid: a bats.TimeGrid on which the layer emits its spikes, or None: continuous time (docs/time_discretization.md)

    Raises TypeError or ValueError for parameters that are no positive numbers, for a grid coarser than 64 tau_s.
    """

    _has_fields = False  # whether positions see parts of the input

    def __init__(self, previous_layer=None, n_neurons=None, tau_s=None, theta=None, delta_theta=None,
                 weight_initializer=None, max_n_spike=32, name="", *, slope_floor=SLOPE_FLOOR, regularizer=None,
                 grid=None):  # fmt: skip
        super().__init__(previous_layer, n_neurons, name)
        if not isinstance(regularizer, SpikeRateRegularizer | None):
            raise TypeError(f"regularizer: expected a SpikeRateRegularizer or None, received {regularizer!r}")
        self.regularizer = regularizer
        self._rates = None  # the regularizer at work
        self.tau_s = positive("tau_s", tau_s)
        self.theta = positive("theta", theta)
        self.delta_theta = positive("delta_theta", delta_theta)
        self.slope_floor = positive("slope_floor", slope_floor, zero_allowed=True)
        self.grid = check_grid(grid)
        if self.grid is not None and self.grid.dt > 64 * self.tau_s:
            raise ValueError(f"grid: expected dt of at most 64 tau_s = {64 * self.tau_s:g} s, received {self.grid.dt:g} s")
        if not isinstance(max_n_spike, numbers.Integral) or isinstance(max_n_spike, bool):
            raise TypeError(f"max_n_spike: expected an integer, received {max_n_spike!r}")
        if max_n_spike < 1:
            raise ValueError(f"max_n_spike: expected at least 1, received {max_n_spike}")
        self.max_n_spike = int(max_n_spike)
        self._initializer = weight_initializer or initializers.uniform()
        self._space = None  # workspace for the largest batch so far
        self._later = None  # room for _later_sums
        self._fast = FastPath(self)
        self._is_sorted = True  # whether the last forward pass filled the event list
        self._tally = None  # counters of kernels that do without the workspace
        self._at = None  # batch size -> the part of the workspace it uses
        self._batch = 0
        self.passed = None  # errors that the last backward pass left for the layer before
        self.generation = 0  # how often allocate() replaced the workspace

    # ------------------------------------------------------------------------------------------------------------------
    def attach(self, xp, dtype, generator):
        """Gives the layer its device, dtype and initial weights."""
        if self.grid is not None and xp is np:
            warm_up_grid(dtype)
        weights = initializers.initialize(self._initializer, self.weight_shape, generator, self.name)
        self.xp, self.dtype = xp, dtype
        self._weights = xp.ascontiguousarray(xp.asarray(weights, dtype=dtype).T)
        self.neuron = Neuron.make(self.tau_s, self.theta, self.delta_theta, dtype, self.slope_floor)
        self.gradient = xp.zeros_like(self._weights)  # both [n_pre, n_post]: a row is what one incoming spike adds
        if self.regularizer is not None:
            self._rates = SpikeRates(self.regularizer, xp, dtype, self.gradient.shape[-1])

    @property
    def matrix(self):
        """The weights as they lie in memory, [n_pre, n_neurons]."""
        return self._weights

    @property
    def spike_trains(self):
        """(times [batch, n_neurons, max_n_spike] inf-padded, counts [batch, n_neurons]) of the last forward pass.

        Views of the layer's workspace: the next forward pass overwrites them.
        """
        if self._space is None or self._batch is None:
            raise RuntimeError(f"layer {self.name!r}: no spike trains yet, run network.forward first (a fused step leaves none)")
        space = self._at(self._batch)
        return space.times.transpose(0, 2, 1), space.counts

    output = spike_trains  # what Network.forward returns

    def as_errors(self, errors):
        """Errors as a user gives them [batch, n_neurons, slots] -> as they lie in memory. Raises ValueError for another shape."""
        shape = self.spike_trains[0].shape
        if tuple(errors.shape) != shape:
            raise ValueError(f"backward: expected errors of shape {shape}, received {tuple(errors.shape)}")
        return self.xp.ascontiguousarray(self.xp.asarray(errors, dtype=self.dtype).transpose(0, 2, 1))

    @property
    def trains(self):
        """The same as they lie in memory: times [batch, max_n_spike, n_neurons], counts."""
        space = self._at(self._batch)
        return space.times, space.counts

    @property
    def spike_list(self):
        """ops.SpikeList in which the last forward pass may have left the same for ops.bucket_sort, or None."""
        return self._fast.spikes

    @property
    def events(self):
        """The spikes of the last forward pass as an event list."""
        return self._sorted(self._at(self._batch))

    def _sorted(self, space):
        """space.events, sorted now if the forward pass had no use for it."""
        if not self._is_sorted:
            ops.sort_events(space.times, space.counts, space.events, space.sort, self.spike_list)
        return space.events

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
        space = self._space
        space.crossings, space.crossing_events = space.times, events
        if self.grid is not None:
            space.crossings = xp.full(shape, np.inf, dtype=dtype)
            space.crossing_events = EventList.allocate(xp, batch, self.n_neurons, self.max_n_spike, dtype)
        self._gradient_scratch = self._make_gradient_scratch(batch)
        self._factors = self._scratch = None
        self._fast.forget()
        self._at = functools.cache(self._cut)
        self.generation += 1
        if old is not None:
            self.load_counters(old)

    def _cut(self, batch):
        """The workspace restricted to its first `batch` samples (views, made once per batch size)."""
        whole = vars(self._space)
        cut = {name: whole[name][:batch] for name in ("times", "crossings", "counts", "slopes", "errors", "status", "bounded")}
        for name in ("sums", "sort"):
            cut[name] = None if whole[name] is None else tuple(array[:batch] for array in whole[name])
        lists = {name: whole[name].first(batch) for name in ("events", "crossing_events")}
        return SimpleNamespace(**lists, **cut)

    def use(self, batch):
        """Says how many samples the next passes have; None: what the layer holds is not of the last pass."""
        self._batch = batch
        self._fast.drop_spikes()

    # ------------------------------------------------------------------------------------------------------------------
    def forward(self, events, t_max, sort=True, pooled=False):
        """Runs the layer on its input events; returns its own, sorted (not filled yet if sort is False). pooled: whether a PoolingLayer
        sorts them next."""
        space = self._at(self._batch)
        if self.grid is None:
            self._simulate(events, t_max, space, sort or pooled)
        else:
            geometry = self._connections
            ops.grid_spike_times(
                events, self._weights.reshape(geometry.weight_shape), geometry, self.neuron, self.grid, t_max, space.times, space.crossings,
                space.counts, space.slopes, space.status, self._grid_scratch(events, geometry),
            )  # fmt: skip
        self._is_sorted = False
        if sort:
            self._sorted(space)
            self._is_sorted = True
        return space.events

    def _simulate(self, events, t_max, space, sorts=False):
        """The forward pass in continuous time; sorts: whether a sort of the spikes follows."""
        if self._fast.forward_dense(events, t_max, space, sorts):
            return
        scratch = self._forward_scratch(events)
        ops.spike_times(events, self._weights, self.neuron, t_max, space.times, space.counts, space.slopes, space.status, scratch)

    @property
    def _connections(self):
        """The layer as a convolution: one position sees all inputs."""
        return convolve((1, 1, self.previous_layer.n_neurons), (1, 1, self.n_neurons))

    def _gains(self, errors, space):
        """space.errors = delta_k tau / z_k of every spike; on a grid, also the crossings as an event list: inputs before a crossing,
        not before the time of the spike, made it happen."""
        if self.grid is not None:
            ops.sort_events(space.crossings, space.counts, space.crossing_events, space.sort)
        rest = space.slopes, space.counts, self.neuron, space.errors, space.bounded
        if self.grid is not None and self.grid.rule == "clean":
            ops.grid_recurrent_errors(errors, space.times, space.crossings, *rest)
        else:
            ops.recurrent_errors(errors, space.crossings, *rest)
        return space.errors

    def backward(self, errors, events, pre_errors=None, finish=True, in_parts=False, after_loss=False):
        """errors = dL/dt of this layer's spikes (may be its own workspace); events: its input; pre_errors: where dL/dt of
        the input spikes goes, or None. Leaves the batch-mean gradient in self.gradient [n_pre, n_post].

        Without finish, returns a list for ops.add_partial, which may have to make the gradient yet, for several layers at once. in_parts:
        pre_errors may be left to the layer before, whose errors are then self.passed, an ops.Parts; else that is pre_errors. after_loss:
        as of ops.layer_backward."""
        space = self._at(self._batch)
        if self._rates is not None:
            errors = self._rates.add_errors(self._added_up(errors, space), space.counts, space.errors)
        done = self._fast.backward(errors, events, pre_errors, space, self._connections, self._has_fields, in_parts, after_loss)
        pending, parts = ([], None) if done is None else done
        if done is None:
            self._backward(self._added_up(errors, space), events, pre_errors, space)
        self.passed = pre_errors if parts is None else parts
        if finish or self._rates is not None:
            ops.add_partial(pending)
            pending = []
        if self._rates is not None:
            self._rates.raise_silent(self.gradient)
        return pending

    @staticmethod
    def _added_up(errors, space):
        """errors, or what they are if they are ops.Parts."""
        if not isinstance(errors, ops.Parts):
            return errors
        errors.add(space.errors)
        return space.errors

    def _backward(self, errors, events, pre_errors, space):
        """The backward pass with the general kernels."""
        if self.grid is None:
            self._sorted(space)
        gains = self._gains(errors, space)
        factors = self._event_factors(events)
        later = None
        if pre_errors is not None:
            later = self._later_sums(space) if ops.wants_later_sums(self.xp, self.n_neurons) else None
            ops.presynaptic_errors(events, factors, self._weights, space.crossing_events, gains, self.neuron, pre_errors, space.sums, later)
        ops.weight_gradient(
            events, factors, space.crossings, space.counts, space.crossing_events, gains, self.neuron, self.gradient,
            self._gradient_scratch, later,
        )  # fmt: skip

    def _make_gradient_scratch(self, batch):
        return ops.gradient_scratch(self.xp, batch, self.previous_layer.n_neurons, self.n_neurons, self.dtype)

    def _forward_scratch(self, events):
        """Room for the forward pass on the CPU; None on CUDA."""
        if self.xp is not np:
            return None
        batch, n_events = events.times.shape
        if self._scratch is None or len(self._scratch[0]) < batch or self._scratch[1].shape[-1] != n_events:
            self._scratch = ops.forward_scratch(np, batch, n_events, self.n_neurons, self.dtype)
        return self._scratch

    def _grid_scratch(self, events, geometry):
        """Room for the forward pass on a grid, on the CPU; None on CUDA."""
        if self.xp is not np:
            return None
        if self._scratch is None:
            self._scratch = ops.grid_forward_scratch(np, len(self._space.counts), geometry, self.dtype)
        return tuple(array[: events.batch] for array in self._scratch)

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
        ops.later_sums(space.crossings, space.counts, space.errors, self.neuron, later)
        return later

    # ------------------------------------------------------------------------------------------------------------------
    def counters(self):
        """Totals since the last clear, int64 [5]: spikes, silent, overflowing, non-finite neurons, bounded spikes. Waits for the device."""
        totals = np.zeros(5, dtype=np.int64)
        for arrays in self._counter_arrays():  # summed on the host: a copy takes less time than the launches of a sum
            status, bounded = to_numpy(arrays) if arrays is self._tally else map(to_numpy, arrays)
            totals[:4] += status.sum(axis=0).astype(np.int64)
            totals[4] += int(bounded[:, 0].sum())
        return totals

    def tally(self):
        """(status, bounded) [64, 4], in one array, for kernels that count without the workspace: counters() adds them up; never
        replaced."""
        if self._tally is None:
            self._tally = self.xp.zeros((2, 64, 4), dtype=np.int64 if self.xp is np else np.uint64)
        return self._tally

    def _counter_arrays(self):
        space = [] if self._space is None else [(self._space.status, self._space.bounded)]
        return space + ([] if self._tally is None else [self._tally])

    def load_counters(self, totals):
        """The inverse of counters()."""
        if np.any(totals) and not self._counter_arrays():
            self.tally()  # a fused step has no workspace, and a resumed run its counters before its first step
        for place, (status, bounded) in enumerate(self._counter_arrays()):
            status.fill(0)
            bounded.fill(0)
            if place == 0:
                status[0] = self.xp.asarray(totals[:4], dtype=status.dtype)
                bounded[0, 0] = int(totals[4])
