"""Random networks with convolution and pooling, in the form of the oracle, and the same as bats.Network."""

import math

import numpy as np

import bats
from bats import reference, reference_conv


def conv(rng, grid, filters, tau_s, stride=(1, 1), padding=(0, 0), max_n_spike=4):
    """A ConvLayer with filters (FX, FY, C_out) over a grid: mostly excitatory, so that most neurons fire once to a few times."""
    theta = rng.uniform(0.2, 0.8) * tau_s
    weights = rng.uniform(-0.4, 1.2, (filters[2], *filters[:2], grid[2]))
    return reference_conv.ConvLayer(grid, weights, tau_s, theta, rng.uniform(0.5, 1.5) * theta, max_n_spike, stride, padding)


def dense(rng, n_pre, n_post, tau_s, max_n_spike=6, gain=1.0):
    theta = rng.uniform(0.2, 0.8) * tau_s
    return reference.Layer(gain * rng.uniform(-0.5, 1.0, (n_post, n_pre)), tau_s, theta, rng.uniform(0.5, 1.5) * theta, max_n_spike)


def size(grid):
    return math.prod(grid)


def build(grid, layers, device, dtype="float64"):
    """bats.Network over an input of this grid with the parameters and weights of the oracle's layers."""
    network = bats.Network(device=device, dtype=dtype, seed=0)
    network.add_layer(bats.ConvInputLayer(grid, "input"), input=True)
    for n, layer in enumerate(layers):
        name, before = f"layer {n}", network.layers[-1]
        if isinstance(layer, reference_conv.PoolLayer):
            network.add_layer(bats.PoolingLayer(before, name, window=layer.window, stride=layer.stride))
            continue
        neuron = (layer.tau_s, layer.theta, layer.delta_theta)
        if isinstance(layer, reference_conv.ConvLayer):
            filters = (*layer.weights.shape[1:3], len(layer.weights))
            added = bats.ConvLIFLayer(before, filters, *neuron, max_n_spike=layer.max_n_spike, name=name,
                                      stride=layer.stride, padding=layer.padding)  # fmt: skip
        else:
            added = bats.LIFLayer(before, len(layer.weights), *neuron, max_n_spike=layer.max_n_spike, name=name)
        network.add_layer(added).weights = layer.weights
    return network


def with_weights(layers, trains):
    """The (layer, spikes) pairs of layers that simulate neurons."""
    return [pair for pair in zip(layers, trains, strict=True) if not isinstance(pair[0], reference_conv.PoolLayer)]


def distinct_times(times, trains):
    """Whether no two spikes that could meet are closer than rounding can tell apart (pre-spike and spike of a layer)."""
    for spikes in trains:
        for b in range(len(times)):
            both = np.sort(np.concatenate([times[b][np.isfinite(times[b])], spikes.times[b][np.isfinite(spikes.times[b])]]))
            gaps = np.diff(np.unique(both))
            if gaps.size and gaps.min() < 1e-12 * both.max():
                return False
        times = spikes.times
    return True
