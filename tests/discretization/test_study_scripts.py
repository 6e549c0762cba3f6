"""The scripts of experiments/time_discretization on a handful of samples: sweep, resumption, cross test, figures, report."""

import contextlib
import io
import os
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

FOLDER = Path(__file__).resolve().parents[2] / "experiments" / "time_discretization"


class StudyScripts(unittest.TestCase):
    def run_script(self, name, *options):
        """main() of a script, in this process; what it printed."""
        said = io.StringIO()
        with mock.patch.object(sys, "argv", [name, *options, "--out", self.out]), contextlib.redirect_stdout(said):
            module = __import__(name)
            module.main(*([sys.modules["runs"].parse("")] if name in ("sweep", "cross") else []))
        return said.getvalue()

    def test_from_sweep_to_report(self):
        with tempfile.TemporaryDirectory() as self.out:
            offline = {"BATS_OFFLINE": "1", "BATS_DATA": self.out}
            with mock.patch.dict(os.environ, offline), mock.patch.object(sys, "path", [str(FOLDER), *sys.path]):
                with contextlib.redirect_stderr(io.StringIO()):
                    common = ("--device", "cpu", "--max-train", "100", "--epochs", "1", "--seeds", "0", "--no-progress")
                    self.assertIn("2 runs", self.run_script("sweep", *common, "--dts", "0", "8"))
                    self.assertIn("1 runs", self.run_script("sweep", *common, "--dts", "0", "5", "8"))  # two are known
                    self.assertIn("4 tests", self.run_script("cross", *common, "--dts", "0", "8"))
                    with self.assertRaisesRegex(SystemExit, "none for 3 ms, seed 0"):
                        self.run_script("cross", *common, "--dts", "0", "3")
                    self.run_script("plot")
                    self.run_script("report")
            folder = Path(self.out) / "time_discretization"
            self.assertEqual([row["dt_ms"] for row in sys.modules["runs"].read_rows(folder / "mnist.csv")], ["0", "8", "5"])
            text = (folder / "README.md").read_text(encoding="utf-8")
            self.assertIn("3 runs of 1 epochs on 100 samples", text)
            for name in ("latching", "mnist_sweep", "mnist_trade", "mnist_cross"):
                self.assertGreater((folder / f"{name}.png").stat().st_size, 10_000)


if __name__ == "__main__":
    unittest.main()
