"""bats.Network on every device against bats.reference: spike times, counts, overflows and gradients of whole networks.

Everything here is float64: both are the same mathematics in another order of operations, so they agree to 1e-9 as long
as no spike grazes the threshold (rounding is amplified by 1/x^2, docs/theory.md, section 3): networks in which one does
are left out. For float32 see test_float32_against_oracle.py.
"""

import unittest

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import bats
from bats import reference
from bats.device import cuda_reason, to_numpy
from tests.oracle import TOLERANCE, build, difference, random_errors, time_differences, well_conditioned
from tests.reference.random_networks import random_layers, random_trains


class AgainstOracle:
    device = None

    def check(self, times, counts, layers, t_max=np.inf, seed=0, tolerance=TOLERANCE):
        """Compares all layers -> the trains of the oracle, or None if a spike grazes."""
        trains = reference.forward_network(times, counts, layers, t_max)
        if not well_conditioned(layers, trains):
            return None
        tau_s = layers[0].tau_s
        network = build(layers, times.shape[1], self.device)
        network.forward(times, counts, t_max, training=True)
        errors = random_errors(np.random.default_rng(seed), trains[-1], tau_s)
        gradients = network.backward(errors, input_errors=True)
        expected, pre_errors = reference.backward_network(errors, times, counts, layers, trains)
        status = network.status()
        for n, (layer, spikes) in enumerate(zip(network.layers[1:], trains, strict=True)):
            found_times, found_counts = layer.spike_trains
            np.testing.assert_array_equal(to_numpy(found_counts), spikes.counts)
            np.testing.assert_array_equal(np.isfinite(to_numpy(found_times)), np.isfinite(spikes.times))
            self.assertLess(time_differences(found_times, spikes.times, tau_s).max(initial=0), tolerance)
            self.assertLess(difference(gradients[n + 1], expected[n]), tolerance)
            totals = status[layer.name]
            self.assertEqual(totals["spikes"], spikes.counts.sum())
            self.assertEqual(totals["silent"], (spikes.counts == 0).sum())
            self.assertEqual(totals["overflow"], spikes.overflow.sum())
            self.assertEqual((totals["non_finite"], totals["bounded"]), (0, 0))
        self.assertIsNone(gradients[0])
        self.assertLess(difference(network.input_errors, pre_errors[0]), tolerance)
        return trains

    def check_random(self, seed, sizes, n_batch=3, n_slots=3, max_n_spike=8, t_max=np.inf, span=4, change=None):
        """The first well-conditioned network that follows from the seed; change(times, counts, layers) may edit it."""
        rng = np.random.default_rng(seed)
        for _ in range(20):
            tau_s = float(10 ** rng.uniform(-3, 0))
            times, counts = random_trains(rng, n_batch, sizes[0], n_slots, span * tau_s)
            layers = random_layers(rng, sizes, tau_s, max_n_spike)
            if change is not None:
                times, counts, layers = change(times, counts, layers)
            trains = self.check(times, counts, layers, t_max * tau_s, seed)
            if trains is not None:
                return trains
        self.fail("no well-conditioned network in 20")

    # ------------------------------------------------------------------------------------------------------------------
    def test_one_to_three_layers(self):
        for seed, sizes in enumerate(([5, 7], [5, 6, 4], [5, 6, 5, 3])):
            trains = self.check_random(seed, sizes)
            self.assertTrue(all(spikes.counts.any() for spikes in trains))

    def test_many_neurons(self):
        """More neurons than a vector, a warp or a group of the kernels, and an odd number of them."""
        self.check_random(10, [40, 131, 3], n_batch=5, n_slots=2, max_n_spike=4)

    def test_batch_of_one(self):
        self.check_random(11, [6, 5, 4], n_batch=1)

    def test_time_to_first_spike(self):
        trains = self.check_random(12, [6, 8, 4], max_n_spike=1)
        self.assertEqual(trains[0].counts.max(), 1)

    def test_t_max(self):
        trains = self.check_random(13, [6, 8, 4], t_max=1.5)
        self.assertTrue(trains[0].counts.any())

    def test_ties(self):
        """Input spikes on a coarse grid, and twin neurons that spike together in the hidden layer."""

        def change(times, counts, layers):
            grid = layers[0].tau_s / 2
            layers[0].weights[1] = layers[0].weights[0]
            return np.ceil(times / grid) * grid, counts, layers

        trains = self.check_random(14, [8, 6, 4], change=change)
        np.testing.assert_array_equal(trains[0].times[:, 0], trains[0].times[:, 1])
        self.assertTrue(trains[0].counts[:, 0].any())

    def test_input_at_the_time_of_a_spike(self):
        """Strict causality, where it can be known to the last bit: both inputs at 0 count, one at t_k does not."""
        layer = reference.Layer(np.array([[1.0, 0.5]]), 0.5, 3 / 16, 3 / 32, 1)
        times, counts = np.array([[[0.0], [np.inf]]]), np.array([[1, 0]], np.int32)
        first, _ = build([layer], 2, self.device).forward(times, counts)
        times[0, 1, 0], counts[0, 1] = to_numpy(first)[0, 0, 0], 1
        network = build([layer], 2, self.device)
        network.forward(times, counts, training=True)
        gradient = to_numpy(network.backward(np.ones((1, 1, 1)), input_errors=True)[1])
        np.testing.assert_allclose(gradient, [[-1 / 2, 0]], rtol=1e-12)
        np.testing.assert_allclose(to_numpy(network.input_errors)[0, :, 0], [1, 0], rtol=1e-12)

    def test_silent_neurons(self):
        def change(times, counts, layers):
            layers[0].weights[:3] = -np.abs(layers[0].weights[:3])
            return times, counts, layers

        trains = self.check_random(15, [6, 6, 4], change=change)
        self.assertFalse(trains[0].counts[:, :3].any())

    def test_silent_network(self):
        def change(times, counts, layers):
            layers[0].weights[:] = -1
            return times, counts, layers

        self.assertFalse(self.check_random(16, [6, 6, 4], change=change)[1].counts.any())

    def test_empty_input(self):
        def change(times, counts, layers):
            times[0], counts[0] = np.inf, 0  # the first of the samples
            return times, counts, layers

        self.check_random(17, [6, 6, 4], change=change)
        layers = random_layers(np.random.default_rng(0), [6, 3], 0.1)
        self.assertIsNotNone(self.check(np.full((2, 6, 1), np.inf), np.zeros((2, 6), np.int32), layers))

    def test_full_buffers(self):
        def change(times, counts, layers):
            for layer in layers:
                layer.weights, layer.max_n_spike = np.abs(layer.weights), 2
            return times, counts, layers

        trains = self.check_random(18, [8, 6, 4], change=change)
        self.assertTrue(trains[0].overflow.any() and trains[1].overflow.any())

    def test_thousand_tau_s(self):
        """Inputs over 1000 tau_s, with long pauses in which everything decays, and every spike still right."""
        trains = self.check_random(19, [12, 6, 4], n_slots=150, max_n_spike=250, span=1000)
        self.assertGreater(np.where(np.isfinite(trains[1].times), trains[1].times, 0).max(), 1e3 * 5e-4)

    def test_reused_network_forgets_the_last_batch(self):
        rng = np.random.default_rng(20)
        layers = random_layers(rng, [6, 6, 4], 0.1)
        network = build(layers, 6, self.device)
        for n_batch, n_slots in ((4, 3), (1, 1), (6, 2)):
            times, counts = random_trains(rng, n_batch, 6, n_slots, 0.4)
            found, _ = network.forward(times, counts)
            expected = reference.forward_network(times, counts, layers)[-1].times
            np.testing.assert_allclose(to_numpy(found), expected, rtol=1e-9)

    @settings(max_examples=60, deadline=None, derandomize=True, database=None)
    @given(
        sizes=st.lists(st.integers(1, 9), min_size=2, max_size=4),
        n_batch=st.integers(1, 4),
        n_slots=st.integers(1, 5),
        max_n_spike=st.integers(1, 12),
        span=st.sampled_from([0.5, 4.0, 60.0]),
        t_max=st.sampled_from([1.0, 10.0, np.inf]),
        grid=st.booleans(),
        seed=st.integers(0, 2**32 - 1),
    )
    def test_random_shapes(self, sizes, n_batch, n_slots, max_n_spike, span, t_max, grid, seed):
        rng = np.random.default_rng(seed)
        tau_s = float(10 ** rng.uniform(-3, 0))
        times, counts = random_trains(rng, n_batch, sizes[0], n_slots, span * tau_s)
        if grid:
            times = np.ceil(times / tau_s * 4) * tau_s / 4
        layers = random_layers(rng, sizes, tau_s, max_n_spike)
        assume(self.check(times, counts, layers, t_max * tau_s, seed) is not None)

    def test_training_steps(self):
        """Five steps of every optimizer under two losses end at the oracle's weights."""
        labels = np.array([0, 1, 2, 1])
        losses = [
            (bats.SpikeCountClassLoss(7, 1),
             lambda s: reference.spike_count_class_loss(s.counts, s.times, labels, 7, 1)),
            (bats.TTFSSoftmaxCrossEntropy(0.05),
             lambda s: reference.ttfs_softmax_cross_entropy(s.times, labels, 0.05)),
        ]  # fmt: skip
        optimizers = [
            (bats.GradientDescentOptimizer, lambda g, m, v, t, lr: (reference.gradient_descent(g, lr), m, v)),
            (bats.AdamOptimizer, reference.adam),
            (bats.NAdamOptimizer, reference.nadam),
        ]
        for (loss, loss_oracle), (optimizer, step) in ((a, b) for a in losses for b in optimizers):
            with self.subTest(loss=type(loss).__name__, optimizer=optimizer.__name__):
                rng = np.random.default_rng(23)
                times, counts = random_trains(rng, 4, 8, 2, 0.2)
                layers = random_layers(rng, [8, 6, 3], 0.05)
                before = [layer.weights.copy() for layer in layers]
                network, rate = build(layers, 8, self.device), 1e-3
                ours, moments = optimizer(rate), [(0.0, 0.0)] * 2
                for t in range(1, 6):
                    found = self.training_step(network, ours, loss, labels, times, counts)
                    trains = reference.forward_network(times, counts, layers)
                    expected, errors = loss_oracle(trains[-1])
                    np.testing.assert_allclose(found, expected, rtol=1e-9)
                    gradients, _ = reference.backward_network(errors, times, counts, layers, trains)
                    for n, layer in enumerate(layers):
                        delta, *moments[n] = step(gradients[n], *moments[n], t, rate)
                        layer.weights = layer.weights + delta
                for n, layer in enumerate(layers):
                    moved = layer.weights - before[n]
                    self.assertGreater(np.abs(moved).max(), 1e-4)
                    self.assertLess(difference(to_numpy(network.layers[n + 1].weights) - before[n], moved), 1e-8)

    def training_step(self, network, optimizer, loss, labels, times, counts):
        """One step -> loss [B]."""
        value, errors = loss.compute_loss_and_errors(*network.forward(times, counts, training=True), labels)
        network.apply_deltas(optimizer.step(network.backward(errors)))
        return to_numpy(value)


class OnCpu(AgainstOracle, unittest.TestCase):
    device = "cpu"


@unittest.skipIf(cuda_reason() is not None, f"no CUDA device: {cuda_reason()}")
class OnCuda(AgainstOracle, unittest.TestCase):
    device = "cuda"


if __name__ == "__main__":
    unittest.main()
