"""The table of issue 4 from rows that are there and rows that are not; accuracy over seeds, and what counts as nearly silent."""

import contextlib
import json
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import numpy as np

import bats
from bats.device import to_numpy
from tests.benchmarks.scripts import few_images, run_main, scripts


def row(job, batch, ms, **more):
    common = {"epoch_seconds": 0.06, "inference_ms": 4.0, "inference_device_ms": 2.5, "fused": True}
    common |= {"memory_beside_images_mb": 170.0, "memory_beside_data_mb": 150.0}
    host = {"start_ms": 0.2, "enqueue_ms": 0.3, "wait_ms": 3.0, "metrics_ms": 0.1, "fused_reason": None}
    return {"job": job, "batch": batch, "ms_per_step": ms, "ms_per_step_alone": 2 * ms, **common, **host, **more}


class Case(unittest.TestCase):
    def setUp(self):
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)
        self.load = stack.enter_context(scripts())
        self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self.data = few_images()


class Table(Case):
    def test_lines(self):
        table = self.load("table")
        rows = [row("count", 50, 0.04), row("count", 1024, 0.66), row("conv", 20, 0.5, fused=False, fused_reason="it convolves")]
        rows.append(row("count", 50, 20, cpu="a processor", epoch_seconds=7.0, fused=False))
        lines = {(line["name"], line["batch"], line["unit"]): line for line in table.lines_of(rows)}
        count = table.NAMES["count"]
        self.assertEqual(lines[count, 50, "ms"]["value"], 0.04)
        self.assertEqual(lines[count, 50, "s"]["value"], 0.06)
        self.assertEqual(lines[count, 1024, "GB"]["value"], 0.15)
        self.assertEqual(lines[f"{count}, CPU, 2 cores", 50, "s"]["value"], 7.0)
        self.assertIsNone(lines[count, 256, "ms"]["value"])
        record = {
            "environment": {"gpu": "a GPU"},
            "command": "x",
            "date": "d",
            "steps": 300,
            "table": table.lines_of(rows),
            "notes": ["note"],
        }
        text = table.markdown(record)
        self.assertIn(f"| {count} | 50 | step | 0.04 ms | <= 0.05 ms | **0.80** | fused |", text)
        self.assertIn(f"| {count} | 1024 | step | 0.66 ms | <= 0.55 ms | 1.20 | fused |", text)
        self.assertIn("| MNIST conv | 20 | step | 0.5 ms | <= 0.27 ms | 1.85 | plain |", text)
        self.assertIn(f"| {count} | 256 | step | not measured | <= 0.15 ms | not measured | - |", text)
        self.assertIn("| any | inference, 10 000 test images | 4 ms | <= 3 ms |", text)

    def test_from_measurement_to_files(self):
        """All of the script but the measurements themselves; the CPU from an earlier record."""
        table = self.load("table")
        earlier = self.folder / "cpu.json"
        earlier.write_text(json.dumps({"device": "cpu", "environment": {"cpu": "a processor"}, "rows": [row("count", 50, 19.0)]}))

        def measure(job, batch, device, dtype, data, warm_up, steps, fused):
            self.assertEqual((device, dtype, fused), ("cuda", "float32", "auto"))
            return row(job, batch, 0.1, samples_per_second=1.0, fused=job != "conv", fused_reason="it convolves" if job == "conv" else None)

        def load_data(job, path=None):
            if job == "fashion":
                raise FileNotFoundError("no Fashion-MNIST here")
            return self.data

        with (
            mock.patch.object(table.training, "measure", measure),
            mock.patch.object(table, "load_data", load_data),
            mock.patch.object(table.bats.device, "resolve", lambda device: device),
        ):
            run_main(table, "--device", "cuda", "--cpu-record", earlier, "--out", self.folder / "table")
        text = (self.folder / "table.md").read_text(encoding="utf-8")
        for part in (
            "Fashion 784-400-400-10 is missing: no Fashion-MNIST here", "Not fused: MNIST conv, batch 20: it convolves.",
            "CPU: a processor, 19.00 ms per step.", "Inference: 2.50 ms on the device; on the host 0.20 ms order, 0.30 ms launches",
        ):  # fmt: skip
            self.assertIn(part, text)
        record = json.loads((self.folder / "table.json").read_text(encoding="utf-8"))
        self.assertEqual(len(record["table"]), 12)
        self.assertEqual(table.read_cpu(self.folder / "table.json")["ms_per_step"], 19.0)
        with self.assertRaisesRegex(ValueError, "expected a row of the count job at batch 50 on the CPU, received none"):
            earlier.write_text(json.dumps({"device": "cuda", "rows": [row("count", 50, 0.1)]}))
            table.read_cpu(earlier)


class AccuracyOverSeeds(Case):
    def test_study(self):
        accuracy, out = self.load("accuracy"), self.folder / "accuracy.json"
        with mock.patch.object(accuracy, "load_mnist", lambda path=None: self.data):
            options = (
                "--device",
                "cpu",
                "--fused",
                "--seeds",
                0,
                3,
                "--epochs",
                3,
                "--remedy-epochs",
                1,
                "--strengths",
                1e-5,
                "--jobs",
                "count",
            )
            said = run_main(accuracy, *options, "--out", out)
        record = json.loads(out.read_text(encoding="utf-8"))
        self.assertEqual([(row["seed"], row["remedy"]) for row in record["rows"]], [(0, 0), (3, 0), (0, 1e-5), (3, 1e-5)])
        self.assertEqual([len(row["test_accuracy_percent"]) for row in record["rows"]], [3, 3, 1, 1])
        summary = record["summary"]["count"]
        self.assertEqual(list(summary["test_accuracy_percent_after"]), ["1", "3"])
        first = [row["test_accuracy_percent"][0] for row in record["rows"][:2]]
        self.assertEqual(summary["test_accuracy_percent_after"]["1"], {"mean": np.mean(first), "min": min(first), "max": max(first)})
        self.assertEqual(summary["steps"], ["fused step"])
        self.assertIn("count, remedy 1e-05", said)
        self.load("plots_speed").accuracy_fused(record, self.folder / "accuracy.png")
        self.assertGreater((self.folder / "accuracy.png").stat().st_size, 10_000)

    def test_nearly_silent(self):
        """One output without any drive: its class, and no other, has a share of 0; the others' shares are those of a forward pass."""
        study = self.load("accuracy_fused")
        model, test = study.MODELS["count"], bats.sources.LatencyImages(self.data.x_test, self.data.y_test)
        network = model.network("cpu", "float32", 0)
        weights = np.abs(to_numpy(network.layers[2].weights))
        weights[4] = -1
        network.layers[2].weights = weights
        shares = study.own_class_shares(network, model, test)
        images = np.bincount(self.data.y_test, minlength=10)
        self.assertEqual(shares[4], 0)
        self.assertTrue((np.delete(shares, 4)[np.delete(images, 4) > 0] > study.NEARLY_SILENT).all())


if __name__ == "__main__":
    unittest.main()
