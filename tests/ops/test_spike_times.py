"""Forward pass of one layer against the oracle, in both variants of the kernel."""

import numpy as np

from bats import reference
from bats.device import to_numpy
from tests.devices import Cpu, Cuda
from tests.ops.cases import LayerCase, by_neuron, make_events, run_forward


class Checks:
    variants = (None,)

    def check(self, case, dtype=np.float64, t_max=np.inf, tolerance=1e-9):
        spikes = reference.forward_layer(
            case.times, case.counts, case.weights, case.tau_s, case.theta, case.delta_theta, case.n_slots, t_max
        )
        events = make_events(self, case.times, case.counts, dtype)
        for variant in self.variants:
            with self.subTest(variant=variant):
                found = run_forward(self, events, case.weights, case.neuron(dtype), t_max, case.n_slots, dtype, variant)
                np.testing.assert_array_equal(to_numpy(found.counts), spikes.counts)
                on = np.isfinite(spikes.times)
                times = by_neuron(found.times)
                np.testing.assert_array_equal(np.isposinf(times), ~on)
                np.testing.assert_allclose(times[on], spikes.times[on], rtol=tolerance)
                np.testing.assert_allclose(by_neuron(found.slopes)[on], spikes.slopes[on], rtol=1e-7)
                totals = (spikes.counts.sum(), (spikes.counts == 0).sum(), spikes.overflow.sum(), 0)
                np.testing.assert_array_equal(found.status, totals)
        return spikes

    def test_sizes(self):
        for seed, (batch, n_pre, n_post) in enumerate(((1, 1, 1), (2, 31, 33), (3, 300, 257), (4, 65, 700))):
            with self.subTest(batch=batch, n_pre=n_pre, n_post=n_post):
                self.assertGreater(self.check(LayerCase(seed, batch, n_pre, n_post, gain=None if n_pre > 1 else 5.0)).counts.sum(), 0)

    def test_several_input_spikes_and_full_buffers(self):
        spikes = self.check(LayerCase(10, 3, 40, 50, n_slots_pre=5, n_slots=3))
        self.assertTrue(spikes.overflow.any())

    def test_many_spikes_between_two_events(self):
        spikes = self.check(LayerCase(11, 2, 3, 20, n_slots=60, gain=30.0))
        self.assertGreater(spikes.counts.max(), 30)

    def test_ties(self):
        self.check(LayerCase(12, 3, 60, 40, n_slots_pre=3, grid=0.25))

    def test_t_max(self):
        full = self.check(LayerCase(13, 3, 60, 40))
        cut = self.check(LayerCase(13, 3, 60, 40), t_max=0.6)
        self.assertLess(cut.counts.sum(), full.counts.sum())

    def test_long_simulation(self):
        """1000 tau_s and more: many time origins, silent gaps longer than an origin's span."""
        case = LayerCase(14, 2, 50, 20, n_slots_pre=30, n_slots=40, duration=3000.0, gain=3.0)
        self.assertGreater(self.check(case).counts.sum(), 100)

    def test_long_simulation_in_float32(self):
        """No overflow and no lost spikes; times are as good as float32 can hold them."""
        case = LayerCase(15, 2, 20, 20, n_slots_pre=10, n_slots=40, duration=1000.0, gain=6.0)
        events = make_events(self, case.times, case.counts, np.float32)
        on = np.isfinite(case.spikes.times)
        self.assertGreater(on.sum(), 200)
        for variant in self.variants:
            found = run_forward(self, events, case.weights, case.neuron(np.float32), np.inf, case.n_slots, np.float32, variant)
            np.testing.assert_array_equal(to_numpy(found.counts), case.spikes.counts)
            resolution = np.spacing(np.float32(case.spikes.times[on].max()))
            self.assertLess(np.abs(by_neuron(found.times)[on] - case.spikes.times[on]).max(), 4 * resolution + 1e-4 * case.tau_s)

    def test_many_events(self):
        """More events than a tile of the kernel holds."""
        self.check(LayerCase(16, 2, 900, 12, n_slots_pre=2, n_slots=20))

    def test_batch_above_1024(self):
        self.check(LayerCase(17, 1500, 6, 3, gain=1.5))

    def test_nothing_comes_in(self):
        case = LayerCase(18, 4, 5, 6)
        case.times[:], case.counts[:] = np.inf, 0
        self.assertEqual(self.check(case).counts.sum(), 0)

    def test_nan_weights_never_spike_and_are_counted(self):
        case = LayerCase(19, 3, 30, 8)
        case.counts[:], case.times[:] = 1, np.random.default_rng(0).uniform(0, 1, case.times.shape)
        case.times[:, [3, 7]] = 0  # they come first: what a neuron did before would stand
        case.weights[2, 7], case.weights[5, 3] = np.nan, np.inf
        healthy = np.delete(np.arange(8), [2, 5])
        spikes = reference.forward_layer(
            case.times, case.counts, case.weights[healthy], case.tau_s, case.theta, case.delta_theta, case.n_slots
        )
        for dtype in (np.float32, np.float64):
            events = make_events(self, case.times, case.counts, dtype)
            for variant in self.variants:
                found = run_forward(self, events, case.weights, case.neuron(dtype), np.inf, case.n_slots, dtype, variant)
                counts = to_numpy(found.counts)
                self.assertEqual(counts[:, [2, 5]].sum(), 0)
                np.testing.assert_array_equal(counts[:, healthy], spikes.counts)
                self.assertEqual(found.status[3], 6)

    def test_same_bits_every_time(self):
        case = LayerCase(20, 20, 200, 300, n_slots_pre=2)
        events = make_events(self, case.times, case.counts, np.float32)
        for variant in self.variants:
            runs = [
                run_forward(self, events, case.weights, case.neuron(np.float32), np.inf, case.n_slots, np.float32, variant)
                for _ in range(2)
            ]
            self.assertEqual(to_numpy(runs[0].times).tobytes(), to_numpy(runs[1].times).tobytes())


class OnCpu(Checks, Cpu):
    pass


class OnCuda(Checks, Cuda):
    variants = ("neuron", "warp")

    def test_unknown_variant(self):
        case = LayerCase(0, 1, 2, 2)
        events = make_events(self, case.times, case.counts, np.float32)
        with self.assertRaisesRegex(ValueError, "received 'fast'"):
            run_forward(self, events, case.weights, case.neuron(np.float32), np.inf, 2, np.float32, "fast")
