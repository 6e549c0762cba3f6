"""The speed benchmarks on a handful of images on the CPU: what they time is what a step does, and what they cannot do they say."""

import contextlib
import json
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import numpy as np

from tests.benchmarks.scripts import few_images, run_main, scripts

SKIPPED = "not fused: expected one hidden layer on the cpu, received 2"


class SpeedScripts(unittest.TestCase):
    def setUp(self):
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)
        self.load = stack.enter_context(scripts())
        self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self.data = few_images()

    def run_script(self, name, *options):
        """(record, what was printed) of a script on the images of the test; its figure is there."""
        module = self.load(name)
        out, plot = self.folder / f"{name}.json", self.folder / f"{name}.png"
        patch = (
            mock.patch.object(module, "load_data", lambda job, path=None: self.data) if hasattr(module, "load_data") else mock.MagicMock()
        )
        with patch:
            said = run_main(module, "--device", "cpu", *options, "--out", out, "--plot", plot)
        self.assertGreater(plot.stat().st_size, 10_000)
        record = json.loads(out.read_text(encoding="utf-8"))
        self.assertNotIn(str(self.folder), json.dumps(record))
        return record, said

    def test_training(self):
        record, said = self.run_script("training", "--jobs", "count", "fashion", "--batches", 7, "--warm-up", 1, "--steps", 4)
        self.assertEqual(
            [(row["job"], row["batch"], row["fused"]) for row in record["rows"]],
            [("count", 7, False), ("count", 7, True), ("fashion", 7, False)],
        )
        self.assertEqual([row["why"] for row in record["skipped"]], [SKIPPED])
        for row in record["rows"]:
            parts = sum(row[name] for name in ("start_ms", "enqueue_ms", "wait_ms", "metrics_ms"))
            self.assertAlmostEqual(parts, row["inference_ms"], delta=0.3 * row["inference_ms"])
            self.assertEqual(row["inference_images"], 40)
            self.assertGreater(row["spikes_per_sample"]["output"], 0)
        self.assertIn(SKIPPED, said)

    def test_training_without_a_data_set(self):
        module = self.load("training")
        with mock.patch.object(module, "load_data", side_effect=FileNotFoundError("no images\nmore")):
            self.assertIn("count   skipped: no images", run_main(module, "--device", "cpu", "--jobs", "count"))

    def test_work_goes_through_whole_batches_in_one_order(self):
        """50 images in batches of 16: three batches of the order, again and again; in a row or alone."""
        jobs, clock = self.load("jobs"), self.load("clock").Clock(device="cpu")
        work = jobs.Work("count", 16, "cpu", "float32", few_images(50), False, clock)
        seen = []
        for run in (work.steps_in_a_row, work.timed_steps):
            for _ in range(2):
                self.assertGreater(run(1, clock)[0], 0)
                seen.append(work.step._place.indices[:16].tolist())
        self.assertEqual(len({index for batch in seen[:3] for index in batch}), 48)
        self.assertEqual(seen[3], seen[0])
        self.assertEqual(len(work.steps_in_a_row(4, clock)), 4)
        self.assertEqual(work.step.metrics()["samples"], 8 * 16)

    def test_operations_are_those_of_a_step(self):
        """Launched one after another they give what the step gave: events, spikes, predictions, gradient of the output weights."""
        jobs, op_list, clock = self.load("jobs"), self.load("op_list"), self.load("clock").Clock(device="cpu")
        work = jobs.Work("count", 12, "cpu", "float32", self.data, False, clock)
        work.train_steps(3)
        work.optimizer.learning_rate = 0
        work.train_steps(1)
        hidden, output = work.network.layers[1:]

        def state():
            return [
                np.array(array) for array in (hidden.trains[1], output.trains[0], work.step.predictions, output.gradient, output.matrix)
            ]

        before = state()
        operations = op_list.make(work, 8)
        n = op_list.counts_of(work)
        self.assertEqual(n.spikes, before[0].sum())
        self.assertEqual(n.events, (self.data.x_train.reshape(-1, 784)[work.step._place.indices] > 0).sum())
        hidden.trains[1].fill(0)
        output.gradient.fill(0)
        work.step._predictions.fill(-1)
        for _ in range(2):
            for operation in operations:
                operation.launch()
        for found, expected in zip(state(), before, strict=True):
            np.testing.assert_array_equal(found, expected)
        self.assertTrue(all(operation.n_bytes > 0 for operation in operations))

    def test_ops(self):
        record, _ = self.run_script("ops", "--batches", 6, 9, "--warm-up", 1)
        self.assertEqual({row["batch"] for row in record["rows"]}, {6, 9})
        self.assertIn("assumed", record["rates"])
        for row in record["rows"]:
            memory = row["bytes"] / record["rates"]["bytes_per_second"]
            arithmetic = row["operations"] / record["rates"]["operations_per_second"]
            self.assertAlmostEqual(row["floor_us"], 1e6 * max(memory, arithmetic))
            self.assertAlmostEqual(row["share_of_floor"], row["floor_us"] / row["us"])
        self.assertEqual(record["steps"][0]["fused"], "the kernels need CUDA")

    def test_scaling(self):
        record, _ = self.run_script("scaling", "--quick", "--steps", 3, "--seconds", 0.05, "--sweeps", "batch", "events")
        rows = [row for row in record["rows"] if row["sweep"] == "events"]
        self.assertEqual([row["events"] for row in rows], [10, 100, 1000])
        self.assertTrue(all(row["spikes_per_sample"] > row["events"] for row in rows))
        for row in rows:
            self.assertAlmostEqual(row["ns_per_spike"] * row["batch"] * row["spikes_per_sample"], 1e6 * row["ms_per_step"])
        self.assertIsNotNone(record["summary"]["events, plain"]["slope_ms"])

    def test_scaling_says_what_it_leaves_out(self):
        module = self.load("scaling")
        said = run_main(module, "--device", "cpu", "--quick", "--sweeps", "neurons", "--memory-gb", 0.0001)
        self.assertEqual(said.count("GB, the budget is 0.0001 GB"), 3)
        said = run_main(module, "--device", "cpu", "--quick", "--sweeps", "batch", "--total-seconds", 0)
        self.assertEqual(said.count("skipped: the run's 0 s were over"), 3)
        case = self.load("scaling_cases").Case(batch=4)
        with mock.patch.object(module, "_figures", side_effect=MemoryError("no room")):
            row = module.measure(case, "plain", "cpu", mock.Mock(memory_gb=1))
        self.assertEqual(row["skipped"], "out of memory: no room")

    def test_scaling_judges_the_time_per_spike(self):
        summarise = self.load("scaling").summarise
        common = {"sweep": "batch", "field": "batch", "kind": "fused", "spikes_mb": 1, "weights_mb": 2, "memory_mb": 6, "ms_per_step": 1}
        for worst, constant in ((1.45, True), (1.55, False)):
            rows = [{**common, "batch": batch, "ns_per_spike": ns} for batch, ns in ((16, 9), (64, 1), (256, worst), (1024, 1.2))]
            found = summarise([*rows, {**common, "batch": 4096, "skipped": "no room"}])["batch, fused"]
            self.assertEqual(found["constant_within_1.5"], constant)
            self.assertAlmostEqual(found["ns_per_spike_max_over_min_from_64"], worst)
            self.assertEqual(found["memory_per_byte_of_spikes_and_weights"], [2.0] * 4)

    def test_peers_that_are_missing_are_named(self):
        with mock.patch.dict("sys.modules", {"torch": None}):
            record, said = self.run_script("peers", "--batch", 10, "--steps", 3)
        for name, row in zip(("bats, fused step", "bats, plain step"), record["rows"], strict=False):
            self.assertEqual(row["name"], name)
            self.assertTrue(0 < row["accuracy_percent_after_1_epoch"] <= 100)
        for row in record["rows"][2:]:
            self.assertRegex(row["skipped"], "ModuleNotFoundError: .*torch")
            self.assertIn(row["name"], said)
        self.assertEqual(len(record["rows"]), 5)


if __name__ == "__main__":
    unittest.main()
