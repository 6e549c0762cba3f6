"""Elastic deformation: against NumPy, a function of seed, epoch and sample only, for training only."""

import numpy as np

import bats
from bats import ops
from bats.augmentation import ElasticImages
from bats.cpu.philox import normal_pair, philox
from bats.device import to_numpy
from tests.devices import Cpu, Cuda


def deformed(image, moved):
    """The same in NumPy: moved [2, 2, 2] = axis, corner row, corner column."""
    height, width = image.shape
    v, u = np.meshgrid(np.linspace(0, 1, height) if height > 1 else [0.0], np.linspace(0, 1, width) if width > 1 else [0.0], indexing="ij")
    corner = np.stack([(1 - v) * (1 - u), (1 - v) * u, v * (1 - u), v * u])
    rows, columns = np.indices(image.shape) + np.tensordot(moved.reshape(2, 4), corner, axes=1)
    padded, total = np.pad(image.astype(float), 20), np.zeros(image.shape)
    for dy in (0, 1):
        for dx in (0, 1):
            y, x = np.floor(rows) + dy, np.floor(columns) + dx
            total += (1 - abs(rows - y)) * (1 - abs(columns - x)) * padded[y.astype(int) + 20, x.astype(int) + 20]
    return total


class Checks:
    def deform(self, images, indices, epoch, seed, sigma=1.0):
        out = self.poisoned((len(indices), *images.shape[1:]), np.int32).astype(np.uint8)
        arguments = (self.array(images), self.array(indices, np.int32), self.array([epoch], np.int64), seed, sigma, out, np.float32)
        ops.elastic_deformation(*arguments)
        return to_numpy(out)

    def images(self, shape=(7, 28, 28), seed=0):
        return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)

    def test_against_numpy(self):
        for shape in ((7, 28, 28), (3, 5, 9), (2, 1, 6), (1, 1, 1)):
            images, indices = self.images(shape), np.arange(shape[0])[::-1].copy()
            found = self.deform(images, indices, 3, 2**40 + 11, 1.5)
            for b, index in enumerate(indices):
                words = [philox(index, 3, 0, axis, 11, 2**8) for axis in range(2)]
                moved = 1.5 * np.array([[normal_pair(w[0], w[1]), normal_pair(w[2], w[3])] for w in words])
                np.testing.assert_allclose(found[b], deformed(images[index], moved), atol=0.5 + 1e-6)

    def test_deformation_is_a_function_of_seed_epoch_and_sample(self):
        images = self.images()
        first = self.deform(images, np.arange(7), 0, 1)
        np.testing.assert_array_equal(self.deform(images, np.array([4, 2]), 0, 1), first[[4, 2]])  # whatever the batch
        for epoch, seed in ((1, 1), (0, 2), (0, 1 + 2**32), (2**32, 1)):
            self.assertTrue((self.deform(images, np.arange(7), epoch, seed) != first).any(axis=(1, 2)).all())
        same = self.images((1, 28, 28)).repeat(3, axis=0)
        self.assertEqual(len(np.unique(self.deform(same, np.arange(3), 0, 1), axis=0)), 3)

    def test_size_of_the_deformation(self):
        """A bright corner pixel moves by N(0, sigma): measured as the distances drawn for many samples."""
        words = np.array([philox(n, 0, 0, axis, 5, 0) for n in range(2000) for axis in range(2)])
        numbers = np.array([(normal_pair(w[0], w[1]), normal_pair(w[2], w[3])) for w in words]).ravel()
        self.assertLess(abs(numbers.mean()), 0.05)
        self.assertLess(abs(numbers.std() - 1), 0.05)

    def test_source(self):
        images, labels = self.images((30, 6, 5)), np.arange(30) % 3
        source = ElasticImages(images, labels, seed=4, t_max=0.2)
        resident = source.to(self.device, "float32")
        place = resident.allocate(8)
        order, shown = self.array(np.arange(30)[::-1].copy(), np.int32), []
        for epoch, batch in ((0, 8), (0, 5), (1, 8)):
            resident.begin_epoch(epoch)
            events, found = resident.load(order, self.array([2], np.int64), batch, place)
            np.testing.assert_array_equal(to_numpy(found), labels[27 : 27 - batch : -1])
            expected = self.deform(images, np.arange(27, 27 - batch, -1), epoch, 4)
            np.testing.assert_array_equal(to_numpy(place.deformed[:batch]), expected)
            pixels = expected.reshape(batch, -1)
            np.testing.assert_array_equal(to_numpy(events.counts), (pixels > 0).sum(axis=1))
            first = to_numpy(events.times)[:, 0]
            np.testing.assert_allclose(first, 0.2 * (1 - pixels.max(axis=1) / 255), rtol=1e-5, atol=1e-8)
            shown.append(expected)
        np.testing.assert_array_equal(shown[1], shown[0][:5])
        self.assertTrue((shown[2] != shown[0]).any())
        self.assertEqual(len(source.subset([3, 4])), 2)

    def test_wrong_parameters(self):
        images = self.images((3, 4, 4))
        for error, make, message in (
            (ValueError, lambda: ElasticImages(images.reshape(3, -1), [0, 0, 0], 1), r"expected shape \[n, height, width\]"),
            (ValueError, lambda: ElasticImages(images, [0, 0, 0], -1), r"seed: expected an integer from 0 to 2\^64 - 1, received -1"),
            (TypeError, lambda: ElasticImages(images, [0, 0, 0], 0.5), "seed: expected an integer, received 0.5"),
            (ValueError, lambda: ElasticImages(images, [0, 0, 0], 1, sigma=0), "sigma: expected a finite number > 0, received 0"),
        ):
            with self.assertRaisesRegex(error, message):
                make()


class OnCpu(Checks, Cpu):
    def test_philox(self):
        """Known answers of Random123 (Salmon et al. 2011)."""
        f = 0xFFFFFFFF
        for arguments, expected in (
            ((0, 0, 0, 0, 0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
            ((f, f, f, f, f, f), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
            ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344, 0xA4093822, 0x299F31D0), (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
        ):
            self.assertEqual(tuple(int(word) for word in philox(*arguments)), expected)


class OnCuda(Checks, Cuda):
    def test_both_devices_agree(self):
        """To rounding: at most one grey value, hardly ever."""
        images, indices, epoch = self.images(), np.arange(7, dtype=np.int32), np.zeros(1, np.int64)
        out = np.zeros_like(images)
        ops.elastic_deformation(images, indices, epoch, 9, 1.0, out, np.float32)
        gap = np.abs(out.astype(int) - self.deform(images, indices, 0, 9))
        self.assertLessEqual(gap.max(), 1)
        self.assertLess((gap > 0).mean(), 1e-3)
        self.assertTrue(bats.device.cuda_available())
