"""Cases small enough to be worked out by hand, and the edges of the spike rule.

With tau = 1 (tau_s = 1/2), one input spike at 0 and w = 1: u(t) = y - y^2, y = e^{-t}. theta = 3/16 is reached at
y = 3/4 (slope 3/8); after a reset by 3/32, u = 7/8 y - y^2 reaches it again at y = 1/2 (slope 1/16), then never again.
"""

import unittest

import numpy as np

from bats import reference

THETA, DELTA_THETA = 3 / 16, 3 / 32
FIRST, SECOND = np.log(4 / 3), np.log(2)


def one_neuron(times, weights, theta=THETA, delta_theta=DELTA_THETA, max_n_spike=4, **options):
    """One neuron with tau_s = 1/2; times: one list per input, weights: one number per input."""
    n_slots = max(len(t) for t in times)
    padded = np.array([[*t, *[np.inf] * (n_slots - len(t))] for t in times], np.float64)[None]
    counts = np.array([[len(t) for t in times]], np.int32)
    weights = np.array([weights])
    spikes = reference.forward_layer(padded, counts, weights, 0.5, theta, delta_theta, max_n_spike, **options)
    return padded, counts, spikes


class Spikes(unittest.TestCase):
    def check_times(self, spikes, expected, atol=1e-15):
        self.assertEqual(spikes.counts[0, 0], len(expected))
        np.testing.assert_allclose(spikes.times[0, 0, : len(expected)], expected, rtol=0, atol=atol)
        self.assertTrue(np.isinf(spikes.times[0, 0, len(expected) :]).all())

    def test_two_spikes_and_their_slopes(self):
        _, _, spikes = one_neuron([[0.0]], [1.0])
        self.check_times(spikes, [FIRST, SECOND])
        np.testing.assert_allclose(spikes.slopes[0, 0], [3 / 8, 1 / 16, 0, 0], rtol=1e-13)

    def test_touching_the_threshold_is_no_spike(self):
        self.check_times(one_neuron([[0.0]], [1.0], theta=0.25)[2], [])
        self.assertEqual(one_neuron([[0.0]], [1.0], theta=0.25 - 1e-9)[2].counts[0, 0], 1)

    def test_silent_without_input_and_with_inhibition(self):
        self.check_times(one_neuron([[]], [1.0])[2], [])
        self.check_times(one_neuron([[0.0]], [-1.0])[2], [])
        self.check_times(one_neuron([[0.0, 0.1]], [0.0])[2], [])

    def test_buffer_and_overflow(self):
        for keep, overflow in ((1, False), (2, False), (3, False)):
            _, _, spikes = one_neuron([[0.0]], [1.0], max_n_spike=keep)
            self.check_times(spikes, [FIRST, SECOND][:keep])
            self.assertEqual(spikes.overflow[0, 0], overflow)  # K = 1 keeps the first spike by definition
        _, _, spikes = one_neuron([[0.0, 20.0]], [1.0], max_n_spike=2)
        self.check_times(spikes, [FIRST, SECOND])
        self.assertTrue(spikes.overflow[0, 0])

    def test_t_max_is_included(self):
        exact = one_neuron([[0.0]], [1.0])[2].times[0, 0, 1]
        self.check_times(one_neuron([[0.0]], [1.0], t_max=exact)[2], [FIRST, SECOND])
        self.check_times(one_neuron([[0.0]], [1.0], t_max=np.nextafter(exact, 0))[2], [FIRST])

    def test_simultaneous_inputs_add(self):
        self.check_times(one_neuron([[0.0], [0.0], [0.0]], [0.5, 1.0, -0.5])[2], [FIRST, SECOND])

    def test_nan_weight_never_fires(self):
        self.check_times(one_neuron([[0.0, 0.1]], [np.nan])[2], [])

    def test_slots_beyond_the_count_are_ignored(self):
        times = np.array([[[0.0, 0.01]]])
        spikes = reference.forward_layer(times, np.array([[1]]), np.ones((1, 1)), 0.5, THETA, DELTA_THETA, 4)
        self.check_times(spikes, [FIRST, SECOND])

    def test_thousand_tau_s(self):
        """The same input again after 1000 tau_s: the same spikes, and in float32 too; t0 = 0 overflows there."""
        self.check_times(one_neuron([[0, 500]], [1.0])[2], [FIRST, SECOND, 500 + FIRST, 500 + SECOND], 1e-12)
        spikes = one_neuron([[0, 500]], [1.0], dtype=np.float32)[2]
        self.assertEqual(spikes.times.dtype, np.float32)
        self.check_times(spikes, [FIRST, SECOND, 500 + FIRST, 500 + SECOND], 1e-4)
        self.check_times(one_neuron([[0, 500]], [1.0], dtype=np.float32, origin="absolute")[2], [FIRST, SECOND], 1e-6)

    def test_absolute_origin_gives_the_same_spikes(self):
        expected = one_neuron([[0, 3]], [1.0], max_n_spike=8)[2]
        self.assertEqual(expected.counts[0, 0], 4)
        absolute = one_neuron([[0, 3]], [1.0], max_n_spike=8, origin="absolute")[2]
        self.check_times(absolute, expected.times[0, 0, :4], 1e-13)
        np.testing.assert_allclose(absolute.slopes, expected.slopes, rtol=1e-12)
        with self.assertRaisesRegex(ValueError, "'relative'"):
            one_neuron([[0.0]], [1.0], origin="relative")


