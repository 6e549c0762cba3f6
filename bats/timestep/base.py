"""What the layers of bats.timestep share: weights, bias, temporal filter, the products over all time steps, counters."""

import math
from types import SimpleNamespace

import numpy as np

from bats import initializers, ops
from bats.cpu.warm_up import warm_up_timestep
from bats.device import to_numpy
from bats.layers.base import WeightedLayer, positive


class SteppedLayer(WeightedLayer):
    """Neurons whose currents I[t] = W S[t] + b, for all steps at once, are one matrix product over batch x steps rows.

    A workspace of arrays [batch, n_steps, n] serves both passes: the currents, which the membrane replaces; the spikes, a byte
    each (none in a read-out); the errors, in which dL/dI replaces dL/dS. A learned filter needs one more.
    """

    stepped = True

    def __init__(self, previous_layer, n_neurons, tau, dt, bias, weight_initializer, learned_filter, tf32, name):
        super().__init__(previous_layer, n_neurons, name)
        self.tau, self.dt = positive("tau", tau), positive("dt", dt)
        if bias is not None and (not isinstance(bias, (int, float)) or isinstance(bias, bool) or not math.isfinite(bias)):
            raise TypeError(f"bias: expected a finite number or None, received {bias!r}")
        self._first_bias = bias
        self.learned_filter, self.tf32 = bool(learned_filter), bool(tf32)
        self._initializer = weight_initializer or initializers.fan_in_uniform()
        self._bias = self._filter = None
        self._space = None  # workspace for the largest batch so far
        self._batch = 0
        self.generation = 0  # how often allocate() replaced the workspace

    @property
    def beta(self):
        """What is left of the membrane after one step: e^(-dt / tau)."""
        return math.exp(-self.dt / self.tau)

    @property
    def has_bias(self):
        return self._first_bias is not None

    def attach(self, xp, dtype, generator):
        """Gives the layer its device, dtype, number of steps and initial parameters."""
        before = self.previous_layer
        if before.dt is None:
            before.dt = self.dt
        if before.dt != self.dt:
            raise ValueError(f"layer {self.name!r}: expected dt {before.dt} s, as in the layer before, received {self.dt} s")
        self.n_steps = before.n_steps
        weights = initializers.initialize(self._initializer, self.weight_shape, generator, self.name)
        self.xp, self.dtype = xp, dtype
        if xp is np:
            warm_up_timestep(dtype)
        self._weights = xp.ascontiguousarray(xp.asarray(weights, dtype=dtype).T)
        self.gradient = xp.zeros_like(self._weights)
        self._further = {}
        if self.has_bias:
            self._bias = xp.full(self.n_neurons, self._first_bias, dtype=dtype)
            self._further["bias"] = xp.zeros_like(self._bias)
        if self.learned_filter:
            self._filter = xp.asarray(self.beta ** np.arange(self.n_steps), dtype=dtype)
            self._further["filter"] = xp.zeros_like(self._filter)

    # ------------------------------------------------------------------------------------------------------------------
    @property
    def bias(self):
        """[n_neurons], added to the current in every step, or None; settable like weights."""
        return self._bias

    @bias.setter
    def bias(self, values):
        if not self.has_bias:
            raise ValueError(f"layer {self.name!r}: expected a layer with a bias, it was made with bias=None")
        self._take("bias", values, lambda: self._bias)

    @property
    def filter(self):
        """[n_steps], the learned response of the membrane to a current of 1 in step 0, or None; settable like weights."""
        return self._filter

    @filter.setter
    def filter(self, values):
        if not self.learned_filter:
            raise ValueError(f"layer {self.name!r}: expected a layer with a learned filter, it was made with learned_filter=False")
        self._take("filter", values, lambda: self._filter)

    @property
    def parameters(self):
        return {**super().parameters, **{name: getattr(self, name) for name in self._further}}

    @property
    def further_gradients(self):
        return self._further

    # ------------------------------------------------------------------------------------------------------------------
    def allocate(self, batch):
        """Makes room for `batch` samples; a smaller batch uses a part of it."""
        if self._space is not None and batch <= len(self._space.status):
            return
        old = self.counters()
        xp, n = self.xp, self.n_neurons
        shape = batch, self.n_steps, n
        self._space = SimpleNamespace(
            membrane=xp.zeros(shape, dtype=self.dtype),
            spikes=xp.zeros(shape, dtype=np.uint8) if self.spiking else None,
            errors=xp.zeros(shape, dtype=self.dtype),
            currents=xp.zeros(shape, dtype=self.dtype) if self.learned_filter else None,
            spike_counts=xp.zeros((batch, n), dtype=np.int32),
            step=xp.zeros((batch, n), dtype=np.int32),
            logits=None if self.spiking else xp.zeros((batch, 1, n), dtype=self.dtype),
            sums=xp.zeros((batch, n), dtype=self.dtype),
            status=xp.zeros((batch, 5), dtype=np.int64 if xp is np else np.uint64),
        )
        rows, n_pre = batch * self.n_steps, self.previous_layer.n_neurons
        self._product_scratch = ops.product_scratch(xp, n_pre, n, rows, self.dtype)
        self._filter_scratch = ops.filter_scratch(xp, batch, self.n_steps, self.dtype) if self.learned_filter else None
        self.generation += 1
        self.load_counters(old)

    def use(self, batch):
        """Says how many samples the next passes have."""
        self._batch = batch

    def _now(self, name):
        """An array of the workspace, restricted to the samples of this pass."""
        if self._space is None:
            raise RuntimeError(f"layer {self.name!r}: no {name} yet, run network.forward first")
        return getattr(self._space, name)[: self._batch]

    @property
    def membrane(self):
        """[batch, n_steps, n_neurons] of the last forward pass, before resets. A view that the next pass overwrites."""
        return self._now("membrane")

    @property
    def errors(self):
        """Workspace [batch, n_steps, n_neurons] for dL/dS of the layer's spikes."""
        return self._now("errors")

    # ------------------------------------------------------------------------------------------------------------------
    def _load_currents(self, waves):
        """The currents, or with a learned filter what it makes of them, into the membrane; returns the bias not yet added."""
        currents = self._now("currents" if self.learned_filter else "membrane")
        ops.matrix_product(waves.rows, self._weights, _rows(currents), exact_a=waves.small_integers, tf32=self.tf32)
        if not self.learned_filter:
            return self._bias
        ops.temporal_filter(currents, self._bias, self._filter, self.membrane)
        return None

    def _finish_backward(self, errors, waves, earlier_errors, add):
        """From errors = dL/dI, or dL/dV before a learned filter: the batch means of all gradients, and dL/dS of the input."""
        batch = max(1, self._batch)
        if self.learned_filter:
            currents = self._now("currents")
            scratch = self._filter_scratch[:batch]
            ops.temporal_filter_gradient(errors, currents, self._further["filter"], 1 / batch, scratch)
            ops.temporal_filter_backward(errors, self._filter, currents)  # the currents have done their work
            errors = currents
        if self.has_bias:
            ops.bias_gradient(errors, self._now("sums"), self._further["bias"], 1 / batch)
        ops.matrix_product(
            waves.rows, _rows(errors), self.gradient, transpose_a=True, scale=1 / batch, exact_a=waves.small_integers,
            tf32=self.tf32, scratch=self._product_scratch,
        )  # fmt: skip
        if earlier_errors is not None:
            ops.matrix_product(_rows(errors), self._weights, _rows(earlier_errors), transpose_b=True, add=add, tf32=self.tf32)

    # ------------------------------------------------------------------------------------------------------------------
    def counters(self):
        """Totals since the last clear, int64 [5]: spikes, silent, 0, non-finite neurons, 0. Waits for the device."""
        if self._space is None:
            return np.zeros(5, dtype=np.int64)
        return to_numpy(self._space.status.sum(axis=0)).astype(np.int64)

    def load_counters(self, totals):
        """The inverse of counters(). Nothing to do before the first forward pass."""
        if self._space is not None and len(self._space.status):
            status = self._space.status
            status.fill(0)
            status[0] = self.xp.asarray(totals, dtype=status.dtype)


def _rows(array):
    return array.reshape(-1, array.shape[-1])
