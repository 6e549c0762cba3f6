"""The scripts as a user starts them: --help, a small run, a run that is stopped by Ctrl-C and resumed, wrong input."""

import argparse
import csv
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import numpy as np

from bats.training.history import WALL_TIMES

ROOT = Path(__file__).resolve().parents[2]
MNIST = ROOT / "experiments" / "mnist"
OTHERS = ("yin_yang/train_ttfs.py", "fashion_mnist/train.py", "emnist/train.py")
SCRIPTS = [*sorted(MNIST.glob("train_*.py")), *(ROOT / "experiments" / name for name in OTHERS)]
FILES = {
    "config.json", "environment.json", "metrics.csv", "checkpoint.npz", "confusion_matrix.csv", "confusion_matrix.png",
    "raster.png", "per_class.csv", "sparsity.csv", "sparsity.png", "latency.csv", "latency.png", "summary.json",
    "summary.txt", "output_metrics", "best_model",
}  # fmt: skip


class ExperimentsTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.out = Path(folder.name).resolve()

    def start(self, script, *options):
        command = [sys.executable, "-u", str(script), "--device", "cpu", *map(str, options)]
        environment = {**os.environ, "BATS_OFFLINE": "1", "BATS_DATA": str(self.out), "PYTHONPATH": ""}
        environment["NUMBA_NUM_THREADS"] = "1"  # several scripts at once on few cores: threads would wait for each other
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(command, env=environment, cwd=self.out, **pipes)

    def run_script(self, script, *options, status=0):
        process = self.start(script, *options)
        text = process.communicate(timeout=120)[0]
        self.assertEqual(process.returncode, status, text)
        return text

    def folders(self, study):
        return sorted((self.out / study).iterdir(), key=lambda folder: folder.stat().st_ctime)

    def figures(self, folder):
        """Weights, and metrics.csv without the wall times."""
        with np.load(folder / "checkpoint.npz") as file:
            weights = {name: file[name].tobytes() for name in file.files if name.startswith(("weights/", "optimizer/"))}
        with open(folder / "metrics.csv", encoding="utf-8", newline="") as file:
            return weights, [{name: row[name] for name in row if name not in WALL_TIMES} for row in csv.DictReader(file)]

    def test_help_of_every_script(self):
        self.assertEqual(len(SCRIPTS), 10)
        processes = {script: self.start(script, "--help") for script in SCRIPTS}
        for script, process in processes.items():
            with self.subTest(script.name):
                text = process.communicate(timeout=60)[0]
                self.assertEqual(process.returncode, 0, text)
                for option in "epochs batch-size learning-rate seed device dtype data validation out resume".split():
                    self.assertIn(f"--{option}", text)

    def test_cross_study(self):
        script = MNIST / "train_ttfs_eval_count.py"
        text = self.run_script(script, "--epochs", 1, "--max-train", 200, "--validation", 50, "--out", self.out)
        for part in ("embedded subset", "test accuracy", "read-out", "spike count", "spikes per sample", "samples/s"):
            self.assertIn(part, text)
        (folder,) = self.folders("mnist_train_ttfs_eval_count")
        self.assertLessEqual(FILES, {file.name for file in folder.iterdir()})
        config = json.loads((folder / "config.json").read_text())
        self.assertEqual((config["dataset"]["trained_on"], config["dataset"]["held_out"]), (150, 50))
        summary = json.loads((folder / "summary.json").read_text())
        self.assertEqual(summary["selection"], "best epoch on held-out training samples")
        self.assertGreater(summary["test_spikes_per_sample"]["output"], 10)  # more than one spike per neuron

    def test_convolution(self):
        script, options = MNIST / "train_conv.py", ("--epochs", 1, "--max-train", 100, "--validation", 40)
        text = self.run_script(script, *options, "--no-progress", "--out", self.out)
        self.assertRegex(text, r"conv_1 [\d.]+, conv_2 [\d.]+, hidden [\d.]+, output")
        (folder,) = self.folders("mnist_conv")
        self.assertLessEqual(FILES, {file.name for file in folder.iterdir()})
        self.assertEqual(len(list((folder / "best_model").iterdir())), 4)
        config = json.loads((folder / "config.json").read_text())
        self.assertEqual(config["augmentation"], {"elastic": {"grid": [2, 2], "sigma_pixels": 1.0}})

    def test_only_training_images_are_deformed(self):
        with mock.patch.object(sys, "path", [str(MNIST), *sys.path]):
            load_task = runpy.run_path(str(MNIST / "train_conv.py"))["load_task"]
        for no_augment, kind in ((False, "ElasticImages"), (True, "LatencyImages")):
            with mock.patch.dict(os.environ, {"BATS_OFFLINE": "1", "BATS_DATA": str(self.out)}):
                task = load_task(argparse.Namespace(data=None, seed=3, no_augment=no_augment))
            sources = task.make_source(np.arange(9)), task.make_held_out(np.arange(9)), task.test_source
            self.assertEqual([type(source).__name__ for source in sources], [kind, "LatencyImages", "LatencyImages"])

    def test_stopped_by_ctrl_c_and_resumed(self):
        script = ROOT / "experiments" / "yin_yang" / "train_ttfs.py"
        options = ("--epochs", 20, "--max-train", 2000, "--validation", 100, "--seed", 5, "--out", self.out)
        process = self.start(script, *options)
        for line in process.stdout:
            if line.startswith("epoch   2"):
                break
        process.send_signal(signal.SIGINT)
        text = process.communicate(timeout=60)[0]
        self.assertEqual(process.returncode, 130, text)
        self.assertIn("Stopped by Ctrl-C in epoch", text)
        (stopped,) = self.folders("yin_yang_ttfs")
        self.assertIn(f"--resume {stopped}", text)
        resumed, other = self.start(script, "--resume", stopped), MNIST / "train_ttfs.py"
        self.assertRegex(
            self.run_script(other, "--resume", stopped, status=2),
            "(?s)error: .*network.layers.hidden.n_neurons: expected 800, received 120",
        )
        text = resumed.communicate(timeout=60)[0]
        self.assertEqual(resumed.returncode, 0, text)
        self.assertIn("Resumed at epoch", text)
        self.assertEqual(self.folders("yin_yang_ttfs"), [stopped])
        self.run_script(script, *options, "--no-progress")
        whole = next(folder for folder in self.folders("yin_yang_ttfs") if folder != stopped)
        self.assertEqual(self.figures(stopped), self.figures(whole))
        self.assertEqual(len(self.figures(stopped)[1]), 20)
        self.assertIn("resumed", json.loads((stopped / "environment.json").read_text()))

    def test_weights_that_are_not_finite_end_the_run(self):
        script = ROOT / "experiments" / "yin_yang" / "train_ttfs.py"
        options = ("--learning-rate", 1e39, "--max-train", 100, "--on-failure", "raise", "--out", self.out)
        text = self.run_script(script, *options, status=1)
        self.assertRegex(text, r"error: epoch 1: weights are not finite; .*checkpoint.npz holds the last finite state")
        self.assertNotIn("Traceback", text)

    def test_wrong_input(self):
        script = MNIST / "train_spike_count.py"
        cases = (
            (("--data", self.out / "nothing"), "nothing"),
            (
                ("--max-train", 70000),
                "--max-train: expected at most the 5000 training samples of the set, received 70000",
            ),
            (("--max-train", 10, "--validation", 10), "expected 0 to 9 of the 10 training samples, received 10"),
            (("--out", "/proc/self/nowhere"), "results cannot be written to /proc/self/nowhere"),
        )
        processes = [self.start(script, *options) for options, _ in cases]
        message = "--fused: expected auto or off, received on, which cannot be: expected two or more dense LIF layers"
        cases += ((("--fused", "on"), message),)
        processes.append(self.start(MNIST / "train_conv.py", "--fused", "on"))
        for process, (options, message) in zip(processes, cases, strict=True):
            with self.subTest(options):
                text = process.communicate(timeout=60)[0]
                self.assertEqual(process.returncode, 2, text)
                self.assertIn(message, text.replace("\n", " "))
                self.assertNotIn("Traceback", text)


if __name__ == "__main__":
    unittest.main()
