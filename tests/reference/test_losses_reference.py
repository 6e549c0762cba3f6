"""Losses and optimizers of bats.reference: errors against finite differences, the rules for silence, known steps."""

import unittest

import numpy as np

from bats import reference


def difference(loss_of_times, times, step=1e-6):
    """Central differences of loss [B] for every finite time [B, N, K] -> [B, N, K]."""
    gradient = np.zeros(times.shape)
    for index in zip(*np.nonzero(np.isfinite(times)), strict=True):
        ahead, behind = times.copy(), times.copy()
        ahead[index] += step
        behind[index] -= step
        gradient[index] = (loss_of_times(ahead)[index[0]] - loss_of_times(behind)[index[0]]) / (2 * step)
    return gradient


def random_outputs(rng, n_batch=6, n_neurons=5, n_slots=3):
    """Output trains with a few silent neurons; neuron 0 always fires."""
    counts = rng.integers(0, n_slots + 1, (n_batch, n_neurons)).astype(np.int32)
    counts[:, 0] = n_slots
    times = np.sort(rng.uniform(0, 1, (n_batch, n_neurons, n_slots)), axis=2)
    return np.where(np.arange(n_slots) < counts[..., None], times, np.inf), counts


class Losses(unittest.TestCase):
    def setUp(self):
        self.rng = np.random.default_rng(0)
        self.times, self.counts = random_outputs(self.rng)
        self.labels = np.zeros(len(self.times), np.int32)

    def test_ttfs_errors_against_differences(self):
        for tau in (0.05, 0.3):
            _, errors = reference.ttfs_softmax_cross_entropy(self.times, self.labels, tau)
            expected = difference(
                lambda t, s=tau: reference.ttfs_softmax_cross_entropy(t, self.labels, s)[0], self.times
            )
            np.testing.assert_allclose(errors, expected, rtol=1e-6, atol=1e-8)
            self.assertGreater(np.abs(errors).max(), 0.1)

    def test_ttfs_value_and_the_rules_for_silence(self):
        times = np.array([[[0.1], [0.2]], [[np.inf], [0.2]], [[np.inf], [np.inf]], [[0.1], [900.0]]])
        loss, errors = reference.ttfs_softmax_cross_entropy(times, np.array([1, 0, 0, 0]), 0.1)
        np.testing.assert_allclose(loss, [np.log1p(np.e), 100, 100, 0], atol=1e-13)
        p = np.e / (1 + np.e)
        np.testing.assert_allclose(errors[..., 0], [[-p * 10, p * 10], [0, 0], [0, 0], [0, 0]], atol=1e-12)

    def test_spike_time_errors_against_differences(self):
        targets = self.rng.uniform(0, 1, self.times.shape[:2])
        loss, errors = reference.spike_time_loss(self.times, targets)
        expected = difference(lambda t: reference.spike_time_loss(t, targets)[0], self.times)
        np.testing.assert_allclose(errors, expected, rtol=1e-6, atol=1e-8)
        first = np.isfinite(self.times[..., 0])
        by_hand = [0.5 * ((t[on, 0] - g[on]) ** 2).sum() for t, g, on in zip(self.times, targets, first, strict=True)]
        np.testing.assert_allclose(loss, by_hand, rtol=1e-13)

    def test_spike_time_without_target(self):
        loss, errors = reference.spike_time_loss(np.array([[[1.0], [np.inf]]]), np.array([[np.inf, 2.0]]))
        self.assertEqual((loss[0], np.abs(errors).max()), (0, 0))

    def test_count_loss_by_hand(self):
        times, counts = np.array([[[0.1, 0.2, 0.3], [0.1, np.inf, np.inf], [np.inf] * 3]]), np.array([[3, 1, 0]])
        loss, errors = reference.spike_count_class_loss(counts, times, np.array([1]), 15, 2)
        self.assertEqual(loss[0], 0.5 * ((2 - 3) ** 2 + (15 - 1) ** 2 + (2 - 0) ** 2))
        np.testing.assert_array_equal(errors, [[[-1, -1, -1], [14, 0, 0], [0, 0, 0]]])


class Optimizers(unittest.TestCase):
    def test_gradient_descent(self):
        self.assertEqual(reference.gradient_descent(np.array(2.0), 0.1), -0.2)

    def test_first_steps_do_not_depend_on_the_scale(self):
        """At t = 1 both moments are the gradient itself: Adam moves by the learning rate, NAdam by 1.9 times that."""
        for gradient in (1e-3, -5.0):
            zero = np.zeros(1)
            delta, m, v = reference.adam(np.array([gradient]), zero, zero, 1, 0.1)
            np.testing.assert_allclose(delta, -0.1 * np.sign(gradient), rtol=1e-4)
            np.testing.assert_allclose([m[0], v[0]], [0.1 * gradient, 1e-3 * gradient**2], rtol=1e-12)
            delta, m, v = reference.nadam(np.array([gradient]), zero, zero, 1, 0.1)
            np.testing.assert_allclose(delta, -0.19 * np.sign(gradient), rtol=1e-4)
            np.testing.assert_allclose([m[0], v[0]], [0.1 * gradient, 1e-3 * gradient**2], rtol=1e-12)

    def test_two_steps_by_hand(self):
        """Gradients 1 then 3: m = 0.39, v = 0.009999; m_hat = 0.39 / 0.19, v_hat = 0.009999 / 0.001999."""
        v_hat = 0.009999 / 0.001999
        for step, ahead in ((reference.adam, 0.39 / 0.19), (reference.nadam, (0.9 * 0.39 + 0.1 * 3) / 0.19)):
            _, m, v = step(np.array(1.0), 0.0, 0.0, 1, 0.01)
            delta, _, _ = step(np.array(3.0), m, v, 2, 0.01)
            np.testing.assert_allclose(delta, -0.01 * ahead / (np.sqrt(v_hat) + 1e-8), rtol=1e-12)

    def test_both_find_the_minimum(self):
        for step in (reference.adam, reference.nadam):
            w, m, v = np.array([2.0, -3.0]), np.zeros(2), np.zeros(2)
            for t in range(1, 801):
                delta, m, v = step(2 * w * [1, 100], m, v, t, 0.02)
                w = w + delta
            self.assertLess(np.abs(w).max(), 1e-2)


if __name__ == "__main__":
    unittest.main()