class Gradients(unittest.TestCase):
    def gradient(self, times, weights, errors, **options):
        times, counts, spikes = one_neuron(times, weights, **options)
        return reference.backward_layer(np.array([[errors]]), spikes, times, counts, np.array([weights]))

    def test_first_and_second_spike(self):
        for origin in ("moving", "absolute"):
            dw, dt = self.gradient([[0.0]], [1.0], [1.0, 0, 0, 0], origin=origin)
            np.testing.assert_allclose([dw[0, 0], dt[0, 0, 0]], [-1 / 2, 1], rtol=1e-13)  # -eps/z = -(3/16) / (3/8)
            dw, dt = self.gradient([[0.0]], [1.0], [0, 1.0, 0, 0], origin=origin)
            np.testing.assert_allclose([dw[0, 0], dt[0, 0, 0]], [-4 - 1 / 2, 1], rtol=1e-13)  # dt_2/dt_1 = 1

    def test_errors_of_empty_slots_count_for_nothing(self):
        dw, dt = self.gradient([[0.0]], [1.0], [0, 0, 5.0, 7.0])
        self.assertFalse(dw.any() or dt.any())

    def test_causality_is_strict(self):
        """A second input exactly at the second spike has no part in it; just before, it makes the slope 1/16 + 1/2."""
        second = one_neuron([[0.0]], [1.0])[2].times[0, 0, 1]
        dw, dt = self.gradient([[0.0], [second]], [1.0, 0.5], [0, 1.0, 0, 0])
        np.testing.assert_allclose(dw, [[-4.5, 0]], rtol=1e-13)
        np.testing.assert_allclose(dt[0, :, 0], [1, 0], rtol=1e-13)
        dw, dt = self.gradient([[0.0], [second - 1e-9]], [1.0, 0.5], [0, 1.0, 0, 0])
        np.testing.assert_allclose(dw, [[-4 / 9 - 1 / 18, 0]], rtol=1e-6, atol=1e-6)  # each shrinks 9 times
        np.testing.assert_allclose(dt[0, :, 0], [1 / 9, 8 / 9], rtol=1e-6)  # w / z = 0.5 / (9/16)

    def test_moving_all_inputs_moves_all_spikes(self):
        """Shift invariance: the errors of the inputs add up to the errors of the outputs."""
        times, errors = [[0.0, 0.2], [0.1], [0.15]], [0.3, -0.2, 0.7, 0.1]
        _, dt = self.gradient(times, [0.5, 0.6, -0.1], errors)
        spikes = one_neuron(times, [0.5, 0.6, -0.1])[2]
        self.assertGreater(spikes.counts[0, 0], 1)
        self.assertAlmostEqual(dt.sum(), sum(errors[: spikes.counts[0, 0]]), places=12)

    def test_weight_gradient_is_the_batch_mean(self):
        times, counts = np.zeros((2, 1, 1)), np.array([[1], [0]])
        spikes = reference.forward_layer(times, counts, np.ones((1, 1)), 0.5, THETA, DELTA_THETA, 1)
        dw, dt = reference.backward_layer(np.ones((2, 1, 1)), spikes, times, counts, np.ones((1, 1)))
        np.testing.assert_allclose(dw, [[-1 / 4]], rtol=1e-13)
        np.testing.assert_allclose(dt[:, 0, 0], [1, 0], rtol=1e-13)


if __name__ == "__main__":
    unittest.main()
