"""Layers on a time grid against bats.reference_grid: spikes, crossings, counters and gradients."""

import itertools

import numpy as np

import bats
from bats import reference_conv, reference_grid
from bats.device import to_numpy
from bats.discretization import ROUNDINGS, RULES
from bats.reference import Layer
from tests.devices import Cpu, Cuda
from tests.oracle import difference
from tests.reference.random_networks import random_trains

T_MAX = 5.0


def random_layer(rng, n_pre, n_post, n_slots=10):
    return Layer(rng.uniform(-0.5, 1.5, (n_post, n_pre)) * 12 / n_pre, 1.0, 0.4, 0.3, n_slots)


class Checks:
    def network(self, n_inputs, layers, grids, dtype="float64"):
        network = bats.Network(device=self.device, dtype=dtype, seed=0)
        network.add_layer(bats.InputLayer(n_inputs, "input"), input=True)
        for n, (layer, grid) in enumerate(zip(layers, grids, strict=True)):
            neuron = layer.tau_s, layer.theta, layer.delta_theta
            added = bats.LIFLayer(None, len(layer.weights), *neuron, max_n_spike=layer.max_n_spike, name=f"{n}", slope_floor=0, grid=grid)
            network.add_layer(added).weights = layer.weights
        return network

    def check(self, times, counts, layers, grids, t_max=T_MAX, tolerance=1e-9):
        """Runs the network and the oracle, forward and backward; returns the oracle's trains."""
        network = self.network(times.shape[1], layers, grids)
        found = network.forward(times, counts, max_simulation=t_max, training=True)
        trains, pre = [], [(times, counts)]
        for layer, grid in zip(layers, grids, strict=True):
            trains.append(reference_grid.forward_layer(*pre[-1], layer, grid, t_max))
            pre.append((trains[-1].times, trains[-1].counts))
        for spikes, layer in zip(trains, network.layers[1:], strict=True):
            np.testing.assert_array_equal(to_numpy(layer.spike_trains[0]), spikes.times)  # bins, so to the last bit
            np.testing.assert_array_equal(to_numpy(layer.spike_trains[1]), spikes.counts)
            status = network.status()[layer.name]
            totals = spikes.counts.sum(), (spikes.counts == 0).sum(), spikes.overflow.sum()
            self.assertEqual((status["spikes"], status["silent"], status["overflow"]), totals)
        errors = np.random.default_rng(1).normal(size=found[0].shape)
        gradients = network.backward(errors, input_errors=True)
        for n in reversed(range(len(layers))):
            gradient, errors = reference_grid.backward_layer(errors, trains[n], *pre[n], layers[n], grids[n])
            self.assertLess(difference(gradients[n + 1], gradient), tolerance)
        self.assertLess(difference(np.where(np.isfinite(times), to_numpy(network.input_errors), 0), errors), tolerance)
        return trains

    def test_rules_and_roundings(self):
        rng = np.random.default_rng(0)
        due = dict.fromkeys(RULES, 0)
        for rule, rounding, dt in itertools.product(RULES, ROUNDINGS, (0.02, 0.15, 0.4)):
            with self.subTest(rule=rule, rounding=rounding, dt=dt):
                times, counts = random_trains(rng, 2, 12, 2, 3.0)
                times = bats.TimeGrid(dt, rounding).discretize(times)  # ties
                grid = bats.TimeGrid(dt, rounding, rule)
                (spikes,) = self.check(times, counts, [random_layer(rng, 12, 33)], [grid])
                due[rule] += spikes.due.sum()
                bins = np.rint(spikes.times / dt)
                with np.errstate(invalid="ignore"):
                    self.assertFalse((np.diff(bins, axis=2) < 1).any())  # one spike per bin and neuron, ascending
        self.assertGreater(due["clean"], 100)
        self.assertEqual(due["study"], 0)

    def test_layers_with_steps_of_their_own(self):
        """Input in continuous time, hidden and output layers on different grids."""
        rng = np.random.default_rng(1)
        for grids in ((0.1, 0.25), (0.3, 0.04)):
            for batch, sizes in ((1, (7, 5, 3)), (3, (13, 35, 9))):
                times, counts = random_trains(rng, batch, sizes[0], 3, 3.0)
                layers = [random_layer(rng, n_pre, n_post) for n_pre, n_post in itertools.pairwise(sizes)]
                trains = self.check(times, counts, layers, [bats.TimeGrid(dt, r) for dt, r in zip(grids, ("nearest", "next"), strict=True)])
                self.assertGreater(min(spikes.counts.sum() for spikes in trains), 0)

    def test_buffers_silence_and_t_max(self):
        rng = np.random.default_rng(2)
        times, counts = random_trains(rng, 2, 12, 2, 3.0)
        for n_slots in (1, 3):
            (spikes,) = self.check(times, counts, [random_layer(rng, 12, 6, n_slots)], [bats.TimeGrid(0.1)], t_max=np.inf)
            self.assertEqual(spikes.overflow.any(), n_slots > 1)
        (cut,) = self.check(times, counts, [random_layer(rng, 12, 6)], [bats.TimeGrid(0.25)], t_max=1.1)
        self.assertLessEqual(cut.times[np.isfinite(cut.times)].max(), 1.0)
        silent = random_layer(rng, 12, 6)
        silent.weights = -np.abs(silent.weights)
        self.assertEqual(self.check(times, counts, [silent], [bats.TimeGrid(0.1)])[0].counts.sum(), 0)
        nothing = np.full_like(times, np.inf)
        self.assertEqual(self.check(nothing, np.zeros_like(counts), [random_layer(rng, 12, 6)], [bats.TimeGrid(0.1)])[0].counts.sum(), 0)

    def test_long_simulation(self):
        """Many time origins (every 16 tau_s), silent gaps, inputs much later than a spike that is due."""
        rng = np.random.default_rng(3)
        times, counts = random_trains(rng, 2, 10, 15, 400.0)
        (spikes,) = self.check(times, counts, [random_layer(rng, 10, 8, 60)], [bats.TimeGrid(2.5)], t_max=500.0)
        self.assertGreater(spikes.counts.sum(), 100)

    def test_convolution(self):
        rng = np.random.default_rng(4)
        layer = reference_conv.ConvLayer((5, 4, 2), rng.uniform(-0.5, 2.0, (3, 2, 3, 2)), 1.0, 0.4, 0.3, 6, (2, 1), (1, 0))
        times, counts = random_trains(rng, 2, 40, 2, 3.0)
        for rule, rounding in itertools.product(RULES, ROUNDINGS):
            grid = bats.TimeGrid(0.2, rounding, rule)
            network = bats.Network([bats.ConvInputLayer((5, 4, 2))], device=self.device, dtype="float64")
            conv = bats.ConvLIFLayer(None, (2, 3, 3), 1.0, 0.4, 0.3, max_n_spike=6, stride=(2, 1), padding=(1, 0), slope_floor=0, grid=grid)
            network.add_layer(conv).weights = layer.weights
            found, _ = network.forward(times, counts, max_simulation=T_MAX, training=True)
            dense = layer.unrolled()
            spikes = reference_grid.forward_layer(times, counts, dense, grid, T_MAX)
            np.testing.assert_array_equal(to_numpy(found), spikes.times)
            errors = rng.normal(size=found.shape)
            gradients = network.backward(errors, input_errors=True)
            gradient, pre_errors = reference_grid.backward_layer(errors, spikes, times, counts, dense, grid)
            self.assertLess(difference(gradients[1], layer.folded(gradient)), 1e-9)
            self.assertLess(difference(np.where(np.isfinite(times), to_numpy(network.input_errors), 0), pre_errors), 1e-9)

    def test_no_grid_is_bit_identical(self):
        rng = np.random.default_rng(5)
        times, counts = random_trains(rng, 3, 12, 2, 3.0)
        layers = [random_layer(rng, 12, 9), random_layer(rng, 9, 4)]
        errors, bits = rng.normal(size=(3, 4, 10)), []
        for grid in (None, bats.TimeGrid(0), bats.TimeGrid(0.0, "ceil", "study")):
            network = self.network(12, layers, [grid, grid], "float32")
            found = network.forward(times, counts, training=True)
            gradients = network.backward(errors)
            bits.append([to_numpy(array).tobytes() for array in (*found, *gradients[1:])])
        self.assertEqual(bits[0], bits[1])
        self.assertEqual(bits[0], bits[2])

    def test_a_fine_grid_approaches_continuous_time(self):
        rng = np.random.default_rng(6)
        times, counts = random_trains(rng, 2, 12, 2, 3.0)
        layer = random_layer(rng, 12, 9)
        exact, n_exact = (to_numpy(array) for array in self.network(12, [layer], [None]).forward(times, counts))
        found, n_found = (to_numpy(array) for array in self.network(12, [layer], [bats.TimeGrid(1e-7)]).forward(times, counts))
        np.testing.assert_array_equal(n_found, n_exact)
        on = np.isfinite(exact)
        late = found[on] - exact[on]
        self.assertGreaterEqual(late.min(), 0)
        self.assertLess(late.max(), 1e-5)

    def test_float32(self):
        """Almost every spike in the bin that float64 gives it (a crossing at a border may round to either), and the same bits twice."""
        rng = np.random.default_rng(7)
        times, counts = random_trains(rng, 4, 30, 2, 3.0)
        grid = bats.TimeGrid(0.1)
        times = grid.discretize(times)
        layer = random_layer(rng, 30, 65)
        spikes = reference_grid.forward_layer(times, counts, layer, grid, T_MAX)
        runs = [to_numpy(self.network(30, [layer], [grid], "float32").forward(times, counts, max_simulation=T_MAX)[0]) for _ in range(2)]
        self.assertEqual(runs[0].tobytes(), runs[1].tobytes())
        same = np.rint(runs[0] / 0.1) == np.rint(spikes.times / 0.1)
        self.assertGreater(same.mean(), 0.999)

    def test_nan_weights_never_spike_and_are_counted(self):
        rng = np.random.default_rng(8)
        times, counts = random_trains(rng, 2, 5, 1, 3.0)
        counts[:], times[~np.isfinite(times)] = 1, 0.5
        times[:, 2] = 0  # before anything else: a neuron may spike until NaN comes in
        layer = random_layer(rng, 5, 4)
        layer.weights[1, 2] = np.nan
        network = self.network(5, [layer], [bats.TimeGrid(0.1)])
        _, found = network.forward(times, counts)
        self.assertEqual(to_numpy(found)[:, 1].sum(), 0)
        self.assertEqual(network.status()["0"]["non_finite"], 2)


class OnCpu(Checks, Cpu):
    pass


class OnCuda(Checks, Cuda):
    pass
