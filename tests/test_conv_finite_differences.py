"""The exact gradient of conv-pool-conv-dense networks against central finite differences of the network's own forward pass.

float64, fourth order, as in tests/reference/test_finite_differences.py. A network in which a perturbed copy has other spikes, or in another
order, is not differentiable there and drawn again.
"""

import numpy as np

from bats.device import to_numpy
from bats.reference_conv import PoolLayer
from tests.conv_networks import build, conv, dense, size
from tests.devices import Cpu, Cuda
from tests.oracle import causal_order
from tests.reference.random_networks import random_trains
from tests.reference.test_finite_differences import OFFSETS, STENCIL, TOLERANCE, loss_and_errors, relative_error

STEP = 1e-5  # of the weight unit, and of tau_s for times


class Emitted:
    """Times of output spikes, as loss_and_errors takes them."""

    def __init__(self, times):
        self.times = times


class Checks:
    def run_network(self, network, times, counts):
        network.forward(times, counts, training=True)
        trains = [to_numpy(layer.spike_trains[0]) for layer in network.layers[1:]]
        order, before = [], times
        for layer, found in zip(network.layers[1:], trains, strict=True):
            if layer.trainable:
                order += causal_order(before, [found])
            before = found
        return trains[-1], order

    def difference(self, network, times, counts, targets, base, perturb):
        """dL/dp for one parameter: perturb(offset) changes it and returns the input times; None: another structure."""
        losses = []
        for offset in OFFSETS:
            output, order = self.run_network(network, perturb(offset), counts)
            if order != base:
                return None
            losses.append(loss_and_errors(Emitted(output), targets)[0].mean())
        perturb(0.0)
        return float(np.array(losses) @ STENCIL)

    def compare(self, rng, grid, make_layers):
        """-> relative errors of the gradients of every layer and of the input errors; None if not differentiable."""
        tau_s = float(10 ** rng.uniform(-3, 0))
        times, counts = random_trains(rng, 1, size(grid), 1, 4 * tau_s)
        network = build(grid, make_layers(rng, tau_s), self.device)
        output, base = self.run_network(network, times, counts)
        if np.isfinite(output).sum() < 2:
            return None
        targets = rng.uniform(0, 4 * tau_s, output.shape)
        _, errors = loss_and_errors(Emitted(output), targets)
        gradients = [None if g is None else to_numpy(g).copy() for g in network.backward(errors, input_errors=True)]
        input_errors, found = to_numpy(network.input_errors), []
        for layer, gradient in zip(network.layers, gradients, strict=True):
            if gradient is None:
                continue
            expected, weights = np.zeros_like(gradient), to_numpy(layer.weights)
            for place in np.ndindex(weights.shape):

                def perturb(offset, place=place, layer=layer, weights=weights):
                    moved = weights.copy()
                    moved[place] += offset * STEP
                    layer.weights = moved
                    return times

                change = self.difference(network, times, counts, targets, base, perturb)
                if change is None:
                    return None
                expected[place] = change / STEP
            found.append(relative_error(gradient, expected))
        expected = np.zeros_like(input_errors)
        for place in zip(*np.nonzero(np.isfinite(times)), strict=True):

            def shift(offset, place=place):
                moved = times.copy()
                moved[place] += offset * STEP * tau_s
                return moved

            change = self.difference(network, times, counts, targets, base, shift)
            if change is None:
                return None
            expected[place] = change / (STEP * tau_s)
        return [*found, relative_error(input_errors, expected)]

    def test_conv_pool_conv_dense(self):
        grid = (6, 5, 1)

        def make(rng, tau_s):
            first = conv(rng, grid, (2, 2, 2), tau_s, max_n_spike=2)
            pool = PoolLayer(first.out_grid)
            second = conv(rng, pool.out_grid, (2, 2, 2), tau_s, (1, 2), (0, 1), max_n_spike=3)
            return [first, pool, second, dense(rng, size(second.out_grid), 2, tau_s, max_n_spike=3)]

        rng, found, drawn = np.random.default_rng(1), [], 0
        while len(found) < 4:
            drawn += 1
            self.assertLess(drawn, 60, "too many networks drawn again: nothing was tested")
            errors = self.compare(rng, grid, make)
            if errors is not None:
                found.append(errors)
        self.assertLess(np.max(found), TOLERANCE, found)


class OnCpu(Checks, Cpu):
    pass


class OnCuda(Checks, Cuda):
    pass
