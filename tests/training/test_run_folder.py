"""What a run leaves on disk, and what happens where nothing can be written."""

import csv
import errno
import json
import os
import tempfile
import unittest
from collections import namedtuple
from pathlib import Path
from unittest import mock

import numpy as np

from bats.training import RunFolder, Trainer, monitors, plots
from bats.training.atomic import write_json, write_text
from bats.training.evaluation import confusion, copy_weights
from tests.training import fakes

Usage = namedtuple("Usage", "total used free")


class RunFolderTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)

    def test_name_and_two_runs_in_one_second(self):
        first = RunFolder.create(self.root, "study", 7)
        self.assertRegex(first.path.relative_to(self.root).as_posix(), r"^study/\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d-7$")
        with mock.patch("bats.training.run_folder.datetime.datetime") as clock:
            clock.now.return_value.strftime.return_value = first.path.name[:-2]
            second = RunFolder.create(self.root, "study", 7)
        self.assertEqual(second.path.name, first.path.name + "-2")

    def test_full_disk_is_told_before_the_training(self):
        with mock.patch("shutil.disk_usage", return_value=Usage(100, 99, 1)):
            with self.assertRaisesRegex(OSError, "results need 64 MiB at .*, 0 MiB are free") as caught:
                RunFolder(self.root / "run")
        self.assertEqual(caught.exception.errno, errno.ENOSPC)

    def test_folder_that_cannot_be_made(self):
        (self.root / "file").write_text("in the way")
        with self.assertRaisesRegex(OSError, "results cannot be written to .*file/run: .*choose another folder"):
            RunFolder(self.root / "file" / "run")

    @unittest.skipUnless(os.path.isdir("/proc/self"), "needs a folder that nobody can write to")
    def test_read_only_folder(self):
        with self.assertRaisesRegex(OSError, "results cannot be written to /proc/self/run"):
            RunFolder("/proc/self/run")

    def test_existing_folder_without_write_permission(self):
        with mock.patch("builtins.open", side_effect=PermissionError(errno.EACCES, "Permission denied")):
            with self.assertRaisesRegex(OSError, "results cannot be written to .*Permission denied"):
                RunFolder(self.root)

    def test_files_of_a_run(self):
        source = fakes.Source()
        trainer = Trainer(fakes.Network(), fakes.Loss(), fakes.Momentum(), batch_size=6, max_simulation=1.0,
                          run_folder=self.root / "run", progress=False)  # fmt: skip
        with fakes.patched():
            history = trainer.fit(source, fakes.Source(5, seed=1), 3)
        folder = self.root / "run"
        names = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
        self.assertFalse([name for name in names if name.endswith(".tmp")])
        expected = {"metrics.csv", "checkpoint.npz", "best_model/hidden_weights.npy", "best_model/output_weights.npy"}
        for part in ("train", "test"):
            expected |= {f"output_metrics/{part}_{name}.npz" for name in ("accuracy_percent", "loss")}
            expected |= {f"output_metrics/{part}_silent_labels_percent.npz"}
            for layer in ("hidden", "output"):
                expected |= {f"output_metrics/{part}_silent_neurons_percent_{layer}.npz"}
                expected |= {f"output_metrics/{part}_spikes_per_sample_{layer}.npz"}
        expected |= {f"output_metrics/weight_norm_{layer}.npz" for layer in ("hidden", "output")}
        expected |= {"output_metrics/learning_rate.npz", "output_metrics/train_seconds.npz"}
        self.assertLessEqual(expected, names)
        with np.load(folder / "output_metrics/test_loss.npz") as file:
            np.testing.assert_array_equal(file["epochs"], [1, 2, 3])
            np.testing.assert_array_equal(file["values"], [row["test_loss"] for row in history])
        with open(folder / "metrics.csv", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        self.assertEqual([row["epoch"] for row in rows], ["1", "2", "3"])
        self.assertEqual([float(row["train_loss"]) for row in rows], [row["train_loss"] for row in history])

    def test_no_folder_no_files(self):
        trainer = Trainer(fakes.Network(), fakes.Loss(), fakes.Momentum(), batch_size=6, max_simulation=1.0)
        trainer.progress = False
        with fakes.patched():
            self.assertEqual(len(trainer.fit(fakes.Source(), fakes.Source(), 2)), 2)
        self.assertEqual(list(self.root.iterdir()), [])

    def test_atomic_text(self):
        write_text(self.root / "text", "old\n")
        with mock.patch("os.fsync", side_effect=OSError(errno.ENOSPC, "No space left on device")):
            with self.assertRaisesRegex(OSError, "cannot write .*text: No space left on device; any earlier version"):
                write_text(self.root / "text", "new\n")
        self.assertEqual([file.name for file in self.root.iterdir()], ["text"])
        self.assertEqual((self.root / "text").read_text(), "old\n")
        write_json(self.root / "value.json", {"path": Path("a"), "list": [1.5, None]})
        self.assertEqual(json.loads((self.root / "value.json").read_text()), {"path": "a", "list": [1.5, None]})


class PlotsTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)

    def assert_png(self, name):
        self.assertEqual((self.root / name).read_bytes()[:8], b"\x89PNG\r\n\x1a\n")

    def test_monitor_plots(self):
        row = {"epoch": 1, "learning_rate": 0.1, "train_loss": 2.0, "test_loss": float("nan"), "weight_norm_a": 3.0}
        monitors.export([row], self.root)
        for name in ("learning_rate.png", "loss.png", "weight_norm.png"):
            self.assert_png(name)
        self.assertEqual(set(monitors.collect([row])["loss"]), {"train", "test"})
        self.assertEqual(set(monitors.collect([{"train_spikes_per_sample_x y": 1}])["spikes_per_sample"]), {"x y train"})

    def test_confusion_matrix(self):
        matrix = confusion([0, 0, 1, 2], [0, 1, 1, -1], 3)
        np.testing.assert_array_equal(matrix, [[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
        self.assertEqual(confusion([0, 1], [0, 1], 3).shape, (3, 3))
        plots.confusion_matrix(matrix, ["a", "b", "c", "silent"], "title", self.root / "matrix.png")
        self.assert_png("matrix.png")
        with self.assertRaisesRegex(ValueError, "one prediction for each of 2 labels, received 1"):
            confusion([0, 1], [0], 3)

    def test_raster_with_a_silent_layer(self):
        times = np.full((3, 2), np.inf)
        times[1] = 0.1, 0.2
        trains = [("input", times, np.array([0, 2, 0])), ("output", np.full((2, 1), np.inf), np.zeros(2, int))]
        plots.spike_raster(trains, "title", self.root / "raster.png", ["a", "b"])
        self.assert_png("raster.png")

    def test_copied_weights_must_fit(self):
        origin, target = fakes.Network(0), fakes.Network(1)
        copy_weights(origin, target)
        np.testing.assert_array_equal(target.layers[2].weights, origin.layers[2].weights)
        with self.assertRaisesRegex(ValueError, r"networks differ: expected .*\(8, 4\).*, received .*\(6, 4\)"):
            copy_weights(origin, fakes.Network(0, n_hidden=8))


if __name__ == "__main__":
    unittest.main()
