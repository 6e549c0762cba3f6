"""The gradient of networks on a grid against finite differences of their surrogate, in float64.

The surrogate is the network with its rounding replaced by what it did to each spike: emitted time = crossing + a frozen offset, and
a spike that was due = the one before it + a frozen distance. Which input comes before which crossing is frozen too.
"""

import itertools

import numpy as np

import bats
from bats import reference_grid
from bats.device import to_numpy
from bats.discretization import ROUNDINGS
from tests.devices import Cpu, Cuda
from tests.discretization.test_grid_layers import T_MAX, random_layer
from tests.reference.random_networks import random_trains

STEP = 1e-5


def emitted(weights, pre, base_pre, base, layer):
    """Emitted times [K] of one neuron of the surrogate: pre [n], weights [n] are moved, base_pre [n] and base are not."""
    tau, times = 2 * layer.tau_s, []
    for time, crossing, due in zip(*base, strict=True):
        if due:
            times.append(times[-1] + (time - base[0][len(times) - 1]))
            continue
        on, t = base_pre < crossing, crossing
        neuron = reference_grid.Neuron(weights[on], pre[on], layer.tau_s, layer.delta_theta, times)
        for _ in range(50):  # Newton; the resets that count are those before, and all of them are
            age = t - neuron.t
            reset = layer.delta_theta * sum(np.exp(-(t - own) / tau) for own in times)
            u = (neuron.w * tau * (np.exp(-age / tau) - np.exp(-age / layer.tau_s))).sum() - reset
            slope = (neuron.w * (2 * np.exp(-age / layer.tau_s) - np.exp(-age / tau))).sum() + reset / tau
            step = (layer.theta - u) / slope
            t += step
            if abs(step) < 1e-15:
                break
        times.append(t + (time - crossing))
    return times


def loss(times, counts, layers, moved, base_times, trains, errors):
    """sum of errors x emitted times of the last layer; times, moved: moved inputs and weights."""
    pre, base_pre, n_pre = times, base_times, counts
    for layer, weights, spikes in zip(layers, moved, trains, strict=True):
        post = np.full(spikes.times.shape, np.inf)
        for s, i in np.ndindex(spikes.counts.shape):
            on = np.arange(pre.shape[2]) < n_pre[s][:, None]
            w = np.broadcast_to(weights[i][:, None], on.shape)[on]
            n = spikes.counts[s, i]
            base = spikes.times[s, i, :n], spikes.crossings[s, i, :n], spikes.due[s, i, :n]
            post[s, i, :n] = emitted(w, pre[s][on], base_pre[s][on], base, layer)
        pre, base_pre, n_pre = post, spikes.times, spikes.counts
    return (np.where(np.isfinite(post), post, 0) * errors).sum()


class Checks:
    def test_gradients(self):
        rng = np.random.default_rng(0)
        n_due = n_resets = 0
        for rounding, dt in itertools.product(ROUNDINGS, (0.05, 0.3)):
            times, counts = random_trains(rng, 1, 4, 2, 3.0)
            grids = [bats.TimeGrid(dt, rounding), bats.TimeGrid(0.7 * dt, rounding)]
            sizes = ((4, 5), (5, 3))
            while True:  # no crossing grazes the threshold
                layers = [random_layer(rng, *size, n_slots=6) for size in sizes]
                trains, pre = [], (times, counts)
                for layer, grid in zip(layers, grids, strict=True):
                    trains.append(reference_grid.forward_layer(*pre, layer, grid, T_MAX))
                    pre = trains[-1].times, trains[-1].counts
                slopes = np.concatenate([spikes.slopes[np.isfinite(spikes.times)] for spikes in trains])
                if slopes.min() > 0.1 and min(spikes.counts.sum() for spikes in trains) > 5:
                    break
            n_due += sum(spikes.due.sum() for spikes in trains)
            n_resets += sum((spikes.counts > 1).sum() for spikes in trains)
            network = bats.Network([bats.InputLayer(4)], device=self.device, dtype="float64")
            for n, (layer, grid) in enumerate(zip(layers, grids, strict=True)):
                added = bats.LIFLayer(None, len(layer.weights), 1.0, 0.4, 0.3, max_n_spike=6, name=f"{n}", slope_floor=0, grid=grid)
                network.add_layer(added).weights = layer.weights
            found, _ = network.forward(times, counts, max_simulation=T_MAX, training=True)
            np.testing.assert_array_equal(to_numpy(found), trains[-1].times)
            errors = rng.normal(size=found.shape)
            gradients = [to_numpy(gradient) for gradient in network.backward(errors, input_errors=True)[1:]]
            values = [times, *(layer.weights for layer in layers)]
            for which, gradient in enumerate((to_numpy(network.input_errors), *gradients)):
                expected = np.zeros_like(gradient)
                for place in zip(*np.nonzero(np.isfinite(values[which])), strict=True):
                    for offset, share in ((-2, 1), (-1, -8), (1, 8), (2, -1)):  # fourth-order central difference
                        moved = [value.copy() for value in values]
                        moved[which][place] += offset * STEP
                        expected[place] += share * loss(moved[0], counts, layers, moved[1:], times, trains, errors) / (12 * STEP)
                gradient = np.where(np.isfinite(values[which]), gradient, 0)
                self.assertGreater(np.linalg.norm(expected), 0)
                self.assertLess(np.linalg.norm(gradient - expected) / np.linalg.norm(expected), 1e-6, f"{rounding} {dt} {which}")
        self.assertGreater(n_due, 5)
        self.assertGreater(n_resets, 10)


class OnCpu(Checks, Cpu):
    pass


class OnCuda(Checks, Cuda):
    pass
