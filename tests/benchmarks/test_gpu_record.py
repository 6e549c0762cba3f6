"""benchmarks/gpu_tests.py: what a record says, and that one which was cut short goes on; without running a test."""

import contextlib
import io
import json
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from tests.benchmarks import scripts

with scripts.scripts() as load:
    gpu_tests = load("gpu_tests")


def outcome(name, failures=0, skips=()):
    return {
        "module": name, "run": 3, "failures": failures, "errors": 0, "skips": list(skips), "seconds": len(name), "text": "",
    }  # fmt: skip


class Record(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.out = Path(folder.name) / "record.json"
        self.ran = []

    def record(self, *options, modules=("a", "b"), tool="clean", broken=None, **fields):
        """Exit status of the script where every module and tool gives what is asked for; `broken` stops it."""

        def module(name, every):
            if name == broken:
                raise KeyboardInterrupt
            self.ran.append(name)
            return outcome(name, **fields)

        def sanitize(name):
            self.ran.append(name)
            return tool

        replaced = {"test_modules": lambda: list(modules), "run_in_a_process": module, "sanitize": sanitize}
        argv = [str(scripts.BENCHMARKS / "gpu_tests.py"), "--out", str(self.out), "--jobs", "1", *options]
        with mock.patch.multiple(gpu_tests, **replaced), mock.patch("sys.argv", argv), contextlib.redirect_stdout(io.StringIO()):
            with self.assertRaises((SystemExit, KeyboardInterrupt)) as caught:
                gpu_tests.main()
        return getattr(caught.exception, "code", None)

    def test_complete(self):
        self.assertEqual(self.record(), 0)
        record = json.loads(self.out.read_text())
        self.assertEqual((record["tests"]["complete"], record["tests"]["run"], record["tests"]["not_run"]), (True, 6, []))
        self.assertEqual(record["sanitizer"], dict.fromkeys(gpu_tests.TOOLS, "clean"))
        self.assertEqual(record["sources_sha256"], gpu_tests.source_hash())

    def test_not_good_enough(self):
        self.assertEqual(self.record(failures=1), 1)
        self.assertEqual(self.record(skips=["needs CUDA"]), 1)
        self.assertEqual(self.record(tool="a leak"), 1)
        self.assertEqual(self.record(skips=["needs brian2"]), 0)

    def test_goes_on(self):
        self.record(broken="b")
        self.assertEqual(json.loads(self.out.read_text())["tests"]["not_run"], ["b"])
        self.ran.clear()
        self.assertEqual(self.record("--resume"), 0)
        self.assertEqual(self.ran, ["b"])
        self.assertEqual(json.loads(self.out.read_text())["tests"]["run"], 6)
        with mock.patch.object(gpu_tests, "source_hash", lambda: "other"), contextlib.redirect_stderr(io.StringIO()) as said:
            self.assertEqual(self.record("--resume"), 2)
        self.assertIn("--resume: expected a record of these sources (other)", said.getvalue())

    def test_cuda_tests_only(self):
        """Of a module with tests for both devices; without a GPU they are skipped, and the reason is kept."""
        name = "tests.ops.test_spike_rates"
        few, every = (gpu_tests.run_module(name, every) for every in (False, True))
        self.assertEqual(2 * few["run"], every["run"])
        self.assertGreater(few["run"], 0)
        self.assertEqual(every["skips"][: len(few["skips"])], few["skips"])
        self.assertEqual(gpu_tests.run_module("tests.no_such_module", False)["errors"], 1)

    def test_longest_first(self):
        self.record(modules=("a", "bbb", "bb"))
        self.ran.clear()
        with mock.patch.object(gpu_tests, "former", lambda path: ([outcome(name) for name in ("a", "bbb", "bb")], {}, None)):
            self.record(modules=("a", "bbb", "bb", "unknown"))
        self.assertEqual(self.ran[len(gpu_tests.TOOLS) :], ["unknown", "bbb", "bb", "a"])


if __name__ == "__main__":
    unittest.main()
