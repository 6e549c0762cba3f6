"""Checkpoint files: round trip, damage, other networks, full disks."""

import errno
import resource
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import numpy as np

from bats.training import Checkpoint, Trainer, load_checkpoint
from tests.training import fakes


def make_checkpoint():
    return Checkpoint(
        weights={"hidden": np.arange(6, dtype=np.float32).reshape(2, 3)},
        optimizer={"m": np.full(3, np.nan), "steps": np.array(7)},
        progress={"epoch": 2, "position": 5},
        history=[{"epoch": 1, "train_loss": 0.1 + 0.2, "test_loss": float("nan")}],
        fingerprint={"batch_size": 3},
        metrics={"loss": np.array(1.5)},
    )


class CheckpointTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name) / "checkpoint.npz"

    def test_round_trip(self):
        make_checkpoint().store(self.path)
        loaded = load_checkpoint(self.path.parent)
        self.assertEqual(loaded.weights["hidden"].dtype, np.float32)
        np.testing.assert_array_equal(loaded.weights["hidden"], make_checkpoint().weights["hidden"])
        np.testing.assert_array_equal(loaded.optimizer["m"], np.full(3, np.nan))
        self.assertEqual(loaded.optimizer["steps"], 7)
        self.assertEqual(loaded.history[0]["train_loss"], 0.1 + 0.2)
        self.assertEqual(loaded.progress, {"epoch": 2, "position": 5})
        self.assertEqual(loaded.best, {})

    def test_truncated_or_damaged(self):
        make_checkpoint().store(self.path)
        whole = self.path.read_bytes()
        start = whole.index(make_checkpoint().weights["hidden"].tobytes())
        flipped = bytearray(whole)
        flipped[start + 5] ^= 1
        cases = {"half": whole[: len(whole) // 2], "empty": b"", "text": b"hello", "one bit": bytes(flipped)}
        for name, content in cases.items():
            with self.subTest(name):
                self.path.write_bytes(content)
                with self.assertRaisesRegex(ValueError, "checkpoint.npz cannot be read: truncated, damaged or not"):
                    load_checkpoint(self.path)

    def test_another_npz_or_nothing(self):
        with self.assertRaisesRegex(FileNotFoundError, "expected a run folder with checkpoint.npz"):
            load_checkpoint(self.path.parent)
        np.savez(self.path, weights=np.zeros(3))
        with self.assertRaisesRegex(ValueError, "is not a checkpoint of bats: it lacks format"):
            load_checkpoint(self.path)

    def test_objects_are_refused(self):
        checkpoint = make_checkpoint()
        checkpoint.optimizer["odd"] = np.array([object()])
        with self.assertRaisesRegex(TypeError, "optimizer/odd"):
            checkpoint.store(self.path)
        self.assertFalse(self.path.exists())

    def test_full_disk_keeps_the_previous_file(self):
        make_checkpoint().store(self.path)
        before = self.path.read_bytes()
        larger = make_checkpoint()
        larger.weights["hidden"] = np.zeros(10**5)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10**5, limits[1]))  # a real write error, after a part was written
        try:
            with self.assertRaisesRegex(OSError, "cannot write .*checkpoint.npz"):
                larger.store(self.path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        self.assertEqual(self.path.read_bytes(), before)
        self.assertEqual([file.name for file in self.path.parent.iterdir()], ["checkpoint.npz"])

    def test_of_another_run(self):
        def trainer(n_hidden=6, target=1.5, batch_size=3, seed=0):
            options = {"batch_size": batch_size, "max_simulation": 1.0, "seed": seed, "progress": False}
            network = fakes.Network(n_hidden=n_hidden)
            return Trainer(network, fakes.Loss(target), fakes.Momentum(), run_folder=self.path.parent, **options)

        with fakes.patched():
            trainer().fit(fakes.Source(), fakes.Source(), 1)
        other = trainer(n_hidden=8, target=2.0, batch_size=5, seed=4)
        before = other.network.layers[1].weights.copy()
        with self.assertRaises(ValueError) as caught:
            other.resume(self.path)
        message = str(caught.exception)
        for line in (
            "network.layers.hidden.n_neurons: expected 8, received 6",
            "loss.target: expected 2.0, received 1.5",
            "batch_size: expected 5, received 3",
            "seed: expected 4, received 0",
        ):
            self.assertIn(line, message)
        np.testing.assert_array_equal(other.network.layers[1].weights, before)
        self.assertEqual(other.epoch, 0)

    def test_rename_failure_is_reported(self):
        with mock.patch("os.replace", side_effect=OSError(errno.EROFS, "Read-only file system")):
            with self.assertRaisesRegex(OSError, "Read-only file system"):
                make_checkpoint().store(self.path)
        self.assertEqual(list(self.path.parent.iterdir()), [])


if __name__ == "__main__":
    unittest.main()
