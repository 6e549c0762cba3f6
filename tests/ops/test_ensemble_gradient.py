"""The weight gradient of layers with many neurons and few inputs against the oracle and against weight_gradient's order."""

import numpy as np

from bats import ops
from bats.device import to_numpy
from tests.devices import Cpu, Cuda
from tests.ops.cases import LayerCase, make_events


class Checks:
    def gradient(self, case, dtype=np.float64):
        """The operation on the oracle's own spikes; outputs and everything that no spike wrote are poisoned -> [n_post, n_pre]."""
        batch, n_post, _ = case.spikes.times.shape
        neuron, fired = case.neuron(dtype), np.isfinite(case.spikes.times)
        events = make_events(self, case.times, case.counts, dtype)
        arrays = (case.spikes.times, np.where(fired, case.spikes.slopes, np.nan), np.where(fired, case.errors, np.nan))
        times, slopes, errors = (self.array(array.transpose(0, 2, 1), dtype) for array in arrays)
        counts, gains = self.array(case.spikes.counts, np.int32), self.poisoned(times.shape, dtype)
        ops.recurrent_errors(errors, times, slopes, counts, neuron, gains, self.status(batch))
        factors = self.poisoned(events.times.shape, dtype)
        ops.event_factors(events, neuron, factors)
        gradient = self.poisoned((case.times.shape[1], n_post), dtype)
        ops.ensemble_gradient(events, factors, times, counts, gains, neuron, gradient)
        return to_numpy(gradient).T

    def check(self, case):
        self.assertGreater(case.spikes.counts.sum(), 0)
        self.assertLess(np.linalg.norm(self.gradient(case) - case.gradient), 1e-9 * np.linalg.norm(case.gradient))

    def test_sizes(self):
        """Up to more neurons than a block of threads or a tile of the CPU, and an odd number of them."""
        for seed, (batch, n_pre, n_post) in enumerate(((1, 1, 1), (2, 4, 3), (3, 5, 1031), (7, 65, 10))):
            with self.subTest(batch=batch, n_pre=n_pre, n_post=n_post):
                self.check(LayerCase(seed, batch, n_pre, n_post, gain=None if n_pre > 1 else 5.0))

    def test_several_spikes_and_ties(self):
        self.check(LayerCase(10, 3, 8, 300, n_slots_pre=5, n_slots=6))
        self.check(LayerCase(11, 3, 8, 300, n_slots_pre=5, n_slots=40, gain=8.0, grid=0.25))

    def test_long_simulation(self):
        """Thousands of tau: the sums move from origin to origin, between spikes and between events."""
        self.check(LayerCase(12, 2, 6, 20, n_slots_pre=60, n_slots=60, duration=3000.0, gain=8.0))

    def test_silent_layer_and_empty_batch(self):
        case = LayerCase(13, 3, 5, 7, gain=3.0)
        case.spikes.counts[:], case.spikes.times[:] = 0, np.inf
        self.assertEqual(np.abs(self.gradient(case)).max(), 0)
        case = LayerCase(13, 3, 5, 7, gain=3.0)
        case.times, case.counts, case.errors = case.times[:0], case.counts[:0], case.errors[:0]
        for name in ("times", "counts", "x", "q", "t0"):
            setattr(case.spikes, name, getattr(case.spikes, name)[:0])
        self.assertEqual(np.abs(self.gradient(case)).max(), 0)

    def test_float32(self):
        case = LayerCase(14, 4, 6, 200, n_slots_pre=2)
        found = self.gradient(case, np.float32)
        self.assertLess(np.linalg.norm(found - case.gradient), 1e-4 * np.linalg.norm(case.gradient))
        self.assertEqual(found.tobytes(), self.gradient(case, np.float32).tobytes())  # the same bits every time

    def test_bad_arguments(self):
        case = LayerCase(15, 2, 3, 4, gain=3.0)
        events = make_events(self, case.times, case.counts, np.float64)
        times, factors = self.array(np.zeros((2, 4, 4))), self.array(np.zeros(events.times.shape))
        counts, gradient = self.array(np.zeros((2, 4), np.int32)), self.array(np.zeros((4, 3)))
        with self.assertRaisesRegex(ValueError, r"gradient: expected shape \(3, 4\), received \(4, 3\)"):
            ops.ensemble_gradient(events, factors, times, counts, times, case.neuron(np.float64), gradient)


class OnCpu(Checks, Cpu):
    pass


class OnCuda(Checks, Cuda):
    pass
