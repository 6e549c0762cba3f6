"""Classification figures, decisions over time, sparsity: hand-checked cases, and against the losses' own predictions."""

import csv
import json
import tempfile
import unittest
from pathlib import Path

import numpy as np

import bats
from bats.evaluation import Evaluation, LatencyCurve, Sparsity, classification_figures, decision_times, decisions
from bats.sources import SpikeSamples
from bats.training.evaluation import evaluate_readout
from tests.devices import Cpu, Cuda
from tests.ops.cases import random_trains

INF = np.inf


class TestClassification(unittest.TestCase):
    def test_hand_checked(self):
        """Class 0: 2 of 3 right; class 1: 1 of 2, the other silent; class 2 has no sample but is predicted once."""
        figures = classification_figures([0, 0, 0, 1, 1], [0, 0, 2, 1, -1], 3)
        self.assertEqual((figures["accuracy"], figures["silent"]), (0.6, 0.2))
        np.testing.assert_allclose(figures["per_class"]["accuracy"], [2 / 3, 1 / 2, 0])
        np.testing.assert_allclose(figures["per_class"]["precision"], [1, 1, 0])
        np.testing.assert_allclose(figures["per_class"]["f1"], [0.8, 2 / 3, 0])
        self.assertAlmostEqual(figures["macro_f1"], (0.8 + 2 / 3) / 2)
        self.assertAlmostEqual(figures["macro_recall"], (2 / 3 + 1 / 2) / 2)

    def test_wrong_arguments(self):
        for labels, predictions, message in (([0, 1], [0], "one prediction for each"), ([], [], "at least one"), ([3], [0], "0 to 2")):
            with self.assertRaisesRegex(ValueError, message):
                classification_figures(np.array(labels, dtype=int), np.array(predictions, dtype=int), 3)


class TestDecisions(unittest.TestCase):
    # three neurons: 0 fires at 1, 4; 1 at 2, 3, 5; 2 never
    TIMES = np.array([[[1.0, 4.0, INF], [2.0, 3.0, 5.0], [INF] * 3]])
    COUNTS = np.array([[2, 3, 0]])

    def test_most_spikes(self):
        at, predictions = decisions("most_spikes", self.TIMES, self.COUNTS)
        self.assertEqual(at.tolist(), [[1, 2, 3, 4, 5]])
        self.assertEqual(predictions.tolist(), [[0, 0, 1, 0, 1]])  # ties go to neuron 0, which spiked first
        self.assertEqual(decision_times(at, predictions).tolist(), [5.0])

    def test_first_spike(self):
        at, predictions = decisions("first_spike", self.TIMES, self.COUNTS)
        self.assertEqual(decision_times(at, predictions).tolist(), [1.0])

    def test_spikes_of_one_time_count_together(self):
        times = np.array([[[1.0, 2.0], [2.0, 2.0], [INF, INF]]])
        at, predictions = decisions("most_spikes", times, np.array([[2, 2, 0]]))
        self.assertEqual((at.tolist(), predictions.tolist()), ([[1, 2, 2, 2]], [[0, 0, 0, 0]]))
        times = np.array([[[1.0, INF], [2.0, 2.0]]])
        at, predictions = decisions("most_spikes", times, np.array([[1, 2]]))
        self.assertEqual(predictions.tolist(), [[0, 1, 1]])

    def test_as_the_losses_predict(self):
        """With the spikes after t cut off, the loss predicts what the curve says for t; ties included."""
        rng = np.random.default_rng(0)
        times, counts = random_trains(rng, 200, 5, 4, 1.0, grid=0.1)
        times[::20], counts[::20] = INF, 0
        labels = rng.integers(0, 5, 200)
        for loss in (bats.SpikeCountClassLoss(3, 1), bats.TTFSSoftmaxCrossEntropy(0.1)):
            curve = LatencyCurve(loss.rule, np.linspace(0, 1.1, 12) + 1e-3)
            for part in (slice(0, 77), slice(77, 200)):
                curve.add(times[part], counts[part], labels[part])
            predictions = []
            for n, t in enumerate(curve.times):
                cut = np.where(times <= t, times, INF)
                predictions.append(loss.predict(cut, np.isfinite(cut).sum(axis=2)))
                self.assertEqual(curve.accuracy[n], (predictions[-1] == labels).mean())
                self.assertEqual(curve.answered[n], (predictions[-1] >= 0).mean())
            for b, final in enumerate(curve.decision_times):
                changes = [n for n in range(1, 12) if predictions[n][b] != predictions[n - 1][b]]
                expected = curve.times[changes[-1]] if changes else INF
                self.assertTrue(expected == final or abs(expected - final) < 2e-3, (b, expected, final))
            self.assertTrue(np.isinf(curve.decision_times).any())

    def test_silent_samples_and_empty_batch(self):
        for n in (2, 0):
            at, predictions = decisions("most_spikes", np.full((n, 3, 2), INF), np.zeros((n, 3), dtype=int))
            self.assertEqual(at.shape, (n, 0))
            self.assertEqual(decision_times(at, predictions).tolist(), [INF] * n)
        with self.assertRaisesRegex(ValueError, "rule: expected most_spikes or first_spike, received 'most'"):
            decisions("most", self.TIMES, self.COUNTS)


