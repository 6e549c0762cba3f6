"""The convergence study: its commands as a user starts them, the tables and records they leave, its initial weights."""

import csv
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np

import bats
from tests.oracle import build

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "experiments" / "convergence"
GRID = ("--grid", 0.2, 2.2, 1.0, "--repeats", 3, "--epochs", 6)


def study_modules():
    """The study's own modules, imported as its scripts do."""
    with mock.patch.object(sys, "path", [str(FOLDER), *sys.path]):
        import commands
        import convergence
        import heat_maps
    return convergence, commands, heat_maps


class Commands(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.out = Path(folder.name).resolve()
        runs = {"maps": ("convergence_maps.py", "all"), "count": ("convergence_count.py", "one"), "ttfs": ("convergence_ttfs.py", "one")}
        started = {name: cls.start(script, *GRID, "--out", cls.out / place) for name, (script, place) in runs.items()}
        cls.texts = {name: process.communicate(timeout=120)[0] for name, process in started.items()}
        for name, process in started.items():
            if process.returncode:
                raise AssertionError(f"{name}: status {process.returncode}\n{cls.texts[name]}")

    @classmethod
    def start(cls, script, *options):
        command = [sys.executable, str(FOLDER / script), "--device", "cpu", *map(str, options)]
        environment = {**os.environ, "NUMBA_NUM_THREADS": "1"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(command, env=environment, cwd=cls.out, **pipes)

    def table(self, path):
        with open(self.out / path, encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def test_files(self):
        names = ("count", "ttfs", "difference")
        figures = {f"figures/convergence_{name}.{kind}" for name in names for kind in ("png", "pdf")}
        tables = {f"convergence/{name}.csv" for name in names}
        alone = {f"convergence/{name}.{kind}" for name in names[:2] for kind in ("csv", "json")}
        for place, expected in (
            ("all", {"convergence.json"} | figures | tables),
            ("one", alone | {figure for figure in figures if "difference" not in figure}),
        ):
            found = {path.relative_to(self.out / place).as_posix() for path in (self.out / place).rglob("*") if path.is_file()}
            self.assertEqual(found, expected)  # nothing else: no temporary file stayed behind
        for figure in figures:
            start = (self.out / "all" / figure).read_bytes()[:5]
            self.assertEqual(start, b"\x89PNG\r" if figure.endswith("png") else b"%PDF-")

    def test_tables_and_record(self):
        record = json.loads((self.out / "all" / "convergence.json").read_text(encoding="utf-8"))
        self.assertEqual((record["grid"], record["repeats"], record["epochs"], record["device"]), ([0.2, 1.2, 2.2], 3, 6, "cpu"))
        self.assertRegex(record["command"], r"^python experiments/convergence/convergence_maps.py --device cpu --grid 0.2 2.2 1.0")
        self.assertNotIn(str(self.out), json.dumps(record))
        self.assertIn("numba", record["environment"])
        count, ttfs, difference = (self.table(f"all/convergence/{name}.csv") for name in ("count", "ttfs", "difference"))
        for table in (count, ttfs, difference):
            cells = [(row["weight_mean"], row["weight_std"]) for row in table]
            self.assertEqual(cells, [(mean, std) for mean in ("0.2", "1.2", "2.2") for std in ("0.2", "1.2", "2.2")])
            self.assertEqual({row["repeats"] for row in table}, {"3"})
        for name, table in (("count", count), ("ttfs", ttfs)):
            values = [float(row["accuracy"]) for row in table]
            self.assertAlmostEqual(np.mean(values), record[name]["mean_accuracy"], places=5)
            errors = [float(row["standard_error"]) for row in table]
            self.assertAlmostEqual(np.linalg.norm(errors) / 9, record[name]["standard_error"], places=5)
            self.assertEqual(record[name]["status"]["samples"], 9 * 3 * 6 * 2)
            alone, both = (self.out / place / "convergence" / f"{name}.csv" for place in ("one", "all"))
            self.assertEqual(alone.read_bytes(), both.read_bytes())
        for row, a, b in zip(difference, count, ttfs, strict=True):
            self.assertAlmostEqual(float(row["difference"]), float(a["accuracy"]) - float(b["accuracy"]), places=5)
        summary, signs = record["difference"], np.sign([float(row["difference"]) for row in difference])
        self.assertAlmostEqual(summary["mean"], record["count"]["mean_accuracy"] - record["ttfs"]["mean_accuracy"])
        for name, sign in (("multi_spike_better", 1), ("equal", 0), ("multi_spike_worse", -1)):
            self.assertAlmostEqual(summary["cells"][name], (signs == sign).mean())
        self.assertIn(f"{100 * record['count']['mean_accuracy']:.2f}", self.texts["maps"])
        self.assertIn("multi-spike better / equal / worse in", self.texts["maps"])

    def test_the_map_is_that_of_single_networks(self):
        """One network after the other, with bats.Network and the losses of the specification."""
        convergence, _, _ = study_modules()
        from bats.reference import Layer

        values = 0.2 + 1.0 * np.arange(3)
        weights = convergence.initial_weights(0, values, 3)
        samples = np.array([[0, 0, 1, 2], [0, 0, 2, 1]], float)[..., None], np.ones((2, 4), int)
        for name, loss, n_slots in (("count", bats.SpikeCountClassLoss(10, 0), 10), ("ttfs", bats.TTFSSoftmaxCrossEntropy(0.1), 1)):
            best = np.zeros((3, 3, 3))
            for place in np.ndindex(3, 3, 3):
                network, optimizer = build([Layer(weights[place], 1.0, 1.0, 1.0, n_slots)], 4, "cpu"), bats.GradientDescentOptimizer(0.1)
                network.layers[1].slope_floor = 0
                for _ in range(6):
                    spikes = network.forward(*samples, 10.0, training=True)
                    best[place] = max(best[place], (loss.predict(*spikes) == [0, 1]).mean())
                    network.apply_deltas(optimizer.step(network.backward(loss.compute_errors(*spikes, [0, 1]))))
            found = [float(row["accuracy"]) for row in self.table(f"all/convergence/{name}.csv")]
            np.testing.assert_allclose(found, best.mean(axis=2).ravel(), atol=1e-6)

    def test_wrong_options(self):
        cases = (
            (("--repeats", 0), "--repeats: expected an integer of at least 1, received 0"),
            (("--grid", 1, 0, 0.1), "--grid: expected 0 <= FIRST <= LAST and STEP > 0, received 1 0 0.1"),
            (("--grid", 0, 1, 0), "STEP > 0, received 0 1 0"),
            (("--out", "/proc/self/nowhere"), "/proc/self/nowhere"),
        )
        started = [self.start("convergence_count.py", *options) for options, _ in cases]
        for process, (options, message) in zip(started, cases, strict=True):
            with self.subTest(options):
                text = process.communicate(timeout=60)[0]
                self.assertEqual(process.returncode, 2, text)
                self.assertIn(message, " ".join(text.split()))
                self.assertNotIn("Traceback", text)


class Parts(unittest.TestCase):
    def setUp(self):
        self.convergence, self.commands, self.heat_maps = study_modules()

    def test_initial_weights(self):
        """A cell's networks depend on seed, mean and std alone: not on the grid, and more repeats add to them."""
        draw = self.convergence.initial_weights
        weights = draw(3, [0.0, 0.2, 2.4], 400)
        np.testing.assert_array_equal(draw(3, [0.2, 2.4], 5), weights[1:, 1:, :5])
        self.assertFalse(np.isin(draw(4, [0.0, 0.2, 2.4], 5)[:, 1:], weights[:, 1:]).any())
        np.testing.assert_array_equal(weights[:, 0], np.broadcast_to(np.array([0, 0.2, 2.4])[:, None, None, None], weights[:, 0].shape))
        np.testing.assert_allclose(weights.mean(axis=(2, 3, 4)), [[0] * 3, [0.2] * 3, [2.4] * 3], atol=0.15)
        np.testing.assert_allclose(weights.std(axis=(2, 3, 4)), [[0, 0.2, 2.4]] * 3, rtol=0.05, atol=1e-12)

    def test_statistics(self):
        """By hand: two cells of two networks."""
        values = np.array([[[1.0, 0.0], [0.5, 0.5]]])
        means, errors = self.convergence.cell_statistics(values)
        np.testing.assert_allclose(means, [[0.5, 0.5]])
        np.testing.assert_allclose(errors, [[0.5, 0]])
        self.assertEqual(self.convergence.map_average(values), (0.5, 0.25))
        self.assertEqual(self.convergence.map_average(values[..., :1]), (0.75, None))
        other = SimpleNamespace(best=np.array([[[1.0, 0.5], [0.5, 0.0]]]))
        summary = self.convergence.compare(SimpleNamespace(best=values), other)
        self.assertEqual(summary["mean"], 0)
        self.assertEqual(summary["cells"], {"multi_spike_better": 0.5, "equal": 0.0, "multi_spike_worse": 0.5})
        self.assertEqual(summary["networks"], {"multi_spike_better": 0.25, "equal": 0.5, "multi_spike_worse": 0.25})

    def test_a_failed_write_keeps_the_old_picture(self):
        with tempfile.TemporaryDirectory() as folder:
            stem = Path(folder) / "map"
            for kind in ("png", "pdf"):
                stem.with_name(f"map.{kind}").write_bytes(b"old")
            with mock.patch("os.replace", side_effect=OSError(28, "No space left on device")):
                with self.assertRaisesRegex(OSError, r"cannot write .*map\.png: No space left on device"):
                    self.heat_maps.accuracy_map(stem, np.array([0.0, 1.0]), np.zeros((2, 2)), "title", "subtitle")
            self.assertEqual({path.read_bytes() for path in Path(folder).iterdir()}, {b"old"})
            self.assertEqual(len(list(Path(folder).iterdir())), 2)

    def test_one_cell(self):
        """A grid of one cell, one repeat: no standard error, and still a picture."""
        with tempfile.TemporaryDirectory() as folder:
            options = "--grid 1 1 1 --repeats 1 --epochs 2 --device cpu --out"
            arguments = ["convergence_maps.py", *options.split(), folder]
            with mock.patch.object(sys, "argv", arguments), mock.patch("builtins.print"):
                self.commands.both_maps("")
            record = json.loads((Path(folder) / "convergence.json").read_text(encoding="utf-8"))
            self.assertIsNone(record["count"]["standard_error"])
            self.assertEqual(record["grid"], [1.0])
            self.assertTrue((Path(folder) / "figures" / "convergence_difference.pdf").is_file())


if __name__ == "__main__":
    unittest.main()
