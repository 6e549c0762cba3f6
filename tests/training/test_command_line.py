"""The shared command line: defaults, wrong values, where results go."""

import contextlib
import io
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from bats.training import command_line
from tests.training.test_checkpoint import make_checkpoint


class CommandLineTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def parse(self, *argv):
        parser = command_line.make_parser("A study.", epochs=30, batch_size=50, learning_rate=0.002)
        return command_line.parse(parser, list(map(str, argv)))

    def assert_refused(self, message, *argv):
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors), self.assertRaises(SystemExit) as caught:
            self.parse(*argv)
        self.assertEqual(caught.exception.code, 2)
        self.assertRegex(errors.getvalue(), message)

    def test_defaults(self):
        arguments = self.parse()
        self.assertEqual((arguments.epochs, arguments.batch_size, arguments.learning_rate), (None, 50, 0.002))
        self.assertEqual((arguments.seed, arguments.device, arguments.dtype), (0, "auto", "float32"))
        self.assertEqual(command_line.selection(arguments), "last")
        self.assertEqual([command_line.fused(self.parse("--fused", name)) for name in ("auto", "on", "off")], ["auto", True, False])
        self.assertEqual(command_line.fused(arguments), "auto")
        self.assertEqual(command_line.selection(self.parse("--validation", 10)), "validation")
        self.assertEqual(command_line.selection(self.parse("--select-on-test")), "test")

    def test_wrong_values(self):
        self.assert_refused("--epochs: expected an integer at least 1, received 0", "--epochs", 0)
        self.assert_refused("--epochs: expected an integer, received 'two'", "--epochs", "two")
        self.assert_refused("--batch-size: expected an integer at least 1, received -5", "--batch-size=-5")
        self.assert_refused("--learning-rate: expected a positive number, received nan", "--learning-rate", "nan")
        self.assert_refused("--learning-rate: expected a number, received 'fast'", "--learning-rate", "fast")
        self.assert_refused("--seed: expected an integer from 0 to 4294967295, received -1", "--seed=-1")
        self.assert_refused("--device: invalid choice: 'tpu'", "--device", "tpu")
        self.assert_refused("expected one rule of selection, received both", "--validation", 5, "--select-on-test")
        self.assert_refused("--resume: .*no checkpoint at", "--resume", self.folder)

    def test_resume_takes_the_options_of_the_run(self):
        checkpoint = make_checkpoint()
        checkpoint.config = {"arguments": {"epochs": 7, "seed": 3, "learning_rate": 0.5, "unknown": 1}}
        checkpoint.store(self.folder / "checkpoint.npz")
        arguments = self.parse("--resume", self.folder, "--epochs", 9)
        self.assertEqual((arguments.epochs, arguments.seed, arguments.learning_rate), (9, 3, 0.5))
        self.assertEqual(arguments.resume, str(self.folder / "checkpoint.npz"))
        self.assertFalse(hasattr(arguments, "unknown"))
        (self.folder / "checkpoint.npz").write_bytes(b"cut")
        self.assert_refused("truncated, damaged", "--resume", self.folder)

    def test_results_root(self):
        self.assertEqual(command_line.results_root("somewhere"), Path("somewhere"))
        checkout = Path(__file__).resolve().parents[2]
        script = str(checkout / "experiments" / "mnist" / "train_ttfs.py")
        with mock.patch("sys.argv", [script]), mock.patch.object(Path, "cwd", lambda: self.folder):
            self.assertEqual(command_line.results_root(), checkout / "results")
        with (
            mock.patch("sys.argv", [str(self.folder / "script.py")]),
            mock.patch.object(Path, "cwd", lambda: self.folder),
        ):
            self.assertEqual(command_line.results_root(), Path("results"))


if __name__ == "__main__":
    unittest.main()
