"""Backward pass of one layer against the oracle: recurrent errors, weight gradient, errors of the pre-spikes."""

import numpy as np

from bats import ops
from bats.device import to_numpy
from bats.spikes import EventList
from tests.devices import Cpu, Cuda
from tests.ops.cases import LayerCase, by_neuron, make_events


class Checks:
    looked_up = (False,)  # whether sums over later spikes are looked up

    def run_backward(self, case, dtype, slope_floor=0.0, looked_up=False):
        """The three operations on the oracle's own spikes, with poisoned outputs -> gradient, pre-errors, bounded spikes."""
        batch, n_post, n_slots = case.spikes.times.shape
        neuron = case.neuron(dtype, slope_floor)
        events = make_events(self, case.times, case.counts, dtype)
        times = self.array(case.spikes.times.transpose(0, 2, 1), dtype)
        slopes = case.spikes.slopes.copy()
        slopes[~np.isfinite(case.spikes.times)] = np.nan  # what no spike wrote must not be read
        errors = np.where(np.isfinite(case.spikes.times), case.errors, np.nan)
        slopes, errors = (self.array(array.transpose(0, 2, 1), dtype) for array in (slopes, errors))
        counts, weights = self.array(case.spikes.counts, np.int32), self.array(case.weights.T, dtype)
        gains, status = self.poisoned(times.shape, dtype), self.status(batch)
        ops.recurrent_errors(errors, times, slopes, counts, neuron, gains, status)
        out_events = EventList.allocate(self.xp, batch, n_post, n_slots, dtype)
        ops.sort_events(times, counts, out_events, ops.sort_scratch(out_events))
        factors = self.poisoned(events.times.shape, dtype)
        ops.event_factors(events, neuron, factors)
        pre_errors = self.xp.zeros((batch, case.times.shape[2], case.times.shape[1]), dtype=dtype)
        sums = [self.poisoned((batch, n_post), dtype) for _ in range(2)]
        later = None
        if looked_up:
            later = self.poisoned((*times.shape, 4), dtype)
            ops.later_sums(times, counts, gains, neuron, later)
        ops.presynaptic_errors(events, factors, weights, out_events, gains, neuron, pre_errors, sums, later)
        gradient = self.poisoned(weights.shape, dtype)
        scratch = ops.gradient_scratch(self.xp, batch, *weights.shape, dtype)
        for array in scratch.values():
            array.fill(np.nan)
        ops.weight_gradient(events, factors, times, counts, out_events, gains, neuron, gradient, scratch, later)
        return to_numpy(gradient).T, by_neuron(pre_errors), int(to_numpy(status)[:, 0].sum())

    def check(self, case, tolerance=1e-9):
        self.assertGreater(case.spikes.counts.sum(), 0)
        for looked_up in self.looked_up:
            with self.subTest(looked_up=looked_up):
                gradient, pre_errors, bounded = self.run_backward(case, np.float64, looked_up=looked_up)
                self.assertLess(np.linalg.norm(gradient - case.gradient), tolerance * np.linalg.norm(case.gradient))
                self.assertLess(np.linalg.norm(pre_errors - case.pre_errors), tolerance * np.linalg.norm(case.pre_errors))
                self.assertEqual(bounded, 0)

    def test_sizes(self):
        for seed, (batch, n_pre, n_post) in enumerate(((1, 1, 1), (2, 31, 33), (3, 300, 257), (7, 65, 10))):
            with self.subTest(batch=batch, n_pre=n_pre, n_post=n_post):
                self.check(LayerCase(seed, batch, n_pre, n_post, gain=None if n_pre > 1 else 5.0))

    def test_several_input_spikes(self):
        self.check(LayerCase(10, 3, 40, 50, n_slots_pre=5, n_slots=6))

    def test_more_spikes_than_lanes(self):
        case = LayerCase(11, 2, 30, 20, n_slots=60, n_slots_pre=4, gain=10.0)
        self.assertGreater(case.spikes.counts.max(), 32)
        self.check(case)

    def test_ties(self):
        self.check(LayerCase(12, 3, 60, 40, n_slots_pre=3, grid=0.25))

    def test_long_simulation(self):
        case = LayerCase(14, 2, 50, 20, n_slots_pre=30, n_slots=40, duration=3000.0, gain=3.0)
        self.check(case)

    def test_batch_above_1024(self):
        self.check(LayerCase(17, 1500, 6, 3, gain=1.5))

    def test_more_inputs_than_shared_memory_holds(self):
        """Rows of 5 000 inputs leave room for one in a block; of 20 000 for none: then they lie in global memory."""
        self.check(LayerCase(18, 3, 5000, 6))
        self.check(LayerCase(19, 2, 20000, 5))

    def test_silent_layer(self):
        case = LayerCase(20, 3, 9, 7)
        case.spikes.counts[:], case.spikes.times[:] = 0, np.inf
        gradient, pre_errors, _ = self.run_backward(case, np.float64)
        self.assertEqual((np.abs(gradient).max(), np.abs(pre_errors).max()), (0, 0))

    def test_empty_batch(self):
        case = LayerCase(21, 1, 4, 3, gain=3.0)
        case.times, case.counts = case.times[:0], case.counts[:0]
        for name in ("times", "counts", "x", "q", "t0"):
            setattr(case.spikes, name, getattr(case.spikes, name)[:0])
        case.errors = case.errors[:0]
        self.assertEqual(np.abs(self.run_backward(case, np.float64)[0]).max(), 0)

    def test_slope_floor(self):
        """The floor acts on the spikes below it, is counted, and leaves a gradient that is the oracle's with those slopes."""
        case = LayerCase(22, 4, 30, 20)
        unit = case.theta / (2 * case.tau_s)
        slopes = case.spikes.slopes[np.isfinite(case.spikes.times)]
        floor = np.median(slopes) / unit
        exact, _, bounded = self.run_backward(case, np.float64)
        self.assertEqual(bounded, 0)
        limited, _, bounded = self.run_backward(case, np.float64, slope_floor=floor)
        self.assertEqual(bounded, (slopes < floor * unit).sum())
        from bats import reference

        case.spikes.x = np.where(np.isfinite(case.spikes.times), np.maximum(case.spikes.x, floor * unit * case.spikes.q), 0)
        expected, _ = reference.backward_layer(case.errors, case.spikes, case.times, case.counts, case.weights)
        self.assertLess(np.linalg.norm(limited - expected), 1e-9 * np.linalg.norm(expected))
        self.assertGreater(np.linalg.norm(limited - exact), 1e-3 * np.linalg.norm(exact))

    def test_same_bits_every_time(self):
        case = LayerCase(23, 40, 100, 80, n_slots_pre=2)
        for looked_up in self.looked_up:
            runs = [self.run_backward(case, np.float32, looked_up=looked_up) for _ in range(2)]
            self.assertEqual(runs[0][0].tobytes(), runs[1][0].tobytes())
            self.assertEqual(runs[0][1].tobytes(), runs[1][1].tobytes())


class OnCpu(Checks, Cpu):
    pass


class OnCuda(Checks, Cuda):
    looked_up = (False, True)
