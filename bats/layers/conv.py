"""Input and convolutional layers, whose neurons lie on a grid."""

import math

import numpy as np

from bats import ops
from bats.cpu.warm_up import warm_up_convolution
from bats.layers.base import grid_before
from bats.layers.input import InputLayer
from bats.layers.lif import SLOPE_FLOOR, LIFLayer
from bats.ops.conv_geometry import convolve, pair, shape_of


class ConvInputLayer(InputLayer):
    """Input neurons on a grid.

    neurons_shape: (X, Y, channels); neuron (ix, iy, ic) has the index (ix * Y + iy) * channels + ic, so that a flattened
    image [28, 28] is the input of (28, 28, 1). grid: as of InputLayer.
    Raises TypeError or ValueError for anything but three positive integers.
    """

    def __init__(self, neurons_shape, name="input", *, grid=None):
        self.neurons_shape = shape_of("neurons_shape", neurons_shape)
        super().__init__(math.prod(self.neurons_shape), name, grid=grid)


class ConvLIFLayer(LIFLayer):
    """Convolution of LIF neurons: those of one channel share a filter (Bacho & Chu, arXiv 2212.09500; docs/theory.md, section 7).

    previous_layer: a layer with a grid (ConvInputLayer, ConvLIFLayer, PoolingLayer), or None if the layers are given to Network in order
    filters_shape: (FX, FY, channels). Neuron (px, py, c) sees the neurons (px * stride + fx - padding, py * stride + fy - padding, ci)
        of the previous layer through weights[c, fx, fy, ci]: a correlation, no bias; padding adds silent neurons
    weight_initializer: f(shape, generator) -> weights [channels, FX, FY, channels of the previous layer]; default U(-1, 1);
        a function of these four integers works too
    stride, padding: an integer or one for each axis. Rows and columns that no filter reaches change nothing and get no error

    The other parameters, grid among them, are those of LIFLayer. n_neurons and neurons_shape are known once the previous layer is.
    Raises TypeError or ValueError for wrong parameters, filters larger than the padded grid, a previous layer without a grid.
    """

    _has_fields = True

    def __init__(self, previous_layer=None, filters_shape=None, tau_s=None, theta=None, delta_theta=None,
                 weight_initializer=None, max_n_spike=32, name="", *, stride=1, padding=0, slope_floor=SLOPE_FLOOR,
                 regularizer=None, grid=None):  # fmt: skip
        self.filters_shape = shape_of("filters_shape", filters_shape)
        self.stride, self.padding = pair("stride", stride, 1), pair("padding", padding, 0)
        super().__init__(
            previous_layer, self.filters_shape[2], tau_s, theta, delta_theta, weight_initializer, max_n_spike, name,
            slope_floor=slope_floor, regularizer=regularizer, grid=grid,
        )  # fmt: skip
        self.n_neurons = self.geometry = None
        if previous_layer is not None and previous_layer.neurons_shape is not None:
            self._connect()

    def _connect(self):
        """Works out the layer's own grid from that of the layer before."""
        self.geometry = convolve(grid_before(self), self.filters_shape, self.stride, self.padding)
        self.neurons_shape = self.geometry.post_shape
        self.n_neurons = self.geometry.n_post

    def attach(self, xp, dtype, generator):
        """Gives the layer its device, dtype and initial weights."""
        self._connect()
        if xp is np:
            warm_up_convolution(dtype)
        super().attach(xp, dtype, generator)

    @property
    def weight_shape(self):
        """(channels, FX, FY, channels of the previous layer)."""
        fx, fy, channels = self.filters_shape
        return channels, fx, fy, self.geometry.pre_c

    # ------------------------------------------------------------------------------------------------------------------
    def prepare(self, events, t_max):
        """What ops.bucket_sort, which is about to fill these events, can do for the forward pass; None if nothing."""
        return self._fast.prepare(events, t_max)

    def _simulate(self, events, t_max, space, sorts=False):
        """As of LIFLayer."""
        if self._fast.forward_conv(events, t_max, space, sorts):
            return
        ops.conv_spike_times(
            events, self._weights, self.geometry, self.neuron, t_max, space.times, space.counts, space.slopes, space.status,
            self._forward_scratch(events),
        )  # fmt: skip

    @property
    def _connections(self):
        return self.geometry

    def backward(self, errors, events, pre_errors=None, finish=True, in_parts=False, after_loss=False):
        """As of LIFLayer; self.gradient is [channels before, FY, FX, channels]."""
        return super().backward(errors, events, pre_errors, finish, in_parts, after_loss)

    def _backward(self, errors, events, pre_errors, space):
        """The backward pass with the general kernels."""
        if self.grid is None:
            self._sorted(space)
        gains, geometry, neuron = self._gains(errors, space), self.geometry, self.neuron
        later = None if self.xp is np else self._later_sums(space)
        factors = self._event_factors(events)
        if pre_errors is not None:
            ops.conv_presynaptic_errors(
                events, factors, self._weights, geometry, space.crossing_events, gains, later, neuron, pre_errors, space.sums
            )
        ops.conv_weight_gradient(
            events, factors, geometry, space.crossing_events, gains, later, neuron, self.gradient, self._gradient_scratch
        )

    def _make_gradient_scratch(self, batch):
        return ops.conv_gradient_scratch(self.xp, batch, self.geometry, self.dtype)

    def _forward_scratch(self, events):
        """Room for the forward pass on the CPU; None on CUDA."""
        if self.xp is not np:
            return None
        if self._scratch is None:
            self._scratch = ops.conv_forward_scratch(np, len(self._space.counts), self.geometry, self.dtype)
        return tuple(array[: events.batch] for array in self._scratch)
