"""The Trainer's `fused`: which step a run takes, where it says so, and what a resumed run says if it is another one."""

import contextlib
import io
import json
import tempfile
import unittest
import warnings
from pathlib import Path
from unittest import mock

import numpy as np

import bats
from bats.data import yin_yang
from bats.sources import SpikeSamples
from bats.training import Trainer, summary
from bats.training.evaluation import evaluate_readout
from bats.training.failures import TrainingWarning
from tests.devices import Cpu, Cuda
from tests.training import fakes
from tests.training.test_with_network import T_MAX, build

PLAIN = "plain step: a layer has a regularizer"


def trainer(device, regularizer=None, **options):
    settings = {"batch_size": 16, "max_simulation": T_MAX, "progress": False, **options}
    return Trainer(build(device, 0, regularizer=regularizer), bats.TTFSSoftmaxCrossEntropy(0.05), bats.AdamOptimizer(0.005), **settings)


class OnCpu(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.source = SpikeSamples(*yin_yang(40, 1))

    def test_says_why_it_is_not_fused(self):
        options = {"run_folder": self.folder, "config": {"a": 1}, "progress": True, "fused": "auto"}
        run, said = trainer("cpu", bats.SpikeRateRegularizer(), **options), io.StringIO()
        with contextlib.redirect_stdout(said), mock.patch("bats.training.plots.metric_curves"):
            run.fit(self.source, self.source, 1)
        self.assertEqual(run.step_kind, PLAIN)
        self.assertEqual(said.getvalue().splitlines()[0], PLAIN)
        self.assertEqual(json.loads((self.folder / "config.json").read_text()), {"a": 1, "step": PLAIN})
        figures = summary.summarise(run, run.evaluate(self.source), "data")
        self.assertEqual(figures["step"], PLAIN)
        self.assertIn(PLAIN, summary.table(figures))

    def test_refused(self):
        with self.assertRaisesRegex(ValueError, "received True, which cannot be: a layer has a regularizer"):
            trainer("cpu", bats.SpikeRateRegularizer(), fused=True).fit(self.source, self.source, 1)
        with self.assertRaisesRegex(ValueError, 'fused: expected True, False or "auto", received 3'):
            trainer("cpu", fused=3)

    def test_what_looks_at_spikes_takes_the_plain_step(self):
        network, loss = build("cpu", 0), bats.TTFSSoftmaxCrossEntropy(0.05)
        with self.assertRaisesRegex(ValueError, "expected False with observe"):
            evaluate_readout(network, loss, self.source, 8, T_MAX, observe=lambda: None, fused="auto")
        evaluate_readout(network, loss, self.source, 8, T_MAX)
        self.assertEqual(network.output_spike_trains[1].shape, (8, 3))
        network.mark_fused(8)  # what a fused step leaves
        for layer in network.layers:
            with self.assertRaisesRegex(RuntimeError, "no spike trains yet"):
                layer.spike_trains  # noqa: B018

    def test_counters_come_back_before_the_first_step(self):
        layer = build("cpu", 0).layers[1]
        layer.load_counters(np.array([5, 4, 3, 2, 1]))
        np.testing.assert_array_equal(layer.counters(), [5, 4, 3, 2, 1])

    def test_resumed_with_another_setting(self):
        source = fakes.Source(20)

        def run(fused, epochs, resume=True):
            made = Trainer(
                fakes.Network(), fakes.Loss(), fakes.Momentum(), batch_size=3, max_simulation=1.0, run_folder=self.folder, progress=False,
                fused="auto",
            )  # fmt: skip
            if resume:
                made.resume(self.folder)
            with fakes.patched(), mock.patch.object(fakes.Step, "fused", fused), warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                made.fit(source, source, epochs)
            return [str(warning.message) for warning in caught if warning.category is TrainingWarning]

        self.assertEqual(run(True, 1, resume=False), [])
        self.assertEqual(run(True, 2), [])
        (message,) = run(False, 3)
        self.assertIn("fused step before, plain step: a fake from here on", message)
        self.assertEqual(run(False, 4), [])


class Fused:
    def test_fused_where_it_can_be(self):
        source = SpikeSamples(*yin_yang(40, 1))
        for fused, kind in (("auto", "fused step"), (True, "fused step"), (False, "plain step")):
            run = trainer(self.device, fused=fused)
            run.fit(source, source, 1)
            self.assertEqual(run.step_kind, kind)
        run = trainer(self.device, fused="auto")
        run.loss = bats.SpikeTimeLoss()
        with contextlib.suppress(Exception):  # a loss for single steps: it has no labels, and is not for the kernels
            run.fit(source, source, 1)
        self.assertRegex(run.step_kind or "", "plain step: expected one of SpikeCountClassLoss")

    def test_same_as_plain_to_rounding(self):
        source, losses = SpikeSamples(*yin_yang(80, 1)), []
        for fused in (True, False):
            run = trainer(self.device, fused=fused)
            losses.append(run.fit(source, source, 2)[-1]["test_loss"])
        self.assertAlmostEqual(*losses, delta=1e-2 * losses[1])
        self.assertNotEqual(*losses)


class FusedOnCpu(Fused, Cpu):
    pass


class FusedOnCuda(Fused, Cuda):
    pass


if __name__ == "__main__":
    unittest.main()
