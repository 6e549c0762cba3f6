"""Convolution and pooling in plain NumPy float64: the oracle of the tests, an addition to bats/reference.py.

A convolution is a dense layer whose weights are tied: the filter is unrolled to a matrix, bats.reference does the rest, and
the gradient of the matrix is folded back. Pooling sorts the spikes of a window into one train and remembers where each came
from. Nothing here is fast, and nothing is shared with the kernels. Neuron (ix, iy, ic) has the index (ix * Y + iy) * C + ic.
"""

import itertools
from dataclasses import dataclass, field

import numpy as np

from bats import reference


@dataclass
class ConvLayer:
    """A convolutional LIF layer over a grid [X, Y, C]: weights [C_out, FX, FY, C]; stride, padding: (x, y)."""

    grid: tuple
    weights: np.ndarray
    tau_s: float
    theta: float
    delta_theta: float
    max_n_spike: int
    stride: tuple = (1, 1)
    padding: tuple = (0, 0)

    @property
    def out_grid(self):
        filters, size = self.weights.shape[0], self.weights.shape[1:3]
        return (*((n + 2 * p - f) // s + 1 for n, f, s, p in zip(self.grid, size, self.stride, self.padding, strict=False)), filters)

    def taps(self):
        """(post position, pre-position, filter element) of every connection, positions as ix * Y + iy."""
        (_, fx, fy, _), (nx, ny, _), (ox, oy, _) = self.weights.shape, self.grid, self.out_grid
        for px, py, ax, ay in itertools.product(range(ox), range(oy), range(fx), range(fy)):
            ix, iy = px * self.stride[0] + ax - self.padding[0], py * self.stride[1] + ay - self.padding[1]
            if 0 <= ix < nx and 0 <= iy < ny:
                yield px * oy + py, ix * ny + iy, (ax, ay)

    def unrolled(self):
        """The dense layer with the same connections: weights [N_out, N_in]."""
        (ox, oy, filters), (nx, ny, channels) = self.out_grid, self.grid
        dense = np.zeros((ox * oy, filters, nx * ny, channels))
        for post, pre, (ax, ay) in self.taps():
            dense[post, :, pre] = self.weights[:, ax, ay]
        dense = dense.reshape(ox * oy * filters, nx * ny * channels)
        return reference.Layer(dense, self.tau_s, self.theta, self.delta_theta, self.max_n_spike)

    def folded(self, gradient):
        """dL/d(dense weights) [N_out, N_in] -> dL/dweights [C_out, FX, FY, C]: a filter element is the sum of its copies."""
        (ox, oy, filters), (nx, ny, channels) = self.out_grid, self.grid
        gradient = gradient.reshape(ox * oy, filters, nx * ny, channels)
        total = np.zeros_like(self.weights)
        for post, pre, (ax, ay) in self.taps():
            total[:, ax, ay] += gradient[post, :, pre]
        return total


@dataclass
class PoolLayer:
    """Pooling over a grid [X, Y, C]: window, stride: (x, y), windows do not overlap."""

    grid: tuple
    window: tuple = (2, 2)
    stride: tuple = (2, 2)

    @property
    def out_grid(self):
        return (*((n - w) // s + 1 for n, w, s in zip(self.grid, self.window, self.stride, strict=False)), self.grid[2])


@dataclass
class PooledSpikes:
    """Merged trains [B, N_out, K] and, for each spike, the index of its origin in [N_in * K_in] (-1: empty slot)."""

    times: np.ndarray
    counts: np.ndarray
    origins: np.ndarray
    shape: tuple = field(default=())  # of the trains that were pooled


def pool(times, counts, layer):
    """Merges trains [B, N_in, K_in] by time; equal times in the order of neuron, then slot."""
    (_, ny, channels), (ox, oy, _), (wx, wy) = layer.grid, layer.out_grid, layer.window
    n_slots = times.shape[2]
    times = np.where(np.arange(n_slots) < counts[..., None], times, np.inf)
    shape = (len(times), ox * oy * channels, wx * wy * n_slots)
    pooled = PooledSpikes(np.full(shape, np.inf), np.zeros(shape[:2], np.int32), np.full(shape, -1), times.shape)
    for px, py, c in itertools.product(range(ox), range(oy), range(channels)):
        corner = px * layer.stride[0], py * layer.stride[1]
        neurons = [((corner[0] + ax) * ny + corner[1] + ay) * channels + c for ax in range(wx) for ay in range(wy)]
        flat = times[:, neurons].reshape(len(times), -1)
        index = (np.array(neurons)[:, None] * n_slots + np.arange(n_slots)).ravel()
        order = np.argsort(flat, axis=1, kind="stable")
        i = (px * oy + py) * channels + c
        pooled.times[:, i] = np.take_along_axis(flat, order, axis=1)
        pooled.counts[:, i] = np.isfinite(flat).sum(axis=1)
        pooled.origins[:, i] = np.where(np.isfinite(pooled.times[:, i]), index[order], -1)
    return pooled


def unpool(errors, pooled):
    """dL/dt of pooled spikes -> dL/dt [B, N_in, K_in] of the spikes they were; 0 for those outside all windows."""
    total = np.zeros((pooled.shape[0], pooled.shape[1] * pooled.shape[2]))
    for b in range(pooled.shape[0]):
        on = pooled.origins[b] >= 0
        total[b, pooled.origins[b][on]] = errors[b][on]
    return total.reshape(pooled.shape)


def forward_network(times, counts, layers, t_max=np.inf, **options):
    """Spikes of every layer. layers: list of ConvLayer, PoolLayer and bats.reference.Layer."""
    trains = []
    for layer in layers:
        if isinstance(layer, PoolLayer):
            trains.append(pool(times, counts, layer))
        else:
            dense = layer.unrolled() if isinstance(layer, ConvLayer) else layer
            trains += reference.forward_network(times, counts, [dense], t_max, **options)
        times, counts = trains[-1].times, trains[-1].counts
    return trains


def backward_network(errors, times, counts, layers, trains):
    """From errors of the last layer: (weight gradients, None for pooling; errors of each layer's input spikes)."""
    gradients, pre_errors = [None] * len(layers), [None] * len(layers)
    for n in reversed(range(len(layers))):
        pre = (times, counts) if n == 0 else (trains[n - 1].times, trains[n - 1].counts)
        layer = layers[n]
        if isinstance(layer, PoolLayer):
            errors = unpool(errors, trains[n])
        else:
            dense = layer.unrolled() if isinstance(layer, ConvLayer) else layer
            gradient, errors = reference.backward_layer(errors, trains[n], *pre, dense.weights)
            gradients[n] = layer.folded(gradient) if isinstance(layer, ConvLayer) else gradient
        pre_errors[n] = errors
    return gradients, pre_errors
