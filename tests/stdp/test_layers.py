"""Layer-by-layer training over many images: the same winners and weights as the oracle, bit by bit."""

import unittest
from unittest import mock

import numpy as np

from bats import stdp
from bats.device import to_numpy
from bats.stdp import online_cuda, reference
from bats.stdp.rule import Rule
from tests.devices import Cpu, Cuda
from tests.stdp.cases import N_BINS, latencies, rows


class Training:
    n_images, shapes = 200, ((2, 8, 7), (5, 3, 3), (6, 4, 2), (6, 9, 3))  # input; (features, kernel, winners) of layers 1, 2; decision

    def layers(self, rule="exact"):
        """Two unsupervised layers and a decision layer; doublings within the images, thresholds that some cross."""
        shape, first, second, third = self.shapes
        common = {"n_bins": N_BINS, "rule": rule, "device": self.device}
        return (
            stdp.STDPConvolution(shape[0], *first[:2], 4, winners=first[2], radius=2, doubling=45, seed=1, **common),
            stdp.STDPConvolution(first[0], *second[:2], 7, winners=second[2], radius=1, doubling=70, max_rate=0.012, seed=2, **common),
            stdp.DecisionLayer(second[0], 3, third[1], third[2], seed=3, **common),
        )

    def images(self):
        rng = np.random.default_rng(5)
        labels = rng.integers(0, 3, self.n_images)
        prototypes = latencies(rng, 5, self.shapes[0])[[0, 3, 4]]
        noise = latencies(rng, self.n_images, self.shapes[0])
        images = np.where(rng.random(noise.shape) < 0.3, noise, prototypes[labels])
        images[[1, 11]] = N_BINS
        return images.astype(np.uint8), labels.astype(np.int32)

    def follow(self, layer, inputs, labels=None, order=None):
        """Trains the layer and the oracle; compares all winners, and the weights."""
        rates = layer.rates if labels is None else layer.rates[0]
        punish = None if labels is None else layer.rates[1]
        oracle = reference.Layer(to_numpy(layer.weights), layer.rule, rates, punish)
        order = np.arange(len(inputs)) if order is None else order
        host = to_numpy(inputs)
        expected = [oracle.learn(host[i], None if labels is None else labels[i]) for i in order]
        expected = np.array([rows(winners, layer.rule.winners) for winners in expected])
        if labels is None:
            found = to_numpy(layer.learn(inputs, order))
            np.testing.assert_array_equal(found, expected)
            np.testing.assert_array_equal(np.float32(layer.rates), oracle.rates)
            self.assertEqual(layer.counter, oracle.counter)
        else:
            found = to_numpy(layer.learn_images(inputs, labels, order))
            np.testing.assert_array_equal(found, expected[:, 0, 0] // layer.rule.per_class)
        np.testing.assert_array_equal(to_numpy(layer.weights), oracle.weights)
        return expected

    def test_training_layer_by_layer(self):
        for rule in ("exact", "rounded"):
            images, labels = self.images()
            first, second, third = self.layers(rule)
            inputs = stdp.pad(self.array(images), 1, N_BINS)
            order = np.random.default_rng(6).permutation(len(images))
            winners = self.follow(first, inputs, order=order)
            self.assertGreater(len(np.unique(winners[..., 0])), 3)  # several features won, and not always all of them
            self.assertTrue((winners[:, 0, 0] < 0).any())
            fired = first.forward(inputs, batch=64)
            oracle = reference.Layer(to_numpy(first.weights), first.rule, first.rates)
            for i in (0, 1, 7):
                expected = reference.latencies_of(oracle.fire(to_numpy(inputs[i]))[1] > 0)
                np.testing.assert_array_equal(to_numpy(fired[i]), expected)
            inputs = stdp.pad(stdp.pool(fired, 2, n_bins=N_BINS), 1, N_BINS)
            self.follow(second, inputs)
            inputs = stdp.pad(stdp.pool(second.forward(inputs), 2, 1, 0, N_BINS), 1, N_BINS)
            self.follow(third, inputs, labels)
            decisions = to_numpy(third.learn_images(inputs, labels))
            self.assertTrue((decisions == labels).any() and (decisions != labels).any())


class Checks(Training):
    def test_no_threshold_with_many_winners(self):
        """Rules that no standard layer combines: fire(None) with k > 1, and a threshold with reward."""
        images, labels = self.images()
        inputs = self.array(images[:40])
        self.follow(stdp.STDPConvolution(2, 5, 3, None, n_bins=N_BINS, winners=3, radius=1, seed=1, device=self.device), inputs)
        layer = stdp.DecisionLayer(2, 3, 2, 4, n_bins=N_BINS, seed=1, device=self.device)
        layer.rule = Rule(5.0, N_BINS, bounds=(0.2, 0.8), stabilizer=False, per_class=2)
        self.follow(layer, inputs, labels[:40])

    def test_layers_that_do_not_fit_into_shared_memory(self):
        """As on a GPU of four processors with little of it: lists, or lists and weights, in global memory (CUDA only)."""
        images, _ = self.images()
        inputs = self.array(images[:40])
        only_lists, both = (True, False), (False, False)
        for threshold, limit, inside in ((4, 1500, only_lists), (4, 1200, both), (None, 4400, only_lists), (None, 4000, both)):
            plan = online_cuda.plan(5, 18, 30, N_BINS, threshold is not None, 3, 4, limit)
            self.assertEqual((plan.weights_inside, plan.lists_inside), inside)
            layer = stdp.STDPConvolution(2, 5, 3, threshold, n_bins=N_BINS, winners=3, radius=1, seed=1, device=self.device)
            with mock.patch.object(online_cuda, "_device", return_value=(4, limit)):
                self.follow(layer, inputs)

    def test_rates_adapt_after_each_batch(self):
        images, labels = self.images()
        inputs, layer = self.array(images[:50]), stdp.DecisionLayer(2, 3, 4, 5, n_bins=N_BINS, seed=3, device=self.device)
        by_hand = stdp.DecisionLayer(2, 3, 4, 5, n_bins=N_BINS, seed=3, device=self.device)
        order = np.random.default_rng(1).permutation(50)
        found = to_numpy(layer.learn(inputs, labels[:50], batch_size=20, order=order))
        for part in (order[:20], order[20:40], order[40:]):
            decided = to_numpy(by_hand.learn_images(inputs, labels[:50], part))
            correct, silent = np.mean(decided == labels[part]), np.mean(decided < 0)
            by_hand.set_rates(round(correct * part.size), round((1 - correct - silent) * part.size), part.size)
            expected = np.outer([1 - correct - silent, correct], [1, 1]) * [[0.004, -0.003], [-0.004, 0.0005]]
            np.testing.assert_allclose(by_hand.rates, expected, rtol=1e-6, atol=1e-12)
        self.assertEqual(layer.rates, by_hand.rates)
        np.testing.assert_array_equal(to_numpy(layer.weights), to_numpy(by_hand.weights))
        self.assertEqual(found.shape, (50,))

    def test_evaluation(self):
        images, _ = self.images()
        layer = stdp.DecisionLayer(2, 3, 4, 5, n_bins=N_BINS, seed=3, device=self.device)
        oracle = reference.Layer(to_numpy(layer.weights), layer.rule, (0, 0))
        decisions, scores = map(to_numpy, layer.evaluate(self.array(images[:13]), batch=5))
        for i in range(13):
            values = oracle.fire(images[i])[1]
            np.testing.assert_array_equal(scores[i], values[-1].reshape(3, -1).max(axis=1))
            winners = reference.choose_winners(values, 1, 0)
            self.assertEqual(decisions[i], winners[0][0] // 4 if winners else -1)
        self.assertEqual(decisions[1], -1)

    def test_silent_image_clamps_only_without_labels(self):
        silent = self.array(np.full((1, 2, 5, 5), N_BINS, np.uint8))
        free = stdp.STDPConvolution(2, 3, 3, 1, n_bins=N_BINS, bounds=(0.2, 0.8), seed=1, device=self.device)
        rewarded = stdp.DecisionLayer(2, 3, 1, 3, n_bins=N_BINS, seed=1, device=self.device)
        before = to_numpy(rewarded.weights)
        self.assertEqual(to_numpy(free.learn(silent)).tolist(), [[[-1, -1, -1]]])
        self.assertEqual(to_numpy(rewarded.learn_images(silent, [0])).tolist(), [-1])
        np.testing.assert_array_equal(to_numpy(rewarded.weights), before)
        self.assertLessEqual(float(free.weights.max()), np.float32(0.8))
        self.assertGreater(before.max(), 0.8)

    def test_resuming_in_two_parts_changes_nothing(self):
        images, _ = self.images()
        inputs, done = self.array(images[:90]), []
        once, first, rest = self.layers()[0], self.layers()[0], self.layers()[0]
        winners = to_numpy(once.learn(inputs, progress=done.append))
        parts = [to_numpy(first.learn(inputs, np.arange(50)))]
        rest.load_state(first.state())
        parts.append(to_numpy(rest.learn(inputs, np.arange(50, 90))))
        np.testing.assert_array_equal(np.concatenate(parts), winners)
        np.testing.assert_array_equal(to_numpy(rest.weights), to_numpy(once.weights))
        self.assertEqual((sum(done), rest.counter, rest.rates), (90, once.counter, once.rates))

    def test_weights_that_decay_for_long_end_at_zero(self):
        """LTD of -0.9 w (1 - w), 100 times: below 2^-100, where float32 would underflow differently on each device."""
        images = np.full((100, 1, 1, 2), N_BINS, dtype=np.uint8)
        images[..., 0] = 0
        layer = stdp.STDPConvolution(1, 1, (1, 2), 0.1, n_bins=N_BINS, rates=(0.1, -0.9), doubling=None, seed=0, device=self.device)
        self.follow(layer, self.array(images))
        self.assertEqual(float(layer.weights[0, 0, 0, 1]), 0)
        self.assertGreater(float(layer.weights[0, 0, 0, 0]), 0.9)

    def test_empty_and_refusals(self):
        layer = self.layers()[0]
        images = self.array(np.zeros((2, 2, 5, 5), np.uint8))
        self.assertEqual(layer.learn(images, []).shape, (0, 3, 3))
        self.assertEqual(layer.forward(images[:0]).shape, (0, 5, 3, 3))
        self.assertRaises(ValueError, layer.learn, images, [2])
        self.assertRaises(ValueError, layer.learn, images[:, :1])
        self.assertRaises(ValueError, layer.load_state, {"weights": np.zeros(3), "rates": 0, "counter": 0})
        self.assertRaises(ValueError, stdp.STDPConvolution, 1, 1, 1, -2, device="cpu")
        self.assertRaises(ValueError, stdp.STDPConvolution, 1, 1, 1, 1, rule="best", device="cpu")
        self.assertRaises(ValueError, stdp.STDPConvolution, 1, 1, 1, 1, bounds=(1, 0), device="cpu")
        self.assertRaises(ValueError, stdp.STDPConvolution, 0, 1, 1, 1, device="cpu")
        decision = stdp.DecisionLayer(2, 3, 1, 3, device=self.device)
        self.assertRaises(ValueError, decision.learn_images, images, [0])


class TestDoubling(unittest.TestCase):
    def test_published_schedule(self):
        rule, rates = Rule(1.0, doubling=500), np.float32([[0.004, -0.003]] * 2)
        for n, expected in ((499, 0.004), (500, 0.008), (2500, 0.128), (2999, 0.128), (3000, 0.15), (60000, 0.15)):
            found, counter = rule.advance(rates, 0, n)
            np.testing.assert_allclose(found[0], [expected, -0.75 * expected], rtol=1e-6)
            self.assertEqual(counter, n % 500)


class TestPlan(unittest.TestCase):
    def test_every_neuron_is_covered_and_no_more_blocks_than_processors(self):
        layers = ((30, 150, 784), (250, 270, 196), (250, 1350, 49), (200, 6250, 16), (200, 12250, 4), (100, 1800, 9), (3, 5, 1))
        for n_features, size, n_places in layers:
            for has_threshold in (True, False) if n_places < 100 else (True,):
                for n_processors, limit in ((132, 231424), (16, 100_000)):
                    plan = online_cuda.plan(n_features, size, n_places, 15, has_threshold, 8, n_processors, limit)
                    self.assertLessEqual(plan.n_parts * plan.n_groups, n_processors)
                    self.assertGreaterEqual(plan.n_parts * plan.part_size, n_features)
                    self.assertLess((plan.n_parts - 1) * plan.part_size, n_features)
                    self.assertGreaterEqual(plan.n_groups * plan.group_size, n_places)
                    self.assertLess((plan.n_groups - 1) * plan.group_size, n_places)
                    self.assertLessEqual(plan.shared, limit)
                    self.assertEqual(plan.threads % 32, 0)


class OnCpu(Checks, Cpu):
    pass


class OnCuda(Checks, Cuda):
    pass


class FullSizeOnCuda(Training, Cuda):
    """The layers of mozafari2018 on CUDA; the oracle takes a while for each image."""

    n_images, shapes = 30, ((6, 28, 28), (30, 5, 5), (250, 3, 8), (250, 20, 5))


if __name__ == "__main__":
    unittest.main()
