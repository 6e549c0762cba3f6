"""Every primitive against the oracle: same bits in float32, on odd sizes, empty images and exact ties."""

import unittest

import numpy as np

from bats import stdp
from bats.device import to_numpy
from bats.stdp import reference
from tests.devices import Cpu, Cuda
from tests.stdp.cases import N_BINS, latencies, rows, weights

CASES = (((3, 7, 9), 5, (3, 2), 1.9), ((9, 6, 5), 4, (2, 5), 6.5), ((1, 5, 5), 33, (5, 5), 2.0), ((2, 4, 4), 3, (1, 1), 0.0))


class Checks:
    def layer(self, case):
        """Images, weights, and what the oracle computes from them: a list of thresholded potentials."""
        shape, n_features, kernel, threshold = case
        rng = np.random.default_rng(n_features)
        images, values = latencies(rng, 5, shape), weights(rng, n_features, shape[0], *kernel)
        return images, values, threshold

    def expected(self, images, values, threshold):
        waves = (reference.wave(image, N_BINS) for image in images)
        return [reference.fire(reference.potentials(w, values, threshold is not None), threshold) for w in waves]

    def test_convolution(self):
        for case in CASES:
            for threshold in (case[3], None):
                images, values, _ = self.layer(case)
                fired, potentials = stdp.ops.convolve(self.array(images), self.array(values), threshold, N_BINS)
                expected = self.expected(images, values, threshold)
                for mine, potential, wanted in zip(to_numpy(fired), to_numpy(potentials), expected, strict=True):
                    np.testing.assert_array_equal(mine, reference.latencies_of(wanted > 0))
                    first = np.minimum(mine, N_BINS - 1).astype(int)
                    np.testing.assert_array_equal(potential, np.take_along_axis(wanted, first[None], axis=0)[0])

    def test_threshold_is_crossed_strictly(self):
        images = np.array([0, 1, 1, N_BINS], dtype=np.uint8).reshape(1, 1, 2, 2)
        values = np.full((1, 1, 2, 2), 0.5, dtype=np.float32)
        for threshold, bin_ in ((0.4, 0), (0.5, 1), (1.0, 1), (1.5, N_BINS)):
            fired, _ = stdp.ops.convolve(self.array(images), self.array(values), threshold, N_BINS)
            self.assertEqual(int(fired[0, 0, 0, 0]), bin_)

    def test_inhibition_and_winners(self):
        for case in CASES:
            for threshold in (case[3], None):
                images, values, _ = self.layer(case)
                maps = stdp.ops.convolve(self.array(images), self.array(values), threshold, N_BINS)
                survivors = stdp.ops.inhibit(*maps, N_BINS)
                wanted = [reference.inhibit(one) for one in self.expected(images, values, threshold)]
                for mine, one in zip(to_numpy(survivors[0]), wanted, strict=True):
                    np.testing.assert_array_equal(mine, reference.latencies_of(one > 0))
                for k, radius, rule in ((1, 0, "exact"), (4, 0, "exact"), (3, 1, "exact"), (3, 1, "rounded"), (9, 2, "rounded")):
                    chosen = to_numpy(stdp.ops.winners(*maps, k, radius, N_BINS, rule))
                    for mine, one in zip(chosen, wanted, strict=True):
                        expected = reference.choose_winners(one, k, radius, rule == "rounded")
                        np.testing.assert_array_equal(mine, rows(expected, k), err_msg=f"{case} {threshold} {k} {radius} {rule}")

    def test_rounded_rule_forgets_small_differences(self):
        """Potentials p and p + 2^-12 near 3000: fl32(p + 15 max p) is the same, so the lower index wins."""
        potentials = np.array([[3000, 0], [0, 3000 + 2**-12]], dtype=np.float32).reshape(1, 2, 1, 2)
        arrays = self.array(np.where(potentials > 0, 14, 15).astype(np.uint8)), self.array(potentials)
        self.assertEqual(int(stdp.ops.winners(*arrays, 1, 0, 15, "exact")[0, 0, 0]), 1)
        self.assertEqual(int(stdp.ops.winners(*arrays, 1, 0, 15, "rounded")[0, 0, 0]), 0)

    def test_update(self):
        for case in CASES[:2]:
            images, values, threshold = self.layer(case)
            values += np.float32(0.3)  # some beyond the bounds: the clamp shows
            fired, potentials = stdp.ops.convolve(self.array(images), self.array(values), threshold, N_BINS)
            chosen = stdp.ops.winners(fired, potentials, 3, 0, N_BINS)
            rates = np.array([[0.1, -0.075], [-0.2, 0.05]], dtype=np.float32)
            for stabilizer in (True, False):
                for i, outcome in ((0, None), (1, None), (3, 0), (4, 1), (3, -1)):
                    changed, winners = self.array(values.copy()), [tuple(w) for w in to_numpy(chosen[i]).tolist() if w[0] >= 0]
                    given = None if outcome is None else self.array(np.array([outcome], np.int32))
                    stdp.ops.update(
                        changed, self.array(images[i]), chosen[i], fired[i], self.array(rates),
                        outcome=given, stabilizer=stabilizer, bounds=(0.2, 0.8),
                    )  # fmt: skip
                    wanted = values
                    if outcome != -1:
                        waves = reference.wave(images[i], N_BINS), reference.wave(to_numpy(fired[i]), N_BINS)
                        wanted = reference.stdp(values, *waves, winners, rates[outcome or 0], stabilizer, 0.2, 0.8)
                    np.testing.assert_array_equal(to_numpy(changed), wanted)

    def test_outcomes(self):
        chosen = np.array([[[5, 0, 0]], [[-1, -1, -1]], [[3, 1, 1]]], dtype=np.int32)
        found = stdp.ops.outcomes(self.array(chosen), self.array(np.array([2, 0, 0])), 2)
        self.assertEqual(to_numpy(found).tolist(), [0, -1, 1])

    def test_empty_batch_and_refusals(self):
        values = self.array(np.ones((3, 2, 2, 2), np.float32))
        fired, potentials = stdp.ops.convolve(self.array(np.zeros((0, 2, 4, 4), np.uint8)), values, 1.0)
        self.assertEqual(fired.shape, (0, 3, 3, 3))
        self.assertEqual(stdp.ops.winners(fired, potentials, 2).shape, (0, 2, 3))
        self.assertEqual(stdp.ops.inhibit(fired, potentials)[0].shape, (0, 3, 3, 3))
        images = self.array(np.zeros((1, 2, 4, 4), np.uint8))
        self.assertRaises(TypeError, stdp.ops.convolve, images.astype(np.int32), values, 1.0)
        self.assertRaises(ValueError, stdp.ops.convolve, images[:, :1].copy(), values, 1.0)
        self.assertRaises(ValueError, stdp.ops.convolve, images[:, :, :1].copy(), values, 1.0)
        self.assertRaises(TypeError, stdp.ops.inhibit, images, images)


class OnCpu(Checks, Cpu):
    pass


class OnCuda(Checks, Cuda):
    pass


if __name__ == "__main__":
    unittest.main()
