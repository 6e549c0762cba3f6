"""The fused step on the CPU: the checks of test_fused_step, and what is particular to it."""

import os
import subprocess
import sys
import unittest
from types import SimpleNamespace
from unittest import mock

import numpy as np

import bats
from bats.cpu import fused_output
from bats.cpu.sort_events import BITS as DIGIT
from bats.cpu.vectors import lanes_of
from bats.fused import CpuFusedStep
from bats.ops.sort_events import BITS
from bats.sources import SpikeSamples
from bats.step import Step
from tests.devices import Cpu
from tests.fused import checks
from tests.fused.checks import COUNT, FIRST
from tests.fused.test_fused_step import Checks

TRAINED = """
import sys
from tests.fused.test_cpu_step import OnCpu
step = OnCpu().trained(True, dtype="float32")
print(*(layer.weights.tobytes().hex() for layer in step.network.layers[1:]), step.metrics())
"""


def busy(times, counts, layers):
    for layer in layers:
        layer.weights, layer.max_n_spike = 2 * np.abs(layer.weights), 9
    return times, counts, layers


class Poisoned(CpuFusedStep):
    """Its lists begin as NaN; `room` shows the hidden spikes as the checks want them."""

    def __init__(self, *arguments, keep_gradients=True, shared_limit=None, **options):
        super().__init__(*arguments, **options)
        for part in (self.hidden, self.output, self.back):
            for array in [*vars(part).values(), *getattr(part, "lists", [])]:
                if isinstance(array, np.ndarray) and array.dtype == self.dtype:
                    array.fill(np.nan)

    @property
    def room(self):
        n_hidden = self.network.layers[1].n_neurons
        factors = np.ones((self.at_once, n_hidden * self.network.layers[1].max_n_spike))
        counts = np.zeros((self.at_once, n_hidden), dtype=int)
        for s, n in enumerate(self.output.n_events):
            order = np.lexsort((self.output.intervals[s, 0, :n], self.output.rows[s, :n]))
            factors[s, :n] = self.output.intervals[s, 0, order]
            np.add.at(counts[s], self.output.rows[s, :n], 1)
        ignored = np.zeros(0)
        return _Room(counts=counts, spike_q=factors, ignored=ignored)


class _Room(SimpleNamespace):
    def __getattr__(self, name):
        return self.ignored


