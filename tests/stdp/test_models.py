"""Every model, at its full size, from images to the files of a run; its tables against the published numbers of weights."""

import contextlib
import csv
import io
import json
import os
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import numpy as np

from bats.stdp.history import WALL_TIMES
from tests.devices import Cpu, Cuda
from tests.stdp.experiment import models, options, report, results_table, tables, task, train

WEIGHTS = {  # as published; resnet2024 without the 37 500 weights of its skip, which are never read (see its module)
    "mozafari2018": 1_322_000, "deep2024": 1_632_500, "deepr2024": 1_632_500, "deepr2024_2": 1_632_500,
    "inception2024": 2_147_250, "majority2024": 4_222_000, "resnet2024": 1_182_500, "deeper2024": 1_009_620,
}  # fmt: skip
LAST_MAPS = {  # rows of the maps of the decision layers
    "mozafari2018": [4], "deep2024": [2], "deepr2024": [2], "deepr2024_2": [2], "inception2024": [2], "majority2024": [6, 4, 2],
    "resnet2024": [3], "deeper2024": [3],
}  # fmt: skip


def write_images(folder, n_train, n_test):
    """A data set of bright bars on black, one orientation per class, as mnist.npz."""
    random = np.random.default_rng(8)
    y = np.concatenate([np.arange(n_train) % 10, np.arange(n_test) % 10])
    x = np.zeros((len(y), 28, 28), dtype=np.uint8)
    rows, columns = np.mgrid[-14:14, -14:14]
    for image, label in zip(x, y, strict=True):
        angle = np.pi * label / 10
        distance = rows * np.cos(angle) - columns * np.sin(angle) + random.normal(0, 1.5)
        image[:] = 255 * np.exp(-((distance / 2) ** 2)) * (rows**2 + columns**2 < 120)
    content = {"x_train": x[:n_train], "y_train": y[:n_train], "x_test": x[n_train:], "y_test": y[n_train:]}
    np.savez(folder / "mnist.npz", **content)


class Runs:
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        write_images(cls.folder, 14, 10)

    def command(self, *arguments):
        given = ["--device", self.device, "--data", self.folder / "mnist.npz", "--out", self.folder, "--no-progress", *arguments]
        return [str(argument) for argument in given]

    def run_script(self, *arguments):
        """(summary, run folder) of a run in this process."""
        quiet = contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO())
        with quiet[0], quiet[1], mock.patch.object(task, "LOADERS", {"mnist": read_bars}):
            summary = train.main(self.command(*arguments))
        return summary, max((self.folder / f"stdp_{summary['model']}").iterdir(), key=os.path.getmtime)

    def test_every_model(self):
        for name, module in models.MODELS.items():
            with self.subTest(name):
                more = ["--features", "--activation-maps", "--augment"] if name == "deepr2024_2" else []
                epochs = [1] * (len(module.EPOCHS) - 1) + [2]
                size = ["--max-train", 10, "--max-test", 4, "--batch-size", 3, "--validation", 0.2]
                summary, folder = self.run_script("--model", name, "--epochs", *epochs, *size, *more)
                self.assertEqual(summary["weights"], WEIGHTS[name])
                self.assertEqual(summary["images"], {"train": 16 if more else 8, "validation": 2, "test": 4})
                self.assertEqual(sum(summary["test"][kind] for kind in ("correct", "wrong", "silent")), 1)
                self.assertEqual((np.array(summary["confusion"]).sum(), len(summary["curve"])), (4, 2))
                self.assertLess(summary["test"]["silent"], 1)
                files = {"checkpoint.npz", "metrics.csv", "layers.csv", "summary.json", "evaluation.json", "confusion_matrix.png"}
                self.assertLessEqual(files, {path.name for path in folder.iterdir()})
                if more:
                    self.assertEqual({p.stem for p in folder.glob("features_*")}, {f"features_conv{i}" for i in range(1, 5)})
                    self.assertTrue(list((folder / "activation_maps").glob("*.png")))

    def test_a_resumed_run_is_the_uninterrupted_one(self):
        size = ["--max-train", 14, "--batch-size", 4, "--validation", 0.15, "--max-test", 6, "--decay", 0.9, 1]
        whole, folder = self.run_script("--epochs", 2, 1, 3, *size)
        stops = ("conv1", 1), ("decision", 2), ("decision", 4)  # in the middle of an epoch, of a layer and of the read-out
        for phase, batches in stops:
            with self.subTest(phase=phase, batches=batches):
                stopped = self.stopped_run(phase, batches, "--epochs", 2, 1, 3, *size)
                resumed, same = self.run_script("--resume", stopped)
                self.assertEqual(same, stopped)
                self.assertEqual(resumed["curve"], whole["curve"])
                self.assertEqual(figures(stopped), figures(folder))

    def stopped_run(self, phase, batches, *arguments):
        """Folder of a run that Ctrl-C ended after so many batches of a phase."""
        from bats.stdp import DecisionLayer, STDPConvolution
        from bats.training.interrupt import InterruptGuard

        count, guards, enter = [0], [], InterruptGuard.__enter__

        def remember(guard):
            guards.append(guard)
            return enter(guard)

        kind = DecisionLayer if phase == "decision" else STDPConvolution
        learn = kind.learn

        def counted(layer, *given, **named):
            count[0] += 1
            guards[-1].requested = count[0] >= batches
            return learn(layer, *given, **named)

        before = set((self.folder / "stdp_mozafari2018").iterdir())
        with mock.patch.object(InterruptGuard, "__enter__", remember), mock.patch.object(kind, "learn", counted):
            with self.assertRaises(SystemExit) as ended:
                self.run_script(*arguments)
        self.assertEqual(ended.exception.code, 130)
        (folder,) = set((self.folder / "stdp_mozafari2018").iterdir()) - before
        return folder


