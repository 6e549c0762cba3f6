"""Losses, read-outs, metrics and optimizers against their reference forms."""

import numpy as np

import bats
from bats import ops, reference
from bats.device import to_numpy
from tests.devices import Cpu, Cuda
from tests.ops.cases import random_trains


class Checks:
    def setUp(self):
        rng = np.random.default_rng(5)
        self.times, self.counts = random_trains(rng, 70, 43, 5, 1.0)
        self.times[3], self.counts[3] = np.inf, 0  # a silent sample
        self.labels = rng.integers(0, 43, 70).astype(np.int32)

    def compute(self, loss, wanted, dtype=np.float64):
        found = loss.compute_loss_and_errors(self.array(self.times, dtype), self.array(self.counts), wanted)
        return [to_numpy(array) for array in found]

    def compare(self, found, expected, dtype):
        tolerance = 1e-12 if dtype == np.float64 else 2e-5
        for value, reference_value in zip(found, expected, strict=True):
            self.assertEqual(value.dtype, dtype)
            np.testing.assert_allclose(value, reference_value, rtol=tolerance, atol=tolerance * max(1, np.abs(reference_value).max()))

    def test_losses(self):
        for dtype in (np.float64, np.float32):
            expected = reference.spike_count_class_loss(self.counts, self.times, self.labels, 15, 3)
            self.compare(self.compute(bats.SpikeCountClassLoss(15, 3), self.labels, dtype), expected, dtype)
            targets = np.where(np.arange(43) == self.labels[:, None], 15.0, 3.0)
            self.compare(self.compute(bats.SpikeCountLoss(), targets, dtype), expected, dtype)
            expected = reference.ttfs_softmax_cross_entropy(self.times, self.labels, 0.1)
            self.compare(self.compute(bats.TTFSSoftmaxCrossEntropy(0.1), self.labels, dtype), expected, dtype)
            targets = np.random.default_rng(0).uniform(0, 1, (70, 43))
            targets[:, 5] = np.inf
            expected = reference.spike_time_loss(self.times, targets)
            self.compare(self.compute(bats.SpikeTimeLoss(), targets, dtype), expected, dtype)

    def test_softmax_never_underflows(self):
        """Spikes hours apart and a tiny tau: the loss is the difference over tau."""
        self.times = np.array([[[1000.0], [2000.0]]])
        self.counts = np.ones((1, 2), np.int32)
        loss, errors = self.compute(bats.TTFSSoftmaxCrossEntropy(0.001), [1], np.float32)
        np.testing.assert_allclose(loss, [1e6], rtol=1e-6)
        np.testing.assert_allclose(errors[0, :, 0], [-1000, 1000], rtol=1e-6)

    def test_a_silent_label_teaches_nothing(self):
        """The loss is a constant then; with the other label the same spikes do get errors."""
        inf = np.inf
        self.times, self.counts = np.array([[[0.1], [0.2], [inf]]] * 2), np.array([[1, 1, 0]] * 2, np.int32)
        loss, errors = self.compute(bats.TTFSSoftmaxCrossEntropy(0.1), [2, 1])
        p = 1 / (1 + np.exp(-1))
        np.testing.assert_allclose(loss, [100, -np.log(1 - p)], rtol=1e-12)
        np.testing.assert_allclose(errors[:, :, 0], [[0, 0, 0], [-p / 0.1, p / 0.1, 0]], rtol=1e-12)

    def test_predictions(self):
        """Ties go to the earliest first spike, then to the lower index; a silent sample is -1."""
        inf = np.inf
        times = np.array([
            [[0.3, 0.4], [0.2, 0.9], [0.1, inf]],
            [[0.5, inf], [0.5, inf], [inf, inf]],
            [[inf, inf], [inf, inf], [inf, inf]],
            [[inf, inf], [0.4, inf], [0.3, inf]],
        ])  # fmt: skip
        counts = np.isfinite(times).sum(axis=2).astype(np.int32)
        times, counts = self.array(times), self.array(counts)
        np.testing.assert_array_equal(to_numpy(bats.SpikeCountClassLoss(1, 0).predict(times, counts)), [1, 0, -1, 2])
        np.testing.assert_array_equal(to_numpy(bats.TTFSSoftmaxCrossEntropy(1).predict(times, counts)), [2, 0, -1, 2])

    def test_bad_labels_and_targets(self):
        loss = bats.SpikeCountClassLoss(15, 3)
        for labels, message in (([43] * 70, "0 to 42, received 43"), ([-1] * 70, "received -1"), ([0] * 69, r"\(70,\), received \(69,\)")):
            with self.assertRaisesRegex(ValueError, message):
                self.compute(loss, labels)
        with self.assertRaisesRegex(TypeError, "expected integers, received dtype float64"):
            self.compute(loss, np.zeros(70))
        with self.assertRaisesRegex(ValueError, r"targets: expected shape \(70, 43\), received \(70, 3\)"):
            self.compute(bats.SpikeCountLoss(), np.zeros((70, 3)))
        with self.assertRaisesRegex(ValueError, "tau: expected a finite number > 0, received -1"):
            bats.TTFSSoftmaxCrossEntropy(-1)

    def test_metrics(self):
        for n in (1, 70, 5 * 70):
            with self.subTest(samples=n):
                labels, counts = np.resize(self.labels, n), np.resize(self.counts, (n, *self.counts.shape[1:]))
                loss = self.array(np.arange(float(n)), np.float32)
                predictions = np.where(np.arange(n) % 3 == 0, labels, -1).astype(np.int32)
                totals = self.array(np.zeros(4))
                for _ in range(2):
                    ops.accumulate_metrics(loss, self.array(predictions), self.array(counts), self.array(labels), totals)
                silent = (counts[np.arange(n), labels] == 0).sum()
                np.testing.assert_allclose(to_numpy(totals), 2 * np.array([n, n * (n - 1) / 2, -(-n // 3), silent]))

    def optimizers(self):
        yield bats.GradientDescentOptimizer(0.1), lambda g, m, v, t: (reference.gradient_descent(g, 0.1), m, v)
        yield bats.AdamOptimizer(0.1), lambda g, m, v, t: reference.adam(g, m, v, t, 0.1)
        yield bats.NAdamOptimizer(0.1), lambda g, m, v, t: reference.nadam(g, m, v, t, 0.1)

    def test_optimizers(self):
        """Deltas over several steps, gradients as transposed views, as the network hands them out; None is left out."""
        for optimizer, step in self.optimizers():
            rng, m, v = np.random.default_rng(0), 0.0, 0.0
            for t in range(1, 6):
                gradient = rng.normal(size=(301, 77)) * 10.0 ** rng.integers(-6, 3)
                expected, m, v = step(gradient, m, v, t)
                deltas = optimizer.step([None, self.array(gradient.T).T])
                self.assertIsNone(deltas[0])
                np.testing.assert_allclose(to_numpy(deltas[1]), expected, rtol=1e-12)

    def test_update_equals_step(self):
        for optimizer, _ in self.optimizers():
            other = type(optimizer)(0.1)
            gradient = self.array(np.random.default_rng(1).normal(size=(40, 30)), np.float32)
            weights, updated = (self.array(np.ones((40, 30)), np.float32) for _ in range(2))
            for _ in range(3):
                weights += optimizer.step([gradient])[0]
                other.update([updated], [gradient])
            np.testing.assert_array_equal(to_numpy(updated), to_numpy(weights))

    def test_learning_rate_and_state(self):
        """A state loaded into a fresh optimizer goes on with the same bits; a state that does not fit is named."""
        gradient = self.array(np.random.default_rng(2).normal(size=(6, 5)))
        for kind in (bats.AdamOptimizer, bats.NAdamOptimizer, bats.GradientDescentOptimizer):
            optimizer, other = kind(0.1), kind(0.5)
            optimizer.step([gradient])
            optimizer.learning_rate = 0.01
            other.load_state(optimizer.state())
            self.assertEqual(other.learning_rate, 0.01)
            expected = to_numpy(optimizer.step([gradient])[0])
            np.testing.assert_array_equal(to_numpy(other.step([gradient])[0]), expected)
        with self.assertRaisesRegex(ValueError, "one of GradientDescentOptimizer, received one of AdamOptimizer"):
            other.load_state(bats.AdamOptimizer(0.1).state())
        with self.assertRaisesRegex(ValueError, "missing kind, learning_rate, steps"):
            other.load_state({})
        with self.assertRaisesRegex(ValueError, "learning_rate: expected a finite number >= 0, received -1"):
            optimizer.learning_rate = -1

    def test_wrong_arrays_are_named(self):
        good = self.array(np.zeros((3, 4)))
        schedule = self.array(np.array([0.1, 0, 1, 1]))
        cases = (
            (self.array(np.zeros((4, 3))), ValueError, r"out: expected shape \(3, 4\), received \(4, 3\)"),
            (self.array(np.zeros((3, 4)), np.float32), TypeError, "out: expected dtype float64, received float32"),
            (self.array(np.zeros((4, 3))).T, ValueError, "out: expected a C-contiguous array, received strides"),
            ([[0.0] * 4] * 3, TypeError, "out: expected a NumPy or CuPy array, received list"),
        )
        for out, error, message in cases:
            with self.assertRaisesRegex(error, message):
                ops.gradient_descent(good, schedule, out)


class OnCpu(Checks, Cpu):
    pass


class OnCuda(Checks, Cuda):
    def test_mixed_devices_are_named(self):
        with self.assertRaisesRegex(TypeError, r"out: expected a CuPy \(CUDA\) array, received NumPy"):
            ops.gradient_descent(self.array(np.zeros(3)), self.array(np.zeros(4)), np.zeros(3))
