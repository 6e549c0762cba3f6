"""The FastSNN study's bookkeeping: which epoch a run is judged by, which runs a file holds, the table."""

import sys
import tempfile
import unittest
from pathlib import Path

FOLDER = str(Path(__file__).resolve().parents[2] / "experiments" / "fastsnn")
sys.path.insert(0, FOLDER)
import run_training  # noqa: E402

sys.path.remove(FOLDER)  # other studies have modules of the same names


def run(layer, seed, held_out, accuracies):
    """Rows of a run as a file gives them; accuracies: (test, held out) of each epoch."""
    common = {"dataset": "fmnist", "layer": layer, "seed": str(seed), "validation": str(held_out)}
    common |= {"train_loss": "0.5", "spikes_per_sample": "9"}
    return [
        {**common, "epoch": str(n), "test_accuracy_percent": str(test), "validation_accuracy_percent": str(validated) if held_out else ""}
        for n, (test, validated) in enumerate(accuracies, start=1)
    ]


class Bookkeeping(unittest.TestCase):
    def test_the_test_set_selects_nothing(self):
        curve = [(70.0, 60.0), (90.0, 79.5), (80.0, 80.5), (99.0, 80.5), (75.0, 9.0)]
        self.assertEqual(run_training.selected(run("fast", 0, 50, curve))["epoch"], "3")  # the first of the best
        self.assertEqual(run_training.selected(run("fast", 0, 0, curve))["epoch"], "5")

    def test_runs_and_table(self):
        rows = run("fast", 1, 50, [(70, 1), (60, 0)]) + run("standard", 0, 0, [(50, 0), (85, 0)]) + run("fast", 0, 50, [(72, 1), (74, 2)])
        runs = run_training.runs_in(rows)
        self.assertEqual(list(runs), [("fmnist", "standard", 0, 0), ("fmnist", "fast", 0, 50), ("fmnist", "fast", 1, 50)])
        lines = run_training.table(rows).splitlines()[4:]
        self.assertEqual(len(lines), 3)
        self.assertIn("| standard | 2 | 0 | last epoch | 85.00 | 85.00 | 2 |", lines[0])
        self.assertIn("| fast | 2 | 50 | best held-out epoch | 74.00, 70.00 | 72.00 | 2, 1 |", lines[1])
        self.assertIn("| fast | 2 | 50 | last epoch | 74.00, 60.00 | 67.00 | 2, 2 |", lines[2])

    def test_file(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "training.csv"
            self.assertEqual(run_training.read_rows(path), [])
            rows = run("fast, learned filter", 2, 7, [(1.5, 2.5)])
            run_training.write_rows(path, rows, run_training.COLUMNS)
            read = run_training.read_rows(path)
            self.assertEqual({name: read[0][name] for name in rows[0]}, rows[0])
            self.assertEqual(run_training.run_of(read[0]), ("fmnist", "fast, learned filter", 2, 7))