def read_bars(path):
    from bats.data import load_mnist

    return load_mnist(path, validate=False)


def figures(folder):
    """Weights of the checkpoint and of the kept epoch; the tables without wall times."""
    with np.load(folder / "checkpoint.npz") as file:
        arrays = {name: file[name].tobytes() for name in file.files if name.startswith(("weights/", "best/"))}
    rows = []
    for name in ("metrics.csv", "layers.csv"):
        with open(folder / name, encoding="utf-8", newline="") as file:
            rows += [{key: value for key, value in row.items() if key not in WALL_TIMES} for row in csv.DictReader(file)]
    return arrays, rows


class OnCpu(Runs, Cpu):
    pass


class OnCuda(Runs, Cuda):
    pass


class TablesTest(unittest.TestCase):
    def test_geometry(self):
        self.assertEqual(set(models.MODELS), set(WEIGHTS))
        silent = np.full((1, 6, 32, 32), 15, dtype=np.uint8)
        for name, module in models.MODELS.items():
            model = module.build(6, tables.Maker(10, "cpu"))
            latencies = silent
            for stage in model.stages:
                latencies = stage.output(latencies)
            if model.readout.pretraining:
                latencies = model.readout.decision_input(latencies)
            rows = [layer.output_shape(*latencies.shape[2:])[1] for layer in model.readout.decision_layers.values()]
            self.assertEqual(rows, LAST_MAPS[name], name)
            self.assertEqual(len(module.EPOCHS), len(model.stages) + len(model.readout.pretraining) + 1)

    def test_the_skip_connection_is_the_earlier_way(self):
        from tests.stdp.experiment import MODULES

        random = np.random.default_rng(4)
        main, below = (random.integers(0, 16, (3, c, n, n)).astype(np.uint8) for c, n in ((5, 7), (4, 9)))
        found = MODULES["models"].resnet2024.earlier([main], below)
        for n, f, y, x in np.ndindex(main.shape):
            self.assertEqual(found[n, f, y, x], min(main[n, f, y, x], below[n, :, y + 1, x + 1].min()))


    def test_branches_stand_side_by_side_and_centred(self):
        model = models.MODELS["inception2024"].build(6, tables.Maker(10, "cpu"))
        outputs = [np.full((2, 3, n, n), latency, dtype=np.uint8) for n, latency in ((7, 1), (5, 2), (3, 3))]
        found = model.stages[-1].merge(outputs, None)
        expected = np.full((2, 9, 7, 7), 15)
        expected[:, :3], expected[:, 3:6, 1:6, 1:6], expected[:, 6:, 2:5, 2:5] = 1, 2, 3
        np.testing.assert_array_equal(found, expected)


