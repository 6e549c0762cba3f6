"""More drive never gives fewer spikes with the clean rule, at any step; with the study's rule it does."""

import numpy as np

import bats
from bats.device import to_numpy
from bats.discretization import ROUNDINGS
from tests.devices import Cpu, Cuda

TAU_S, T_MAX = 0.02, 0.5
DTS = (0.1e-3, 0.5e-3, 1e-3, 2e-3, 5e-3, 8e-3, 13e-3, 20e-3, 50e-3)


class Checks:
    def counts(self, grid, drives, theta=0.01, input_dt=1e-3):
        """Spikes of one neuron for each drive, a weight on an input that spikes every millisecond."""
        times = np.arange(1, int(T_MAX / input_dt)) * input_dt
        network = bats.Network([bats.InputLayer(1)], device=self.device, dtype="float64")
        layer = bats.LIFLayer(None, len(drives), TAU_S, theta, theta, max_n_spike=4000, grid=grid)
        network.add_layer(layer).weights = np.asarray(drives)[:, None]
        _, counts = network.forward(times[None, None], np.array([[len(times)]]), max_simulation=T_MAX)
        return to_numpy(counts)[0]

    def test_clean_rule(self):
        drives = np.linspace(0, 0.6, 97)
        for rounding in ROUNDINGS:
            for dt in DTS:
                with self.subTest(rounding=rounding, dt=dt):
                    counts = self.counts(bats.TimeGrid(dt, rounding), drives)
                    self.assertFalse((np.diff(counts) < 0).any(), counts)
                    self.assertEqual(counts[0], 0)
                    n_bins = int(T_MAX / dt + 1e-9) + (rounding != "next")
                    self.assertLessEqual(counts[-1], n_bins)
                    self.assertGreater(counts[-1], 0.8 * n_bins if dt > 2e-3 else 100)  # a strong drive fills the bins

    def test_study_rule_latches(self):
        """The artefact: at dt = 8 ms a neuron that fires more than once in a bin falls silent, and more drive gives fewer spikes."""
        drives = np.linspace(0, 0.6, 97)
        continuous = self.counts(None, drives)
        counts = self.counts(bats.TimeGrid(8e-3, rule="study"), drives)
        self.assertTrue((np.diff(counts) < 0).any())
        self.assertLess(counts[-1], 0.3 * min(continuous[-1], T_MAX / 8e-3))
        clean = self.counts(bats.TimeGrid(8e-3), drives)
        self.assertGreater(clean[-1], 0.8 * T_MAX / 8e-3)

    def test_study_rule_without_collisions_loses_nothing(self):
        """At a step much shorter than any interval between spikes, the rules agree in their counts."""
        drives = np.linspace(0, 0.05, 23)
        study, continuous = self.counts(bats.TimeGrid(1e-5, rule="study"), drives), self.counts(None, drives)
        self.assertLessEqual(np.abs(study - continuous).max(), 1)  # a spike at the very end may fall beyond it
        self.assertGreater(continuous.max(), 20)


class OnCpu(Checks, Cpu):
    pass


class OnCuda(Checks, Cuda):
    pass
