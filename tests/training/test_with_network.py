"""The Trainer on a real network, in process: determinism with a negative control, resume, evaluation, read-outs."""

import os
import signal
import tempfile
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from unittest import mock

import numpy as np

import bats
from bats import step
from bats.data import yin_yang
from bats.initializers import normal
from bats.sources import SpikeSamples
from bats.training import Trainer
from bats.training.evaluation import copy_weights, evaluate_readout, network_weights, sample_spikes
from bats.training.history import WALL_TIMES
from tests.devices import Cpu, Cuda

T_MAX = 10.0


def build(device, seed, max_n_spike=1, regularizer=None):
    layers = [bats.InputLayer(5, name="input")]
    for name, n_neurons, weights in (("hidden", 12, normal(0.9, 0.7)), ("output", 3, normal(0.5, 0.2))):
        options = {"max_n_spike": max_n_spike, "slope_floor": 0.1, "regularizer": regularizer, "name": name}
        layer = bats.LIFLayer(layers[-1], n_neurons, 1.0, 1.0, 1.0, weights, **options)
        layers.append(layer)
    return bats.Network(layers, device=device, dtype="float32", seed=seed)


def count(made, calls):
    """Notes a batch; presses Ctrl-C at number `calls`."""
    made.append(1)
    if len(made) == calls:
        os.kill(os.getpid(), signal.SIGINT)


class Checks:
    fused, step_kind = "auto", "fused step"

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.train, self.test = SpikeSamples(*yin_yang(110, 1)), SpikeSamples(*yin_yang(53, 2))
        patch = mock.patch("bats.training.plots.metric_curves")
        patch.start()
        self.addCleanup(patch.stop)

    def trainer(self, seed=0, folder=None, weights_seed=None):
        network = build(self.device, seed if weights_seed is None else weights_seed)
        return Trainer(
            network, bats.TTFSSoftmaxCrossEntropy(tau=0.05), bats.NAdamOptimizer(0.005), batch_size=16,
            max_simulation=T_MAX, seed=seed, run_folder=folder, progress=False, fused=self.fused,
        )  # fmt: skip

    def result(self, trainer):
        rows = [{name: row[name] for name in row if name not in WALL_TIMES} for row in trainer.history]
        return {name: array.tobytes() for name, array in network_weights(trainer.network).items()}, rows

    def fitted(self, **options):
        trainer = self.trainer(**options)
        trainer.fit(self.train, self.test, 3)
        self.assertEqual(trainer.step_kind, self.step_kind)
        return trainer

    def test_same_seed_same_bits_other_seed_other_bits(self):
        first, again, other = self.fitted(), self.fitted(), self.fitted(seed=1)
        self.assertEqual(self.result(first), self.result(again))
        self.assertNotEqual(self.result(first)[0], self.result(other)[0])

    def test_stopped_anywhere_and_resumed(self):
        whole = self.result(self.fitted())
        for calls in (5, 9, 25):  # within training; within the evaluation after it; later
            with self.subTest(calls=calls):
                folder = self.folder / str(calls)
                stopped = self.trainer(folder=folder)
                made = []

                class Counted(step.Step):
                    steps_at_once = 1

                    def train_next(self, batch=None, steps=1, made=made, calls=calls):
                        trained = super().train_next(batch, steps)
                        count(made, calls)
                        return trained

                    def evaluate_next(self, batch=None, steps=1, made=made, calls=calls):
                        evaluated = super().evaluate_next(batch, steps)
                        count(made, calls)
                        return evaluated

                with mock.patch("bats.step.Step", Counted), redirect_stdout(StringIO()):
                    stopped.fit(self.train, self.test, 3)
                self.assertTrue(stopped.interrupted)
                resumed = self.trainer(folder=folder, weights_seed=99)
                resumed.resume(folder)
                resumed.fit(self.train, self.test, 3)
                self.assertEqual(self.result(resumed), whole)

    def test_evaluation(self):
        trainer = self.fitted()
        before = network_weights(trainer.network)
        metrics = trainer.evaluate(self.test)
        self.assertEqual(metrics["predictions"].dtype, np.int32)
        self.assertAlmostEqual(metrics["accuracy"], np.mean(metrics["predictions"] == self.test.labels))
        self.assertAlmostEqual(100 * metrics["accuracy"], trainer.history[-1]["test_accuracy_percent"])
        self.assertEqual(metrics["loss"], trainer.history[-1]["test_loss"])
        for name, array in network_weights(trainer.network).items():
            np.testing.assert_array_equal(array, before[name])

    def test_other_readout_with_its_own_limits(self):
        trainer = self.fitted()
        judged = build(self.device, 7, max_n_spike=20)
        copy_weights(trainer.network, judged)
        metrics = evaluate_readout(judged, bats.SpikeCountClassLoss(5, 1), self.test, 16, T_MAX)
        self.assertLessEqual(trainer.history[-1]["test_spikes_per_sample_output"], 3)
        self.assertGreater(metrics["layers"]["output"]["spikes_per_sample"], 3)

    def test_spikes_of_one_sample(self):
        trains, prediction = sample_spikes(build(self.device, 0), bats.TTFSSoftmaxCrossEntropy(0.05), self.test, 4, T_MAX)
        self.assertEqual([name for name, *_ in trains], ["input", "hidden", "output"])
        np.testing.assert_allclose(np.asarray(trains[0][1]), self.test.times[4], rtol=1e-6)
        _, times, counts = trains[-1]
        self.assertEqual(prediction, np.argmin(times[:, 0]) if counts.any() else -1)


class OnCpu(Checks, Cpu):
    pass


class OnCpuPlain(Checks, Cpu):
    fused, step_kind = False, "plain step"


class OnCuda(Checks, Cuda):
    pass


class OnCudaPlain(Checks, Cuda):
    fused, step_kind = False, "plain step"