class CommandLineTest(unittest.TestCase):
    def error_of(self, *arguments):
        text = io.StringIO()
        with contextlib.redirect_stderr(text), self.assertRaises(SystemExit) as ended:
            train.main(["--device", "cpu", "--no-progress", *map(str, arguments)])
        self.assertEqual(ended.exception.code, 2)
        return text.getvalue()

    def test_wrong_options(self):
        for arguments, expected in (
            (["--model", "mozart"], "invalid choice"),
            (["--ratio", 1.5], "share in"),
            (["--epochs", 2, 0, 1], "at least 1"),
            (["--decay", 1.2, 3], "factor in"),
            (["--decay", 0.5, 0.5], "--decay: expected an integer"),
            (["--patience", 3, "--no-validation"], "--patience: expected held-out images"),
            (["--resume", "nowhere"], "no checkpoint at nowhere"),
        ):
            self.assertIn(expected, self.error_of(*arguments))

    def test_options_that_do_not_fit_the_data_or_the_model(self):
        with tempfile.TemporaryDirectory() as name, mock.patch.object(task, "LOADERS", {"mnist": read_bars}):
            write_images(Path(name), 6, 2)
            data = ["--data", Path(name) / "mnist.npz", "--out", name]
            self.assertIn("at most the 6 training images", self.error_of("--max-train", 7, *data))
            self.assertIn("0 of 2 training images held out", self.error_of("--max-train", 2, *data))
            said = self.error_of("--validation", 0.5, "--epochs", 1, 1, *data)
            self.assertIn("expected 3 numbers for mozafari2018 (conv1, conv2, decision), received 2: 1 1", said)
            with mock.patch.dict(sys.modules, {"tensorboardX": None}):
                self.assertIn('pip install "bats[tensorboard]"', self.error_of("--tensorboard", "--validation", 0.5, *data))

    def test_the_recorded_command_has_no_paths(self):
        given = ["--model", "deep2024", "--data", "/a", "--epochs", "1", "2", "--out", "/b", "--features", "--summary", "/c"]
        expected = "python experiments/stdp/train.py --model deep2024 --epochs 1 2 --features"
        self.assertEqual(report.portable_command(given), expected)

    def test_decay_and_epochs_by_default(self):
        found = options.parse("", ["--model", "deep2024", "--decay", "0.5", "10"])
        self.assertEqual((found.decay, found.epochs), ([0.5, 10], [2, 4, 4, 30]))


class ResultsTableTest(unittest.TestCase):
    def test_row_and_marks(self):
        summary = {
            "model": "m", "dataset": {"name": "mnist"}, "images": {"train": 55000}, "weights": 1234567, "epochs": [2, 4, 9],
            "selected_epoch": 7, "device": "cuda",
            "test": {"accuracy": 0.9512, "silent": 0.001, "macro_f1": 0.9501, "macro_roc_auc_relative": None}, "total_seconds": 42.4,
            "microseconds_per_image": {"decision": 8.04},
        }  # fmt: skip
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "stdp_m_cuda.json").write_text(json.dumps(summary))
            (folder / "stdp_speed_cuda.json").write_text("{}")
            rows = results_table.table(results_table.read_summaries(folder))
            self.assertEqual(len(rows.splitlines()), 3)
            row = "| m | mnist, 55 000 | 1 234 567 | 2 + 4 + 9, kept 7 | 95.12 % | 0.10 % | 0.950 | - | 8.0 µs | 42 s | cuda |"
            self.assertIn(row, rows)
            text = results_table.replace_table(f"a\n{results_table.START}\nold\n{results_table.END}\nb", rows)
            self.assertEqual(text.count("old"), 0)
            self.assertTrue(text.startswith("a\n") and text.endswith("\nb"))
            with self.assertRaisesRegex(ValueError, "found none"):
                results_table.read_summaries(folder / "nothing")
        with self.assertRaisesRegex(ValueError, "marks"):
            results_table.replace_table("no marks", rows)


if __name__ == "__main__":
    unittest.main()
