"""A run stopped and resumed equals one that was never stopped, bit for bit; the same seed gives the same bits twice."""

import csv
import os
import signal
import tempfile
import unittest
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np

from bats.training import StepSchedule, Trainer, load_checkpoint
from bats.training.history import WALL_TIMES
from tests.training import fakes

EPOCHS, BATCH, N_SAMPLES = 4, 3, 20  # 7 batches per epoch, the last one of 2 samples
BATCHES = -(-N_SAMPLES // BATCH)


class ResumeTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.train, self.test = fakes.Source(N_SAMPLES), fakes.Source(7, seed=5)

    def trainer(self, name, seed=0, selection="last", weights_seed=0):
        return Trainer(
            fakes.Network(weights_seed), fakes.Loss(), fakes.Momentum(), batch_size=BATCH, max_simulation=1.0,
            seed=seed, run_folder=self.folder / name, schedule=StepSchedule(0.5, 2, 1e-3), selection=selection,
            progress=False,
        )  # fmt: skip

    def fit(self, trainer, on_train=None, epochs=EPOCHS, accuracies=None):
        accuracies = {self.test: list(accuracies)} if accuracies else None
        with fakes.patched(on_train, accuracies=accuracies), redirect_stdout(StringIO()) as output:
            trainer.fit(self.train, self.test, epochs)
        return output.getvalue()

    def result(self, trainer):
        """Weights as bytes, and metrics.csv without the wall times."""
        weights = [layer.weights.tobytes() for layer in trainer.network.layers[1:]]
        with open(trainer.run_folder.path / "metrics.csv", encoding="utf-8", newline="") as file:
            rows = [{name: row[name] for name in row if name not in WALL_TIMES} for row in csv.DictReader(file)]
        return weights, rows

    def stopped_and_resumed(self, batches, **options):
        stopped = self.trainer(f"stopped-{batches}", **options)
        self.fit(stopped, fakes.press_ctrl_c(batches))
        self.assertTrue(stopped.interrupted)
        resumed = self.trainer(f"stopped-{batches}", weights_seed=77, **options)
        resumed.resume(stopped.run_folder.path)
        self.assertEqual((resumed.epoch, resumed.position), (stopped.epoch, stopped.position))
        self.fit(resumed)
        self.assertFalse(resumed.interrupted)
        return stopped, resumed

    def test_stopped_within_an_epoch_and_between_two(self):
        whole = self.trainer("whole")
        self.fit(whole)
        for batches, position in ((1, 3), (BATCHES + 4, 12), (2 * BATCHES, N_SAMPLES)):
            with self.subTest(batches=batches):
                stopped, resumed = self.stopped_and_resumed(batches)
                self.assertEqual(stopped.position, position)
                self.assertEqual(self.result(resumed), self.result(whole))

    def test_more_epochs_than_asked_for_at_first(self):
        whole = self.trainer("whole")
        self.fit(whole)
        short = self.trainer("short")
        self.fit(short, epochs=2)
        longer = self.trainer("short", weights_seed=3)
        longer.resume(short.run_folder.checkpoint)
        self.assertEqual((longer.epoch, longer.position), (2, 0))
        self.fit(longer)
        self.assertEqual(self.result(longer), self.result(whole))

    def test_selection_survives(self):
        """The best epoch lies before the stop: its weights must come out of the checkpoint."""
        whole = self.trainer("whole", selection="test")
        self.fit(whole, accuracies=[0.5, 0.9, 0.6, 0.7])
        stopped = self.trainer("stopped", selection="test")
        self.fit(stopped, fakes.press_ctrl_c(2 * BATCHES + 2), accuracies=[0.5, 0.9])
        resumed = self.trainer("stopped", selection="test", weights_seed=3)
        resumed.resume(stopped.run_folder.path)
        self.fit(resumed, accuracies=[0.6, 0.7])
        self.assertEqual((whole.selected_epoch, resumed.selected_epoch), (2, 2))
        for trainer in (whole, resumed):
            trainer.restore_selected()
        self.assertEqual(self.result(resumed), self.result(whole))
        stored = np.load(resumed.run_folder.best_model / "hidden_weights.npy")
        np.testing.assert_array_equal(stored, whole.network.layers[1].weights)

    def test_same_seed_same_bits_other_seed_other_bits(self):
        results = []
        for name, seed in (("a", 0), ("b", 0), ("c", 1)):
            trainer = self.trainer(name, seed=seed)
            self.fit(trainer)
            results.append(self.result(trainer))
        self.assertEqual(results[0], results[1])
        self.assertNotEqual(results[0][0], results[2][0])

    def test_ctrl_c_tells_where_it_stopped(self):
        trainer, handler = self.trainer("told"), signal.getsignal(signal.SIGINT)  # Brian2 sets one of its own
        self.assertIn("epoch 1 at sample 6 of 20", self.fit(trainer, fakes.press_ctrl_c(2)))
        self.assertIs(signal.getsignal(signal.SIGINT), handler)

    def test_second_ctrl_c_keeps_the_last_checkpoint(self):
        def twice(number):
            if number == BATCHES + 2:
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGINT)

        trainer = self.trainer("twice")
        with self.assertRaises(KeyboardInterrupt):
            self.fit(trainer, twice)
        self.assertEqual(load_checkpoint(trainer.run_folder.path).progress["epoch"], 1)
        whole, resumed = self.trainer("whole"), self.trainer("twice")
        self.fit(whole)
        resumed.resume(trainer.run_folder.path)
        self.fit(resumed)
        self.assertEqual(self.result(resumed), self.result(whole))

    def test_interrupt_raised_inside_a_batch_leaves_the_state_before(self):
        def interrupt(number):
            if number == 3:
                raise KeyboardInterrupt

        trainer = self.trainer("inside")
        with self.assertRaises(KeyboardInterrupt):
            self.fit(trainer, interrupt)
        progress = load_checkpoint(trainer.run_folder.path).progress
        self.assertEqual((progress["epoch"], progress["position"]), (0, 0))

    def test_other_data_are_refused(self):
        trainer = self.trainer("data")
        self.fit(trainer, epochs=1)
        other = self.trainer("data")
        other.resume(trainer.run_folder.path)
        self.train = fakes.Source(N_SAMPLES, seed=9)
        with self.assertRaisesRegex(ValueError, r"data\.sha256: expected .*, received"):
            self.fit(other)


if __name__ == "__main__":
    unittest.main()
