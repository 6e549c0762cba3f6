"""Filters, normalization, rank order, padding and pooling: the spec's values, and the oracle."""

import unittest

import numpy as np

from bats import stdp
from bats.device import to_numpy
from bats.stdp import encoding, reference
from tests.devices import Cpu, Cuda
from tests.stdp.cases import N_BINS, latencies


class TestFilters(unittest.TestCase):
    def test_difference_of_gaussians_values(self):
        small = stdp.difference_of_gaussians(3, 1 / 3, 2 / 3)
        np.testing.assert_allclose(small[[1, 0, 0], [1, 1, 0]], [1, -0.15589, -0.09411], atol=5e-6)
        small = stdp.difference_of_gaussians(3, 2 / 3, 1 / 3)
        np.testing.assert_allclose(small[[1, 0, 0], [1, 1, 0]], [-6.41486, 1, 0.60371], atol=5e-6)
        rows = {
            (7, 7 / 9, 14 / 9): [-0.05589, -0.10195, 0.30920, 1],
            (7, 14 / 9, 7 / 9): [0.54678, 0.99743, -3.02496, -9.78332],
            (13, 13 / 9, 26 / 9): [-0.04339, -0.07643, -0.10435, -0.04522, 0.24529, 0.73397, 1],
            (13, 26 / 9, 13 / 9): [0.41580, 0.73245, 1, 0.43332, -2.35063, -7.03380, -9.58323],
        }
        for arguments, half in rows.items():
            kernel = stdp.difference_of_gaussians(*arguments)
            np.testing.assert_allclose(kernel[arguments[0] // 2], half + half[-2::-1], atol=5e-6)
            self.assertLess(abs(kernel.mean()), 1e-12)

    def test_gabor_stripes(self):
        kernel = stdp.gabor(5, 0)
        x, y = np.meshgrid(np.arange(-2, 3), np.arange(-2, 3), indexing="ij")
        raw = np.exp(-(x**2 + 0.09 * y**2) / 8) * np.cos(2 * np.pi * x / 2.5)
        raw -= raw.mean()
        np.testing.assert_allclose(kernel, raw / raw.max(), atol=1e-12)
        np.testing.assert_allclose(stdp.gabor(5, 90), kernel.T, atol=1e-12)
        np.testing.assert_allclose(stdp.gabor(7, 22.5), stdp.gabor(7, 202.5), atol=1e-12)
        self.assertFalse(np.allclose(stdp.gabor(7, 22.5), stdp.gabor(7, -22.5)))

    def test_mnist_bank(self):
        self.assertEqual(stdp.MNIST_BANK.output_shape(28, 28), (6, 28, 28))
        self.assertEqual([len(kernel) for kernel in stdp.MNIST_BANK.kernels], [3, 3, 7, 7, 13, 13])

    def test_refusals(self):
        for call in (
            lambda: stdp.difference_of_gaussians(4, 1, 2),
            lambda: stdp.FilterBank((), 0, 1.0),
            lambda: stdp.FilterBank((np.ones((3, 3)),), 0, (1.0, 2.0)),
            lambda: stdp.FilterBank((np.ones((3, 5)),), 0, 1.0),
            lambda: stdp.MNIST_BANK.output_shape(0, 28),
            lambda: stdp.rank_latencies(np.zeros((1, 1, 1, 1), np.float32), 255),
            lambda: stdp.pool(np.zeros((1, 3, 3), np.uint8), 4),
            lambda: stdp.encode(np.zeros((3, 3)), stdp.MNIST_BANK, device="cpu"),
        ):
            self.assertRaises(ValueError, call)


class Checks:
    def test_rank_by_hand(self):
        values = np.array([[[[5, 0, 3, 3, 9, 1, 3]]]], dtype=np.float32)  # 6 values, 2 bins: 3 each
        expected = [0, 2, 0, 1, 0, 1, 1]
        self.assertEqual(to_numpy(stdp.rank_latencies(self.array(values), 2)).ravel().tolist(), expected)
        expected = [4, 4, 4, 4, 4, 4, 4]  # fewer values than bins
        self.assertEqual(to_numpy(stdp.rank_latencies(self.array(values[..., :4]), 4)).ravel().tolist(), expected[:4])

    def test_rank_counts_of_775(self):
        rng = np.random.default_rng(0)
        values = np.zeros(1200, dtype=np.float32)
        values[rng.permutation(1200)[:775]] = rng.random(775).astype(np.float32) + 0.1
        found = to_numpy(stdp.rank_latencies(self.array(values.reshape(1, 2, 20, 30)), 15))
        self.assertEqual([int((found <= t).sum()) for t in range(15)], [51 * (t + 1) for t in range(15)])

    def test_rank_against_oracle(self):
        rng = np.random.default_rng(1)
        values = rng.integers(0, 9, (6, 3, 5, 7)).astype(np.float32)  # many ties
        values[2] = 0
        found = to_numpy(stdp.rank_latencies(self.array(values), N_BINS))
        for image, mine in zip(values, found, strict=True):
            np.testing.assert_array_equal(mine, reference.rank_latencies(image, N_BINS))
        self.assertEqual(stdp.rank_latencies(self.array(values[:0]), 3).shape, (0, 3, 5, 7))
        large = rng.integers(0, 50, (2, 2, 101, 103)).astype(np.float32)  # does not fit into shared memory
        for image, mine in zip(large, to_numpy(stdp.rank_latencies(self.array(large), 15)), strict=True):
            np.testing.assert_array_equal(mine, reference.rank_latencies(image, 15))

    def test_filters_and_normalization_against_oracle(self):
        rng = np.random.default_rng(2)
        images = rng.integers(0, 256, (3, 17, 12)).astype(np.float32)
        kernels = (stdp.difference_of_gaussians(3, 1 / 3, 2 / 3), stdp.gabor(5, 30), stdp.difference_of_gaussians(7, 2, 1))
        for absolute, padding in ((False, 3), (True, 0)):
            bank = stdp.FilterBank(kernels, padding, 0.5, absolute)
            maps = encoding.filter_maps(self.array(images), bank)
            expected = np.stack([reference.filter_bank(image, kernels, padding, 0.5, absolute) for image in images])
            np.testing.assert_allclose(to_numpy(maps), expected, rtol=0, atol=4e-6 * np.abs(expected).max())  # 49 float32 terms
            again = np.stack([reference.local_normalization(one, 2) for one in to_numpy(maps).astype(float)])
            np.testing.assert_allclose(to_numpy(stdp.local_normalization(maps, 2)), again, rtol=2e-7)

    def test_encode_is_its_parts_and_the_same_on_every_device(self):
        rng = np.random.default_rng(3)
        images = rng.integers(0, 256, (5, 19, 18)).astype(np.uint8)
        images[2] = 0
        bank, done = stdp.MNIST_BANK, []
        found = to_numpy(stdp.encode(self.array(images), bank, 15, 8, self.device, progress=done.append))
        self.assertEqual(sum(done), 5)
        self.assertTrue((found[2] == 15).all())
        maps = stdp.local_normalization(encoding.filter_maps(images.astype(np.float32), bank), 8)
        np.testing.assert_array_equal(found, stdp.rank_latencies(maps, 15))

    def test_pad_and_pool_against_oracle(self):
        values = latencies(np.random.default_rng(4), 4, (3, 9, 8))
        for window, stride, padding in ((2, None, 0), (3, 2, 1), (2, 2, 1), (3, 3, 0), (4, 1, 2), (1, 3, 0)):
            found = to_numpy(stdp.pool(self.array(values), window, stride, padding, N_BINS))
            for image, mine in zip(values, found, strict=True):
                pooled = reference.pool(reference.wave(image, N_BINS), window, stride or window, padding)
                np.testing.assert_array_equal(mine, reference.latencies_of(pooled))
        padded = to_numpy(stdp.pad(self.array(values), 2, N_BINS))
        np.testing.assert_array_equal(padded, np.pad(values, ((0, 0), (0, 0), (2, 2), (2, 2)), constant_values=N_BINS))


class OnCpu(Checks, Cpu):
    pass


class OnCuda(Checks, Cuda):
    pass


if __name__ == "__main__":
    unittest.main()