class OnCpu(Checks, Cpu):
    def setUp(self):
        patch = mock.patch.object(checks, "FusedStep", Poisoned)
        patch.start()
        self.addCleanup(patch.stop)

    def test_is_taken(self):
        self.assertIsInstance(self.trained(True, epochs=1)._fused, CpuFusedStep)

    def test_many_outputs(self):
        """Several groups of outputs, the last one not full; float32 has twice the lanes."""
        for n_out in (lanes_of(np.dtype("float64")), 3 * lanes_of(np.dtype("float64")) + 1):
            with self.subTest(n_out=n_out):
                self.check(self.case(40, [12, 21, n_out]), options=({}, {"at_once": 3}))

    def test_layers_of_whole_groups(self):
        """No lane without a neuron: silent ones are counted right in any case."""
        self.check(self.case(41, [8, 32, 8]))

    def test_a_first_spike_loss_on_outputs_that_spike_often(self):
        """Only first spikes have errors of their own; the later ones come after them."""
        case = self.case(42, [14, 30, 3], change=busy)
        self.assertGreater(case.trains[-1].counts.max(), 2)
        self.check(case, losses=(FIRST,))

    def test_a_crowd_is_sorted_digit_by_digit(self):
        """All hidden neurons spike at the same few moments."""

        def change(times, counts, layers):
            layers[0].weights[:] = np.abs(layers[0].weights[0])
            return times, counts, layers

        case = self.case(43, [6, 150, 3], change=change, max_n_spike=4)
        self.assertGreater(case.trains[0].counts.max(), 1)
        called = []
        self.check(case, losses=(COUNT,))
        for dtype in (np.float32, np.float64):
            q = np.repeat(np.array([1.5, 1.25, 2.5], dtype=dtype), 100)
            start, out, places = np.zeros(fused_output.BUCKETS, np.int32), q.copy(), np.zeros(300, np.int32)
            addresses = np.arange(300, dtype=np.int32)
            called.append(fused_output._bucket_sort(300, q.min(), q.max(), q, addresses, start, out, places))
            self.assertEqual(BITS[np.dtype(dtype)]().itemsize * 8 % DIGIT, 0)
        self.assertEqual(called, [False, False])

    def test_bucket_sort_is_stable(self):
        rng = np.random.default_rng(0)
        for n in (0, 1, 2, 1000):
            q = (1 + rng.integers(0, 400, n) / 100).astype(np.float32)
            start, out, places = np.zeros(fused_output.BUCKETS, np.int32), q.copy(), np.zeros(n, np.int32)
            lowest, highest = (q.min(), q.max()) if n else (np.float32(np.inf), np.float32(0))
            addresses = np.arange(n, dtype=np.int32)
            self.assertTrue(fused_output._bucket_sort(n, lowest, highest, q, addresses, start, out, places))
            np.testing.assert_array_equal(places, np.argsort(q, kind="stable"))
            np.testing.assert_array_equal(out, np.sort(q))

    def test_wide_rows(self):
        """More inputs than 16 bits count."""
        rng = np.random.default_rng(0)
        times, counts = np.full((2, 2**16 + 5, 1), np.inf), np.zeros((2, 2**16 + 5), int)
        on = [0, 7, 2**16 - 1, 2**16, 2**16 + 4]
        times[:, on, 0], counts[:, on] = rng.uniform(0, 0.1, (2, 5)), 1
        found = []
        for fused in (True, False):
            layers = [bats.InputLayer(2**16 + 5)]
            layers += [bats.LIFLayer(None, n, tau_s=0.1, theta=0.001, delta_theta=0.001, max_n_spike=5) for n in (9, 2)]
            network = bats.Network(layers, device="cpu", dtype="float64", seed=3)
            for layer in network.layers[1:]:
                layer.weights = np.abs(layer.weights)
            source = SpikeSamples(times, counts, [0, 1])
            step = Step(network, COUNT[0], source, 2, 0.5, bats.GradientDescentOptimizer(0.1), fused=fused)
            step.train(np.arange(2))
            self.assertGreater(step.metrics()["layers"][network.layers[2].name]["spikes_per_sample"], 1)
            found.append([layer.gradient for layer in network.layers[1:]])
        for one, two in zip(*found, strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-9, atol=1e-12)

    def test_the_number_of_threads_changes_no_bit(self):
        said = []
        for threads in ("1", "2", "5"):
            environment = {**os.environ, "NUMBA_NUM_THREADS": threads}
            run = subprocess.run([sys.executable, "-c", TRAINED], env=environment, capture_output=True, text=True, check=True, timeout=300)
            said.append(run.stdout)
        self.assertGreater(len(said[0]), 1000)
        self.assertEqual(said[0], said[1])
        self.assertEqual(said[0], said[2])

    def test_deeper_networks_take_the_plain_step(self):
        layers = [bats.LIFLayer(None, n, tau_s=0.1, theta=0.01, delta_theta=0.01) for n in (4, 3, 2)]
        network = bats.Network([bats.InputLayer(3), *layers], device="cpu", seed=0)
        source = SpikeSamples(np.zeros((2, 3, 1)), np.ones((2, 3), int), [0, 1])
        step = Step(network, COUNT[0], source, 2, 0.3, fused="auto")
        self.assertEqual((step.fused, step.fused_reason), (False, "expected one hidden layer on the cpu, received 2"))


if __name__ == "__main__":
    unittest.main()
