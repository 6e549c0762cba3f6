"""The part of MNIST inside the package: its numbers, and exactness against the full set where that is found."""

import hashlib
import importlib.util
import os
import tempfile
import unittest
from pathlib import Path

import numpy as np

from bats.data import embedded_images, find_images, read_images
from bats.data.catalogue import MNIST
from bats.data.embedded import path_of

ROOT = Path(__file__).resolve().parents[2]
_spec = importlib.util.spec_from_file_location("make_embedded_mnist", ROOT / "datasets" / "make_embedded_mnist.py")
make_embedded_mnist = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(make_embedded_mnist)

FULL = find_images(MNIST)[0]


class TestEmbedded(unittest.TestCase):
    def test_numbers(self):
        part = embedded_images(MNIST)
        self.assertEqual((part.x_train.shape, part.x_test.shape), ((5000, 28, 28), (1000, 28, 28)))
        self.assertEqual((part.x_train.dtype, part.y_train.dtype), (np.uint8, np.int32))
        self.assertEqual((part.n_classes, part.is_subset), (10, True))
        for labels, least in ((part.y_train, 450), (part.y_test, 75)):
            self.assertGreaterEqual(np.bincount(labels, minlength=10).min(), least)
        self.assertEqual(len(np.unique(part.x_train.reshape(5000, -1), axis=0)), 5000)
        self.assertLess(path_of(MNIST).stat().st_size, 1_000_000)

    def test_seed_and_indices_are_recorded(self):
        generator = np.random.PCG64(0)
        indices = [make_embedded_mnist.draw(n, k, generator) for n, k in ((60_000, 5_000), (10_000, 1_000))]
        for part, n in zip(indices, (60_000, 10_000), strict=True):
            self.assertEqual(len(np.unique(part)), len(part))
            self.assertTrue(0 <= part.min() and part.max() < n)
        with np.load(path_of(MNIST)) as file:
            self.assertEqual(int(file["seed"][0]), 0)
            expected = [hashlib.sha256(part.astype("<i8").tobytes()).hexdigest() for part in indices]
            self.assertEqual(file["indices_sha256"].tolist(), expected)

    @unittest.skipIf(FULL is None, "the full MNIST is not in BATS_DATA, datasets/ or the cache")
    def test_every_image_is_exact(self):
        full, part = read_images(MNIST, FULL), embedded_images(MNIST)
        generator = np.random.PCG64(0)
        for name, n, k in (("train", 60_000, 5_000), ("test", 10_000, 1_000)):
            kept = make_embedded_mnist.draw(n, k, generator)
            np.testing.assert_array_equal(getattr(part, f"x_{name}"), getattr(full, f"x_{name}")[kept])
            np.testing.assert_array_equal(getattr(part, f"y_{name}"), getattr(full, f"y_{name}")[kept])

    def test_writing_is_deterministic(self):
        arrays = {"x": np.arange(1000, dtype=np.uint8), "y": np.array(["text"])}
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder) / name for name in ("a.npz", "b.npz")]
            for path in paths:
                make_embedded_mnist.write(arrays, path)
                os.utime(path, (0, 0))
            self.assertEqual(paths[0].read_bytes(), paths[1].read_bytes())
            with np.load(paths[0]) as file:
                np.testing.assert_array_equal(file["x"], arrays["x"])


if __name__ == "__main__":
    unittest.main()