class TestSparsity(unittest.TestCase):
    def test_hand_checked(self):
        sparsity = Sparsity()
        sparsity.add("hidden", np.array([[1, 0, 3], [2, 0, 0]]))
        sparsity.add("hidden", np.array([[0, 0, 0]]))
        self.assertEqual(sparsity.per_sample("hidden").tolist(), [4, 2, 0])
        self.assertEqual(sparsity.per_neuron("hidden").tolist(), [1, 0, 1])
        figures = sparsity.figures("hidden")
        self.assertEqual((figures["neurons"], figures["never_fired"], figures["spikes_per_sample"]), (3, 1, 2))
        self.assertAlmostEqual(figures["spikes_per_neuron"], 2 / 3)


class Checks:
    def test_one_pass_and_its_files(self):
        rng = np.random.default_rng(4)
        times, counts = random_trains(rng, 23, 9, 1, 0.1, full=True)
        source = SpikeSamples(times, counts, rng.integers(0, 3, 23), 3)
        neuron = {"tau_s": 0.1, "theta": 0.02, "delta_theta": 0.02, "max_n_spike": 6}
        neuron["weight_initializer"] = bats.initializers.uniform(0, 1)
        layers = [
            bats.ConvInputLayer((3, 3, 1), "input"), bats.ConvLIFLayer(None, (2, 2, 2), name="conv", **neuron),
            bats.PoolingLayer(None, "pool"), bats.LIFLayer(None, 3, name="output", **neuron),
        ]  # fmt: skip
        network, loss = bats.Network(layers, device=self.device, dtype="float64", seed=0), bats.SpikeCountClassLoss(3, 1)
        evaluation = Evaluation(network, loss, source.labels, "abc", 0.3)
        metrics = evaluate_readout(network, loss, source, 10, 0.3, evaluation.observe)
        with tempfile.TemporaryDirectory() as folder:
            figures = evaluation.write(Path(folder), metrics["predictions"], "test")
            files = {path.name for path in Path(folder).iterdir()}
            with open(Path(folder) / "latency.csv", encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))
        self.assertEqual(
            files, {"per_class.csv", "sparsity.csv", "spikes_per_neuron.csv", "latency.csv", "sparsity.png", "latency.png"}
        )
        json.dumps(figures)
        self.assertEqual(list(figures["sparsity"]), ["conv", "output"])
        self.assertAlmostEqual(figures["accuracy"], metrics["accuracy"])
        self.assertAlmostEqual(float(rows[-1]["accuracy"]), metrics["accuracy"], places=5)
        self.assertAlmostEqual(figures["sparsity"]["conv"]["spikes_per_sample"], metrics["layers"]["conv"]["spikes_per_sample"])
        self.assertGreater(figures["sparsity"]["output"]["spikes_per_sample"], 0)


class OnCpu(Checks, Cpu):
    pass


class OnCuda(Checks, Cuda):
    pass
