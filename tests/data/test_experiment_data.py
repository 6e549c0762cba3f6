"""`--data PATH` as a user types it: a script trained on another set says so on the screen and in every file."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from bats.data.catalogue import EMNIST
from tests.data.case import DataCase

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "experiments" / "mnist" / "train_spike_count.py"


class TestExperimentData(DataCase):
    def test_stand_in_is_labelled_everywhere(self):
        generator = np.random.default_rng(0)
        arrays = {"classes": np.array(EMNIST.class_names)}
        for part in ("train", "test"):
            arrays |= {f"x_{part}": generator.integers(0, 256, (94, 5, 6), np.uint8), f"y_{part}": np.arange(94) % 47}
        path = self.put("emnist_bymerge_subset.npz", self.npz_bytes(arrays))
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_NUM_THREADS": "1", "BATS_OFFLINE": "1"}
        command = [sys.executable, str(SCRIPT), "--device", "cpu", "--data", str(path), "--out", str(self.folder), "--epochs", "1"]
        done = subprocess.run([*command, "--no-progress"], env=environment, cwd=self.folder, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        label = "EMNIST ByMerge subset, not EMNIST-balanced"
        self.assertIn(f"emnist_bymerge_subset.npz is the {label}", done.stderr)
        self.assertEqual(done.stdout.count(label), 2)  # when it starts, and in the table
        (run,) = (self.folder / "mnist_spike_count").iterdir()
        self.assertIn(label, (run / "summary.txt").read_text())
        self.assertIn(label, json.loads((run / "summary.json").read_text())["dataset"])
        dataset = json.loads((run / "config.json").read_text())["dataset"]
        self.assertEqual((dataset["name"], dataset["kind"]), ("emnist_bymerge_subset", label))
        header = (run / "confusion_matrix.csv").read_text().splitlines()[0]
        self.assertEqual(header.split(",")[1:48], list(EMNIST.class_names))
