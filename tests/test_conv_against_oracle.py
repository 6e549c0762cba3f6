"""Convolution and pooling on every device against bats.reference_conv: spike times, counts, gradients, errors of the input."""

import functools

import numpy as np

from bats import reference_conv
from bats.device import to_numpy
from bats.reference_conv import PoolLayer
from tests.conv_networks import build, conv, dense, size, with_weights
from tests.devices import Cpu, Cuda
from tests.oracle import TOLERANCE, causal_order, difference, random_errors, rounded, time_differences, well_conditioned
from tests.reference.random_networks import random_trains


class AgainstOracle:
    def check(self, grid, times, counts, layers, t_max=np.inf, seed=0, tolerance=TOLERANCE):
        """Compares all layers -> the trains of the oracle, or None if a spike grazes."""
        trains = reference_conv.forward_network(times, counts, layers, t_max)
        if not well_conditioned(*zip(*with_weights(layers, trains), strict=True)):
            return None
        tau_s = layers[0].tau_s if hasattr(layers[0], "tau_s") else layers[1].tau_s
        network = build(grid, layers, self.device)
        shape = network.forward(times, counts, t_max, training=True)[0].shape
        network.backward(np.full(shape, 1e3), input_errors=True)
        for layer in network.layers[1:]:
            if layer.trainable:
                layer.errors.fill(np.nan)  # what is left in the workspaces must not matter
        network.reset_status()
        network.forward(times, counts, t_max, training=True)
        errors = random_errors(np.random.default_rng(seed), trains[-1], tau_s)
        gradients = network.backward(errors, input_errors=True)
        expected, pre_errors = reference_conv.backward_network(errors, times, counts, layers, trains)
        status = network.status()
        for n, (layer, spikes) in enumerate(zip(network.layers[1:], trains, strict=True)):
            found_times, found_counts = layer.spike_trains
            np.testing.assert_array_equal(to_numpy(found_counts), spikes.counts)
            np.testing.assert_array_equal(np.isfinite(to_numpy(found_times)), np.isfinite(spikes.times))
            self.assertLess(time_differences(found_times, spikes.times, tau_s).max(initial=0), tolerance)
            if expected[n] is None:
                self.assertIsNone(gradients[n + 1])
                self.assertNotIn(layer.name, status)
                continue
            self.assertEqual(gradients[n + 1].shape, layers[n].weights.shape)
            self.assertLess(difference(gradients[n + 1], expected[n]), tolerance, layer)
            totals = status[layer.name]
            self.assertEqual(totals["spikes"], spikes.counts.sum())
            self.assertEqual(totals["silent"], (spikes.counts == 0).sum())
            self.assertEqual(totals["overflow"], spikes.overflow.sum())
            self.assertEqual((totals["non_finite"], totals["bounded"]), (0, 0))
        found = to_numpy(network.input_errors)
        self.assertLess(difference(found, pre_errors[0]), tolerance)
        np.testing.assert_array_equal(found[pre_errors[0] == 0], 0)  # exact zeros, where no weight leads
        return trains

    def check_random(self, seed, grid, make_layers, n_batch=2, n_slots=2, span=4, t_max=np.inf, change=None):
        """The first well-conditioned network that follows from the seed; change(times, counts, layers, tau_s) may edit it."""
        rng = np.random.default_rng(seed)
        for _ in range(30):
            tau_s = float(10 ** rng.uniform(-3, 0))
            times, counts = random_trains(rng, n_batch, size(grid), n_slots, span * tau_s)
            layers = make_layers(rng, tau_s)
            if change is not None:
                times, counts = change(times, counts, layers, tau_s)
            trains = self.check(grid, times, counts, layers, t_max * tau_s, seed)
            if trains is not None:
                return trains
        self.fail("no well-conditioned network in 30")

    @staticmethod
    def one_convolution(grid, filters, stride, padding, rng, tau_s):
        return [conv(rng, grid, filters, tau_s, stride, padding)]

    @staticmethod
    def conv_pool_conv_dense(grid, **options):
        def make(rng, tau_s):
            first = conv(rng, grid, (3, 2, 3), tau_s, **options)
            pool = PoolLayer(first.out_grid)
            second = conv(rng, pool.out_grid, (2, 2, 2), tau_s)
            return [first, pool, second, dense(rng, size(second.out_grid), 3, tau_s)]

        return make

    # ------------------------------------------------------------------------------------------------------------------
    def test_one_convolution(self):
        """Rectangular grids and filters, several channels, stride and padding, each axis on its own; more channels than lanes."""
        cases = (
            ((4, 4, 1), (3, 3, 1), (1, 1), (0, 0)),
            ((5, 3, 2), (2, 3, 4), (1, 1), (0, 0)),
            ((6, 5, 1), (3, 2, 2), (2, 1), (0, 0)),
            ((6, 5, 2), (3, 2, 2), (2, 3), (1, 0)),
            ((3, 4, 1), (2, 3, 3), (1, 2), (2, 1)),
            ((2, 2, 3), (4, 3, 2), (1, 1), (1, 1)),
            ((1, 1, 2), (1, 1, 5), (1, 1), (0, 0)),
            ((4, 3, 2), (2, 2, 37), (1, 1), (0, 0)),
            ((3, 3, 5), (1, 1, 2), (3, 2), (0, 0)),
        )
        for seed, (grid, filters, stride, padding) in enumerate(cases):
            with self.subTest(grid=grid, filters=filters, stride=stride, padding=padding):
                make = functools.partial(self.one_convolution, grid, filters, stride, padding)
                trains = self.check_random(seed, grid, make)
                self.assertTrue(trains[0].counts.any())

    def test_pooling_first(self):
        """Of input spikes, windows of any kind; rows and columns left out get exact zeros."""
        for seed, (grid, window, stride) in enumerate((
            ((4, 4, 2), (2, 2), (2, 2)), ((5, 7, 1), (2, 2), (2, 2)), ((5, 4, 2), (3, 1), (3, 1)), ((6, 6, 1), (1, 2), (2, 3)),
        )):  # fmt: skip
            with self.subTest(grid=grid, window=window, stride=stride):
                pool = PoolLayer(grid, window, stride)
                self.check_random(seed, grid, lambda rng, tau_s, p=pool: [p, dense(rng, size(p.out_grid), 4, tau_s)], n_slots=3)

    def test_convolution_pooling_convolution_dense(self):
        for seed, grid in enumerate(((7, 7, 1), (8, 6, 2), (6, 7, 1))):  # the first convolution is 5 x 6, 6 x 5, 4 x 6
            trains = self.check_random(seed, grid, self.conv_pool_conv_dense(grid))
            self.assertTrue(all(spikes.counts.any() for spikes in trains))

    def test_pooling_of_pooling(self):
        def make(rng, tau_s):
            first = conv(rng, (7, 8, 1), (2, 2, 2), tau_s)  # 6 x 7: a column is left out by the first pooling
            pools = [PoolLayer(first.out_grid)]
            pools.append(PoolLayer(pools[0].out_grid, (3, 1), (3, 1)))
            return [first, *pools, dense(rng, size(pools[1].out_grid), 3, tau_s, gain=0.5)]

        self.check_random(3, (7, 8, 1), make)

    def test_time_to_first_spike(self):
        trains = self.check_random(4, (7, 7, 1), self.conv_pool_conv_dense((7, 7, 1), max_n_spike=1))
        self.assertEqual(trains[0].counts.max(), 1)

    def test_t_max(self):
        trains = self.check_random(5, (7, 7, 1), self.conv_pool_conv_dense((7, 7, 1)), t_max=1.5)
        self.assertTrue(trains[0].counts.any())

    def test_full_buffers(self):
        def make(rng, tau_s):
            layers = self.conv_pool_conv_dense((7, 7, 1), max_n_spike=2)(rng, tau_s)
            layers[0].weights = np.abs(layers[0].weights)
            return layers

        self.assertTrue(self.check_random(6, (7, 7, 1), make)[0].overflow.any())

    def test_ties(self):
        """Input spikes on a coarse grid and equal filters: windows merge spikes of the same time, from neurons of the same time."""

        def change(times, counts, layers, tau_s):
            layers[0].weights[1] = layers[0].weights[0]
            times = np.ceil(times / tau_s * 2) * tau_s / 2
            times[:, 8:] = times[:, :-8]  # row by row the same: neighbours in x spike together
            counts[:, 8:] = counts[:, :-8]
            for row in range(1, 8):
                times[:, 8 * row : 8 * row + 8], counts[:, 8 * row : 8 * row + 8] = times[:, :8], counts[:, :8]
            return times, counts

        def make(rng, tau_s):
            first = conv(rng, (8, 8, 1), (3, 3, 2), tau_s)
            pool = PoolLayer(first.out_grid)
            return [first, pool, conv(rng, pool.out_grid, (2, 2, 2), tau_s)]

        pooled = self.check_random(7, (8, 8, 1), make, change=change)[1]
        on = np.isfinite(pooled.times[..., 1:])
        self.assertTrue((pooled.times[..., 1:][on] == pooled.times[..., :-1][on]).any())

    def test_silent_and_empty(self):
        def silence(times, counts, layers, tau_s):
            layers[0].weights[:] = -1
            return times, counts

        make = self.conv_pool_conv_dense((7, 7, 1))
        self.assertFalse(self.check_random(8, (7, 7, 1), make, change=silence)[0].counts.any())

        def empty(times, counts, layers, tau_s):
            times[0], counts[0] = np.inf, 0
            return times, counts

        self.check_random(9, (7, 7, 1), make, change=empty)
        layers = make(np.random.default_rng(0), 0.1)
        self.assertIsNotNone(self.check((7, 7, 1), np.full((2, 49, 1), np.inf), np.zeros((2, 49), np.int32), layers))

    def test_batch_of_one_and_of_many(self):
        make = self.conv_pool_conv_dense((7, 6, 1))
        self.check_random(10, (7, 6, 1), make, n_batch=1)
        self.check_random(11, (7, 6, 1), make, n_batch=19)

    def test_long_simulation(self):
        """Many time origins, with pauses in which everything decays."""
        trains = self.check_random(12, (4, 4, 1), lambda rng, tau_s: [conv(rng, (4, 4, 1), (3, 2, 2), tau_s, max_n_spike=60)],
                                   n_slots=30, span=600)  # fmt: skip
        self.assertGreater(trains[0].counts.max(), 10)

    def test_many_events_in_a_receptive_field(self):
        """More than the 32 that a warp takes at a time, by far."""
        self.check_random(13, (5, 5, 6), lambda rng, tau_s: [conv(rng, (5, 5, 6), (5, 4, 2), tau_s, max_n_spike=30)], n_slots=5)

    def test_reused_network_forgets_the_last_batch(self):
        rng = np.random.default_rng(14)
        layers = self.conv_pool_conv_dense((7, 7, 1))(rng, 0.1)
        network = build((7, 7, 1), layers, self.device)
        for n_batch, n_slots in ((4, 3), (1, 1), (6, 2)):
            times, counts = random_trains(rng, n_batch, 49, n_slots, 0.4)
            found, _ = network.forward(times, counts)
            expected = reference_conv.forward_network(times, counts, layers)[-1].times
            np.testing.assert_allclose(to_numpy(found), expected, rtol=1e-9)

    def test_same_bits_every_time(self):
        rng = np.random.default_rng(15)
        layers = self.conv_pool_conv_dense((12, 11, 1))(rng, 0.1)
        times, counts = random_trains(rng, 30, 132, 2, 0.4)
        runs = []
        for _ in range(2):
            network = build((12, 11, 1), layers, self.device, "float32")
            network.forward(times, counts, training=True)
            gradients = network.backward(np.ones(network.output_spike_trains[0].shape), input_errors=True)
            arrays = [network.input_errors, *network.output_spike_trains, *(g for g in gradients if g is not None)]
            runs.append([np.ascontiguousarray(to_numpy(array)).tobytes() for array in arrays])
        self.assertEqual(*runs)

    # ------------------------------------------------------------------------------------------------------------------
    def float32_errors(self, rng):
        """(ours, naive): errors of spike times, then of weight gradients; None if they do not compare (see test_float32_against_oracle)."""
        tau_s, grid = float(10 ** rng.uniform(-3, 0)), (6, 6, 1)
        layers = self.conv_pool_conv_dense(grid)(rng, tau_s)
        times, counts = random_trains(rng, 2, size(grid), 2, 4 * tau_s)
        times = rounded(times)
        for layer in layers:
            if hasattr(layer, "weights"):
                layer.weights = rounded(layer.weights)
        exact = reference_conv.forward_network(times, counts, layers)
        rough = reference_conv.forward_network(times, counts, layers, dtype=np.float32, origin="absolute")
        network = build(grid, layers, self.device, "float32")
        network.forward(times, counts, training=True)
        versions = [[to_numpy(layer.spike_trains[0]) for layer in network.layers[1:]], [r.times for r in rough]]
        order = causal_order(times, [e.times for e in exact])
        if not well_conditioned(*zip(*with_weights(layers, exact), strict=True)):
            return None
        if any(causal_order(times, version) != order for version in versions):
            return None
        errors = random_errors(rng, exact[-1], tau_s)
        expected, _ = reference_conv.backward_network(errors, times, counts, layers, exact)
        naive, _ = reference_conv.backward_network(errors, times, counts, layers, rough)
        gradients = [network.backward(errors)[1:], naive]
        return [
            [time_differences(t, e.times, tau_s).max(initial=0) for t, e in zip(version, exact, strict=True)]
            + [difference(g, e) for g, e in zip(gradient, expected, strict=True) if e is not None]
            for version, gradient in zip(versions, gradients, strict=True)
        ]

    def test_float32_within_twice_the_naive_error(self):
        """Median and 90 % quantile over 20 networks."""
        rng, found, drawn = np.random.default_rng(21), [], 0
        while len(found) < 20:
            drawn += 1
            pair = self.float32_errors(rng)
            found += [] if pair is None else [pair]
        self.assertLess(drawn, 100)
        ours, naive = np.quantile(found, (0.5, 0.9), axis=0).swapaxes(0, 1)
        self.assertTrue((ours <= 2 * naive).all(), f"ours {ours}, naive {naive}")
        self.assertLess(ours.max(), 1e-3)


class OnCpu(AgainstOracle, Cpu):
    pass


class OnCuda(AgainstOracle, Cuda):
    pass
