"""Which epoch is kept, when a run stops early, what the schedule does: a read-out whose answers are written down beforehand."""

import unittest
from unittest import mock

import numpy as np

from bats.stdp import DecisionLayer
from bats.stdp.network import LayeredModel
from bats.stdp.readouts import MajorityDecision
from bats.stdp.training import LayerwiseTrainer, Part
from bats.training.schedule import StepSchedule

LABELS = np.zeros(10, dtype=np.int32)


class Scripted:
    """Right on validation[e] and test[e] of ten images in epoch e; its only weight is the number of epochs learned."""

    def __init__(self, validation, test):
        self.layer = mock.Mock(weights=np.zeros((1, 1, 1, 1), dtype=np.float32), rule="none")
        self.layer.state = lambda: {"weights": self.layer.weights.copy()}
        self.layer.load_state = lambda state: setattr(self.layer, "weights", state["weights"])
        self.pretraining, self.decision_layers = {}, {"decision": self.layer}
        self.right = {2: validation, 3: test}  # by the number of images, which tells the parts apart
        self.factors, self.begin = [], lambda: None

    def scale_rates(self, factor):
        self.factors.append(factor)

    def learn(self, latencies, labels, order, number):
        self.layer.weights = self.layer.weights + 1
        return labels[order]

    def evaluate(self, latencies):
        right = self.right[len(latencies)][int(self.layer.weights.item()) - 1]
        return np.where(np.arange(len(latencies)) < right, 0, 1), None


def trained(validation, test, with_validation=True, **options):
    readout = Scripted(validation, test)
    sizes = {"train": 10, "validation": 2, "test": 3}
    parts = {name: Part(np.zeros((n, 1, 1, 1), dtype=np.uint8), LABELS[:n]) for name, n in sizes.items()}
    if not with_validation:
        del parts["validation"]
    trainer = LayerwiseTrainer(LayeredModel("scripted", [], readout, (5,)), parts, [5], progress=False, **options)
    trainer.run()
    return trainer, readout


class SelectionTest(unittest.TestCase):
    def test_the_first_best_epoch_on_validation_is_kept_whatever_the_test_says(self):
        trainer, readout = trained([0, 2, 1, 2, 1], [0, 1, 2, 3, 3])
        self.assertEqual((trainer.best_epoch, readout.layer.weights.item(), len(trainer.history)), (2, 2, 5))
        self.assertAlmostEqual(trainer.history[1]["test_correct_percent"], 100 / 3)

    def test_without_validation_the_last_one(self):
        trainer, readout = trained([0] * 5, [3, 3, 3, 3, 0], with_validation=False)
        self.assertEqual((trainer.best_epoch, readout.layer.weights.item()), (5, 5))

    def test_patience(self):
        self.assertEqual(len(trained([1, 2, 2, 1, 2], [0] * 5, patience=2)[0].history), 4)
        with self.assertRaisesRegex(ValueError, "patience: expected a validation part"):
            trained([], [], with_validation=False, patience=2)

    def test_schedule(self):
        trainer, readout = trained([0] * 5, [0] * 5, schedule=StepSchedule(0.5, 2))
        self.assertEqual(readout.factors, [1, 1, 0.5, 0.5, 0.25])
        self.assertEqual([row["rate_factor"] for row in trainer.history], readout.factors)

    def test_numbers_that_do_not_fit(self):
        parts = {"train": Part(np.zeros((0, 1, 1, 1)), LABELS[:0]), "test": Part(np.zeros((1, 1, 1, 1)), LABELS[:1])}
        with self.assertRaisesRegex(ValueError, "train: expected at least 1 image"):
            LayerwiseTrainer(LayeredModel("scripted", [], Scripted([], []), (5,)), parts, [5])


class MajorityTest(unittest.TestCase):
    def test_rates_follow_the_ensemble_and_scores_are_comparable(self):
        random = np.random.default_rng(2)
        latencies = random.integers(0, 16, (20, 2, 7, 7)).astype(np.uint8)
        labels = random.integers(0, 3, 20)
        layers = {name: DecisionLayer(2, 3, 2, kernel, device="cpu", seed=kernel) for name, kernel in (("a", 3), ("b", 5), ("c", 7))}
        readout = MajorityDecision(layers, ("b", "a", "c"))
        decisions = readout.learn(latencies, labels, np.arange(20, dtype=np.int32))
        right = np.mean(decisions == labels)
        for layer in layers.values():
            np.testing.assert_allclose(layer.rates[0], np.array([0.004, -0.003]) * (1 - right), rtol=1e-5)
            np.testing.assert_allclose(layer.rates[1], np.array([-0.004, 0.0005]) * right, rtol=1e-5)
        decided, scores = readout.evaluate(latencies)
        votes = [layer.evaluate(latencies) for layer in layers.values()]
        np.testing.assert_allclose(scores, np.mean([s / s.max(axis=1, keepdims=True) for _, s in votes], axis=0), rtol=1e-6)
        agreed = votes[0][0] == votes[2][0]
        np.testing.assert_array_equal(decided[agreed], votes[0][0][agreed])
        self.assertTrue(agreed.any())
        readout.scale_rates(0.5)
        layers["a"].set_rates(0, 20, 20)
        np.testing.assert_allclose(layers["a"].rates[0], (0.002, -0.0015), rtol=1e-6)


if __name__ == "__main__":
    unittest.main()
