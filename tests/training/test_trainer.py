"""Selection of an epoch, failures, wrong options, batch order and schedules."""

import tempfile
import unittest
import warnings
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np

from bats.training import StepSchedule, Trainer, TrainingFailure, TrainingWarning, load_checkpoint
from bats.training.batches import epoch_permutation, split_validation
from tests.training import fakes


class TrainerTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.train, self.test, self.validation = fakes.Source(), fakes.Source(6, seed=1), fakes.Source(5, seed=2)

    def fit(self, epochs=3, on_train=None, failures=None, accuracies=None, validation=None, **options):
        options = {"batch_size": 4, "max_simulation": 1.0, "progress": False, "run_folder": self.folder, **options}
        self.trainer = Trainer(fakes.Network(), fakes.Loss(), fakes.Momentum(), **options)
        with fakes.patched(on_train, failures, accuracies):
            return self.trainer.fit(self.train, self.test, epochs, validation)

    def test_selection_rules(self):
        def accuracies():
            return {self.test: [0.5, 0.9, 0.7, 0.6], self.validation: [0.3, 0.4, 0.8, 0.8]}

        for selection, epoch in (("last", 4), ("test", 2), ("validation", 3)):
            with self.subTest(selection):
                weights = []

                def remember(number, weights=weights):
                    if number % 5 == 0:  # the last batch of an epoch
                        weights.append(self.trainer.network.layers[1].weights.copy())

                self.fit(4, remember, accuracies=accuracies(), validation=self.validation, selection=selection)
                self.assertEqual(self.trainer.selected_epoch, epoch)
                self.assertEqual(self.trainer.selected_row["epoch"], epoch)
                self.trainer.restore_selected()
                np.testing.assert_array_equal(self.trainer.network.layers[1].weights, weights[epoch - 1])
                np.testing.assert_array_equal(np.load(self.folder / "best_model/hidden_weights.npy"), weights[epoch - 1])

    def test_validation_without_a_source(self):
        with self.assertRaisesRegex(ValueError, "expects a validation_source"):
            self.fit(selection="validation")

    def test_failures_warn_once_per_epoch(self):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self.fit(2, failures={"overflow": 12, "non_finite": 3})
        messages = [str(item.message) for item in caught if item.category is TrainingWarning]
        self.assertEqual(len(messages), 2)
        for text in (
            "epoch 1",
            "layer hidden: 12 spike buffers were full (max_n_spike = 5)",
            "raise max_n_spike",
            "3 values",
        ):
            self.assertIn(text, messages[0])

    def test_failures_raise_or_are_ignored_on_request(self):
        with self.assertRaisesRegex(TrainingFailure, "layer hidden: 12 spike buffers"):
            self.fit(2, failures={"overflow": 12}, on_failure="raise")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            self.fit(2, failures={"overflow": 12}, on_failure="ignore")

    def test_one_spike_per_neuron_is_no_overflow(self):
        self.trainer = Trainer(fakes.Network(), fakes.Loss(), fakes.Momentum(), batch_size=4, max_simulation=1.0)
        self.trainer.progress = False
        self.trainer.network.layers[1].max_n_spike = 1
        with fakes.patched(failures={"overflow": 12}), warnings.catch_warnings():
            warnings.simplefilter("error")
            self.trainer.fit(self.train, self.test, 1)

    def test_non_finite_weights(self):
        def break_weights(number):
            if number == 7:  # in the second epoch
                self.trainer.network.layers[1].weights[0, 0] = np.nan

        with self.assertRaisesRegex(FloatingPointError, "(?s)epoch 2: .*last finite state.*layer hidden: 1 of 24"):
            self.fit(3, break_weights, on_failure="raise")
        checkpoint = load_checkpoint(self.folder)
        self.assertEqual(checkpoint.progress["epoch"], 1)
        self.assertTrue(np.isfinite(checkpoint.weights["hidden"]).all())
        with self.assertWarnsRegex(TrainingWarning, "weights are not finite"):
            self.fit(2, break_weights)
        self.assertEqual(load_checkpoint(self.folder).progress["epoch"], 1)

        def break_and_stop(number):
            break_weights(number)
            fakes.press_ctrl_c(8)(number)

        with redirect_stdout(StringIO()) as output:
            self.fit(3, break_and_stop)
        self.assertEqual(load_checkpoint(self.folder).progress, {**load_checkpoint(self.folder).progress, "position": 0})
        self.assertIn("weights are not finite: the last finite state is in", output.getvalue())

    def test_wrong_options(self):
        for option, value, message in (
            ("batch_size", 0, "batch_size: expected at least 1, received 0"),
            ("max_simulation", -1.0, "max_simulation: expected a positive"),
            ("selection", "best", "selection: expected one of last, validation, test, received 'best'"),
            ("on_failure", "stop", "on_failure: expected one of warn, raise, ignore, received 'stop'"),
        ):
            with self.subTest(option), self.assertRaisesRegex(ValueError, message):
                self.fit(**{option: value})

    def test_empty_source(self):
        self.train = fakes.Source(0)
        with self.assertRaisesRegex(ValueError, "at least 1 sample"):
            self.fit()

    def test_learning_rate_follows_the_schedule(self):
        history = self.fit(5, schedule=StepSchedule(0.5, 2, 0.02))
        np.testing.assert_allclose([row["learning_rate"] for row in history], [0.05, 0.05, 0.025, 0.025, 0.02])

    def test_progress_lines(self):
        with redirect_stdout(StringIO()) as output:
            self.fit(2, progress=True)
        self.assertRegex(output.getvalue(), r"epoch   1 \| train loss .* accuracy .* % \| test loss .* samples/s")


class BatchesTest(unittest.TestCase):
    def test_order_is_a_function_of_seed_and_epoch(self):
        order = epoch_permutation(3, 5, 100)
        np.testing.assert_array_equal(np.sort(order), np.arange(100))
        np.testing.assert_array_equal(order, epoch_permutation(3, 5, 100))
        for other in (epoch_permutation(3, 6, 100), epoch_permutation(4, 5, 100), epoch_permutation(5, 3, 100)):
            self.assertFalse(np.array_equal(order, other))

    def test_validation_is_disjoint_and_complete(self):
        train, held_out = split_validation(100, 30, seed=1)
        self.assertEqual(len(held_out), 30)
        np.testing.assert_array_equal(np.sort(np.concatenate([train, held_out])), np.arange(100))
        self.assertFalse(np.array_equal(held_out, split_validation(100, 30, seed=2)[1]))
        self.assertEqual(len(split_validation(100, 0, seed=1)[1]), 0)

    def test_wrong_values(self):
        for n_validation in (-1, 100):
            with self.assertRaisesRegex(ValueError, "expected 0 to 99"):
                split_validation(100, n_validation, 0)
        with self.assertRaisesRegex(ValueError, "seed: expected"):
            epoch_permutation(-1, 0, 3)
        for arguments in ((0, 1), (1.5, 1), (0.5, 0), (0.5, 1, -1)):
            with self.assertRaises(ValueError):
                StepSchedule(*arguments)


if __name__ == "__main__":
    unittest.main()
