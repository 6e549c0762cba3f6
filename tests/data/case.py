"""What the tests of data sets share: a small set in every format, an environment without the user's folders."""

import dataclasses
import gzip
import hashlib
import os
import struct
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import numpy as np

from bats.data import load as load_module
from bats.data.catalogue import MNIST, RemoteFile

N_TRAIN, N_TEST, SHAPE = 30, 20, (4, 5)
IDX_KEYS = ("x_train", "y_train", "x_test", "y_test")


def small_arrays(seed=0):
    """A set of 30 + 20 images of 4 x 5 pixels with labels 0..9."""
    generator = np.random.default_rng(seed)
    arrays = {}
    for part, n in (("train", N_TRAIN), ("test", N_TEST)):
        arrays[f"x_{part}"] = generator.integers(0, 256, (n, *SHAPE), np.uint8)
        arrays[f"y_{part}"] = (np.arange(n) % 10).astype(np.uint8)
    return arrays


def idx_bytes(array, compress=True):
    """The IDX file of a uint8 array, written here from the published description of the format."""
    content = b"\x00\x00\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    return gzip.compress(content, mtime=0) if compress else content


class DataCase(unittest.TestCase):
    """self.folder is empty and temporary; BATS_DATA, the cache and the checkout's folder point below it."""

    def setUp(self):
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory())).resolve()
        cache = str(self.folder / "cache-home")
        clean = {"XDG_CACHE_HOME": cache, "BATS_DATA": "", "BATS_OFFLINE": "", "NO_PROXY": "127.0.0.1"}
        self.enterContext(mock.patch.dict(os.environ, clean))
        self.enterContext(mock.patch("bats.data.locate.checkout_folder", lambda: None))
        self.enterContext(mock.patch("bats.data.catalogue.checkout_folder", lambda: None))
        self.enterContext(mock.patch("bats.data.download.PAUSE_SECONDS", 0.001))
        self.enterContext(mock.patch.object(load_module, "_said", set()))

    if not hasattr(unittest.TestCase, "enterContext"):  # Python 3.10

        def enterContext(self, manager):
            value = manager.__enter__()
            self.addCleanup(manager.__exit__, None, None, None)
            return value

    def small_entry(self, arrays=None, mirror=None):
        """MNIST's catalogue entry, shrunk to the small arrays; `mirror` serves its files, else nothing does."""
        arrays = arrays or small_arrays()
        self.files = {"mnist.npz": self.npz_bytes(arrays)}
        self.files |= {file.name: idx_bytes(arrays[key]) for file, key in zip(MNIST.idx, IDX_KEYS, strict=True)}
        remote = {}
        for name, content in self.files.items():
            urls = (mirror.url(f"/{name}"),) if mirror else ()
            remote[name] = RemoteFile(name, hashlib.sha256(content).hexdigest(), len(content), urls)
        return dataclasses.replace(
            MNIST,
            shape=SHAPE,
            n_train=N_TRAIN,
            n_test=N_TEST,
            npz=remote["mnist.npz"],
            idx=tuple(remote[file.name] for file in MNIST.idx),
            same_content=(),
        )

    def npz_bytes(self, arrays):
        path = self.folder / "made.npz"
        np.savez_compressed(path, **arrays)
        content = path.read_bytes()
        path.unlink()
        return content

    def put(self, relative, content):
        path = self.folder / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def assertHolds(self, dataset, arrays):
        for key in IDX_KEYS:
            received = getattr(dataset, key)
            np.testing.assert_array_equal(received, arrays[key])
            self.assertEqual(received.dtype, np.uint8 if key.startswith("x") else np.int32)
