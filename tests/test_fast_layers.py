"""The kernels for short times (bats/layers/fast.py): the oracle's tests with a horizon, and small layouts against the general kernels."""

import importlib
import itertools
import unittest
from unittest import mock

import numpy as np

import bats
from bats import ops
from bats.device import to_numpy
from bats.layers.fast import FastPath
from bats.ops.conv_geometry import convolve
from bats.ops.neuron import Neuron
from bats.sources import LatencyImages
from bats.step import Step
from tests import test_conv_against_oracle, test_networks_against_oracle
from tests.devices import Cuda
from tests.ops.cases import listed, make_events, random_trains

layer_backward = importlib.import_module("bats.ops.layer_backward")  # bats.ops has the function under this name


class WithHorizon(Cuda):
    """Runs every network up to 15 tau_s, by when all is over, and sees to it that the fast kernels did the work."""

    def setUp(self):
        forward = bats.Network.forward

        def with_horizon(network, times, counts=None, max_simulation=np.inf, training=False):
            first = network.trainable_layers[0]
            result = forward(network, times, counts, min(max_simulation, 15 * first.tau_s), training)
            for layer in network.trainable_layers:
                self.assertTrue(layer._fast._one_origin, layer)
            return result

        calls = mock.patch.object(ops, "layer_backward", wraps=ops.layer_backward)
        self.calls = calls.start()
        self.addCleanup(calls.stop)
        horizon = mock.patch.object(bats.Network, "forward", with_horizon)
        horizon.start()
        self.addCleanup(horizon.stop)

    def tearDown(self):
        if "reused" not in self.id():
            self.assertTrue(self.calls.called, "the fast backward pass did not run")


class Convolutions(test_conv_against_oracle.AgainstOracle, WithHorizon):
    test_long_simulation = None  # needs more than one time origin


class DenseNetworks(test_networks_against_oracle.AgainstOracle, WithHorizon):
    device = "cuda"
    test_thousand_tau_s = None  # needs more than one time origin
    test_random_shapes = test_training_steps = None  # run elsewhere, with horizons of their own


class Layouts(Cuda):
    """Each way of cutting the work up gives what the general kernels give."""

    def layer(self, dtype, geometry, batch=5, pre_slots=3, n_slots=4, seed=0, late=False):
        rng = np.random.default_rng(seed)
        times, counts = random_trains(rng, batch, geometry.n_pre, pre_slots, 1.5)
        if late:
            times[:, ::3] += 100  # after t_max, and far from all origins
        n_inputs = geometry.pre_c * geometry.filter_x * geometry.filter_y * pre_slots / 2
        weights = rng.normal(1.0 / n_inputs, 4.0 / n_inputs, geometry.weight_shape)
        neuron = Neuron.make(0.5, 0.2, 0.15, dtype, 0.01)
        events = make_events(self, times, counts, dtype)
        return rng, events, self.array(weights, dtype), neuron

    def outputs(self, batch, n_slots, n_post, dtype):
        times, slopes = (self.poisoned((batch, n_slots, n_post), dtype) for _ in range(2))
        return times, self.poisoned((batch, n_post), np.int32), slopes, self.status(batch)

    def assert_same_trains(self, found, expected, tolerance):
        for name, a, b in zip(("counts", "status"), found[1::2], expected[1::2], strict=True):
            np.testing.assert_array_equal(to_numpy(a), to_numpy(b), name)
        times, counts = to_numpy(expected[0]), to_numpy(expected[1])
        self.assertGreater(counts.sum(), 10)
        np.testing.assert_allclose(to_numpy(found[0]), times, atol=tolerance)
        on = np.isfinite(times)
        np.testing.assert_allclose(to_numpy(found[2])[on], to_numpy(expected[2])[on], rtol=1e3 * tolerance, atol=1e3 * tolerance)

    def test_dense_forward_in_rounds(self):
        """Lists of several rounds; more and fewer neurons than a warp has lanes; a horizon among the events."""
        for dtype, tolerance in ((np.float64, 1e-10), (np.float32, 2e-4)):
            for n_post in (3, 45):
                for most in (32, 96, 3072):
                    with self.subTest(dtype=dtype.__name__, n_post=n_post, most=most):
                        geometry = convolve((1, 1, 140), (1, 1, n_post))
                        _, events, weights, neuron = self.layer(np.dtype(dtype), geometry, seed=2)
                        weights = weights.reshape(140, n_post)
                        runs = [self.outputs(5, 4, n_post, dtype) for _ in range(2)]
                        ops.dense_forward(events, weights, neuron, 1.3, *runs[0], most=most)
                        ops.spike_times(events, weights, neuron, 1.3, *runs[1])
                        self.assert_same_trains(*runs, tolerance)

    def test_conv_forward(self):
        """Fewer channels than lanes, and several tiles of them; receptive fields of few events and of several chunks; weights in shared
        memory and not."""
        ways = (("events", None), ("chunks", None), ("chunks", 30_000))
        for dtype, tolerance in ((np.float64, 1e-10), (np.float32, 2e-4)):
            for channels, (variant, limit), depth in itertools.product((1, 3, 40, 70), ways, (5, 150)):
                with self.subTest(dtype=dtype.__name__, channels=channels, variant=variant, limit=limit, depth=depth):
                    geometry = convolve((7, 6, depth), (4, 3, channels), (1, 2), (1, 0))
                    _, events, weights, neuron = self.layer(np.dtype(dtype), geometry, pre_slots=4)
                    runs = [self.outputs(5, 4, geometry.n_post, dtype) for _ in range(2)]
                    capacity, chunks = events.times.shape[1], variant == "chunks"
                    fields = ops.allocate_fields(self.xp, 5, geometry, capacity, np.dtype(dtype), with_masks=chunks)
                    ops.conv_forward(events, weights, geometry, neuron, 1.3, *runs[0], fields, variant=variant, limit=limit)
                    ops.conv_spike_times(events, weights, geometry, neuron, 1.3, *runs[1])
                    self.assert_same_trains(*runs, tolerance)

    def test_spike_lists(self):
        """They hold the spikes of the trains, bit by bit, whether a sort took those of the pass before or none did, in any batch size."""
        dense, grid = convolve((1, 1, 60), (1, 1, 45)), convolve((7, 6, 3), (4, 3, 40), (1, 2), (1, 0))
        for dtype, n_slots in itertools.product((np.float64, np.float32), (1, 3, 6)):
            for geometry, variant in ((dense, None), (grid, "events"), (grid, "chunks")):
                with self.subTest(dtype=dtype.__name__, n_slots=n_slots, variant=variant):
                    self.check_spike_lists(np.dtype(dtype), n_slots, geometry, variant)

    def check_spike_lists(self, dtype, n_slots, geometry, variant):
        _, events, weights, neuron = self.layer(dtype, geometry)
        spikes = ops.SpikeList.allocate(self.xp, 5, geometry.n_post * n_slots, dtype)
        for batch, sorts in ((5, False), (3, False), (3, True), (5, True)):
            runs = [self.outputs(batch, n_slots, geometry.n_post, dtype) for _ in range(2)]
            for run, to in zip(runs, (spikes, None), strict=True):
                if variant is None:
                    ops.dense_forward(events.first(batch), weights.reshape(-1, geometry.n_post), neuron, 1.3, *run, spikes=to)
                else:
                    capacity = events.times.shape[1]
                    fields = ops.allocate_fields(self.xp, batch, geometry, capacity, dtype, with_masks=variant == "chunks")
                    ops.conv_forward(events.first(batch), weights, geometry, neuron, 1.3, *run, fields, variant=variant, spikes=to)
            for a, b in zip(*runs, strict=True):
                np.testing.assert_array_equal(to_numpy(a), to_numpy(b))
            self.assertTrue(spikes.filled)
            expected, numbers = listed(*runs[0][:2]), to_numpy(spikes.counts)
            self.assertGreater(sum(len(ranks) for _, ranks in expected), 10)
            np.testing.assert_array_equal(numbers, [len(ranks) for _, ranks in expected] + [0] * (5 - batch))
            for b, (times, ranks) in enumerate(expected):
                order = np.argsort(to_numpy(spikes.ranks)[b, : numbers[b]])
                np.testing.assert_array_equal(to_numpy(spikes.ranks)[b, order], ranks)
                np.testing.assert_array_equal(to_numpy(spikes.times)[b, order], times)
            if sorts:
                out = bats.spikes.EventList.allocate(self.xp, batch, geometry.n_post, n_slots, dtype)
                ops.sort_events(*runs[0][:2], out, ops.sort_scratch(out), spikes)
                self.assertFalse(spikes.filled)

    def test_backward_in_rounds_groups_and_parts(self):
        """Against recurrent_errors, later_sums and the two operations after it; input events after the horizon get exact zeros."""
        dense, grid = convolve((1, 1, 60), (1, 1, 37)), convolve((7, 6, 3), (3, 2, 37), (2, 1), (0, 1))
        for geometry, late in ((dense, False), (dense, True), (grid, False), (grid, True)):
            for limits in ({}, {"limit": 28_000}, {"limit": 22_000, "SCRATCH_BYTES": 20_000, "MAX_UNITS": 2, "WANTED_BLOCKS": 3}):
                with self.subTest(positions=geometry.post_x * geometry.post_y, late=late, limits=limits):
                    self.check_backward(geometry, late, dict(limits))

    def check_backward(self, geometry, late, limits, batch=5, n_slots=4):
        dtype = np.dtype(np.float64)
        rng, events, weights, neuron = self.layer(dtype, geometry, late=late)
        times, counts, slopes, status = self.outputs(batch, n_slots, geometry.n_post, dtype)
        fields = None
        if geometry.post_x * geometry.post_y > 1:
            fields = ops.allocate_fields(self.xp, batch, geometry, events.times.shape[1], dtype)
            ops.conv_forward(events, weights, geometry, neuron, 1.3, times, counts, slopes, status, fields)
        else:
            ops.dense_forward(events, weights.reshape(-1, geometry.n_post), neuron, 1.3, times, counts, slopes, status)
        errors = self.array(rng.normal(size=times.shape), dtype)
        found, expected = (self.poisoned((batch, *events.train_shape), dtype) for _ in range(2))
        gradients = [self.poisoned(geometry.weight_shape, dtype) for _ in range(2)]
        bounded = [self.status(batch) for _ in range(2)]
        limit = limits.pop("limit", None)
        layer_backward.layout.cache_clear()
        with mock.patch.multiple(layer_backward, **{"MAX_UNITS": layer_backward.MAX_UNITS, **limits}):
            scratch = ops.layer_backward_scratch(
                self.xp, batch, geometry, n_slots, events.times.shape[1], dtype, found[0].size, limit
            )
            shape = scratch["layout"]
            if limits:
                self.assertLess(shape.at_once, batch)
                self.assertGreater(shape.rounds, 0 if fields is None else 1)
            pending, _ = ops.layer_backward(
                events, fields, errors, times, slopes, counts, weights, geometry, neuron, gradients[0], found, bounded[0], scratch
            )
            ops.add_partial(pending)
        layer_backward.layout.cache_clear()
        out_events = bats.spikes.EventList.allocate(self.xp, batch, geometry.n_post, n_slots, dtype)
        ops.sort_events(times, counts, out_events, ops.sort_scratch(out_events))
        gains, later, factors = (
            self.xp.empty_like(times), self.xp.empty((*times.shape, 4), dtype=dtype), self.xp.empty_like(events.times)
        )  # fmt: skip
        ops.recurrent_errors(errors, times, slopes, counts, neuron, gains, bounded[1])
        ops.later_sums(times, counts, gains, neuron, later)
        ops.event_factors(events, neuron, factors)
        ops.conv_presynaptic_errors(events, factors, weights, geometry, out_events, gains, later, neuron, expected)
        scratch = ops.conv_gradient_scratch(self.xp, batch, geometry, dtype)
        ops.conv_weight_gradient(events, factors, geometry, out_events, gains, later, neuron, gradients[1], scratch)
        for a, b in ((found, expected), gradients):
            a, b = to_numpy(a), to_numpy(b)
            scale = np.nanmax(np.abs(b))
            self.assertGreater(scale, 0)
            np.testing.assert_allclose(a, b, atol=1e-10 * scale, rtol=1e-9)
            np.testing.assert_array_equal(a[b == 0], 0)
        np.testing.assert_array_equal(to_numpy(bounded[0]), to_numpy(bounded[1]))


class Steps(Cuda):
    def run_steps(self, graph, source):
        neuron = {"tau_s": 0.1, "theta": 0.02, "delta_theta": 0.02}
        layers = [
            bats.ConvInputLayer((13, 12, 1), "input"),
            bats.ConvLIFLayer(None, (3, 4, 5), max_n_spike=2, name="conv_1", **neuron),
            bats.PoolingLayer(None, "pool_1"),
            bats.ConvLIFLayer(None, (3, 3, 35), max_n_spike=3, name="conv_2", **neuron),
            bats.PoolingLayer(None, "pool_2", window=(1, 2)),
            bats.LIFLayer(None, 40, max_n_spike=6, name="hidden", **neuron),
            bats.LIFLayer(None, 5, max_n_spike=6, name="output", **neuron),
        ]
        network = bats.Network(layers, device=self.device, dtype="float32", seed=0)
        step = Step(network, bats.SpikeCountClassLoss(5, 1), source, 7, 0.3, bats.AdamOptimizer(0.003), graph=graph)
        for _ in range(6):
            step.start(np.arange(len(source)))
            while step.train_next():
                pass
        self.assertGreater(step.metrics()["layers"]["output"]["spikes_per_sample"], 1)
        return [to_numpy(layer.weights).tobytes() for layer in network.trainable_layers]

    def test_same_bits_twice_and_without_a_graph(self):
        rng = np.random.default_rng(0)
        source = LatencyImages(rng.integers(0, 256, (30, 13, 12)).astype(np.uint8), rng.integers(0, 5, 30))
        first = self.run_steps("auto", source)
        self.assertEqual(first, self.run_steps("auto", source))
        self.assertEqual(first, self.run_steps(False, source))


class Parts(Cuda):
    def gradients(self, plain=None, regularized=None):
        """Gradients of a network in which the layer named `plain` uses the general kernels, and `regularized` has a regularizer."""
        rng = np.random.default_rng(3)
        neuron = {"tau_s": 0.1, "theta": 0.02, "delta_theta": 0.02}

        def regularizer(name):
            return {"regularizer": bats.SpikeRateRegularizer(0.2, 0.5, 1.0)} if name == regularized else {}

        layers = [
            bats.ConvInputLayer((9, 8, 2), "input"),
            bats.ConvLIFLayer(None, (3, 2, 5), max_n_spike=3, name="conv_1", **neuron, **regularizer("conv_1")),
            bats.PoolingLayer(None, "pool", window=(2, 3)),  # leaves columns out
            bats.ConvLIFLayer(None, (2, 2, 6), max_n_spike=3, name="conv_2", **neuron),
            bats.LIFLayer(None, 40, max_n_spike=6, name="hidden", **neuron, **regularizer("hidden")),
            bats.LIFLayer(None, 5, max_n_spike=6, name="output", **neuron),
        ]
        network = bats.Network(layers, device=self.device, dtype="float64", seed=1)
        for layer in network.trainable_layers:
            layer._fast.enabled = plain not in ("all", layer.name)
        times, counts = random_trains(rng, 4, layers[0].n_neurons, 2, 0.25)
        out, _ = network.forward(times, counts, 0.3, training=True)
        errors = np.random.default_rng(4).normal(size=out.shape)
        return [to_numpy(gradient).copy() for gradient in network.backward(self.array(errors, np.float64)) if gradient is not None]

    def test_layers_that_take_no_parts(self):
        """Errors that a layer leaves in parts reach layers with general kernels, and those with a regularizer."""
        for regularized in (None, "conv_1", "hidden"):
            expected = self.gradients("all", regularized)
            for plain in (None, "conv_1", "conv_2", "hidden", "output"):
                with self.subTest(regularized=regularized, plain=plain):
                    for a, b in zip(self.gradients(plain, regularized), expected, strict=True):
                        self.assertGreater(np.abs(b).max(), 0)
                        np.testing.assert_allclose(a, b, atol=1e-9 * np.abs(b).max())


class SpikeLists(Cuda):
    def network(self):
        neuron = {"tau_s": 0.1, "theta": 0.02, "delta_theta": 0.02}
        layers = [
            bats.ConvInputLayer((9, 8, 2), "input"),
            bats.ConvLIFLayer(None, (3, 2, 5), max_n_spike=3, name="conv_1", **neuron),
            bats.PoolingLayer(None, "pool", window=(2, 3)),  # leaves columns out
            bats.ConvLIFLayer(None, (2, 2, 6), max_n_spike=3, name="conv_2", **neuron),
            bats.LIFLayer(None, 40, max_n_spike=6, name="hidden", **neuron),
            bats.LIFLayer(None, 35, max_n_spike=6, name="output", **neuron),
        ]
        network = bats.Network(layers, device=self.device, dtype="float32", seed=1)
        return network, random_trains(np.random.default_rng(3), 4, layers[0].n_neurons, 2, 0.25)

    def forward(self, t_max=0.3, before=lambda network, trains: None):
        """Event lists of all layers (NumPy, up to their counts) and the network, after a pass that `before` precedes."""
        network, trains = self.network()
        before(network, trains)
        network.forward(*trains, t_max, training=True)
        found = []
        for layer in network.layers[1:]:
            counts = to_numpy(layer.events.counts)
            for name in ("times", "neurons", "positions"):
                found += [row[:n] for row, n in zip(to_numpy(getattr(layer.events, name)), counts, strict=True)]
        return found, network

    def assert_same(self, found, expected):
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(a, b)

    def test_sorted_layers_use_them(self):
        with mock.patch.object(FastPath, "_room_for_spikes", lambda *_: None):
            expected, _ = self.forward()
        found, network = self.forward()
        self.assert_same(found, expected)
        for layer in network.trainable_layers:
            self.assertEqual(layer.spike_list is not None, layer.name != "output", layer)
            if layer.spike_list is not None:
                self.assertFalse(layer.spike_list.filled)
                self.assertGreater(int((to_numpy(layer.spike_list.times) > 0).sum()), 10)

    def test_passes_that_no_sort_follows(self):
        """Their spikes are gone at the next pass, also where that one fills no list."""

        def broken_off(network, trains):
            network.forward(*trains, 0.3)
            with mock.patch.object(ops, "bucket_sort", mock.Mock(side_effect=KeyboardInterrupt)):
                for _ in range(2):
                    with self.assertRaises(KeyboardInterrupt):
                        network.forward(*trains, 0.3)
            first = network.layers[1]
            self.assertTrue(first.spike_list.filled)
            self.assertLessEqual(int(first.spike_list.counts.max()), first.n_neurons * first.max_n_spike)
            np.testing.assert_array_equal(to_numpy(first.spike_list.counts), to_numpy(first.trains[1]).sum(axis=1))

        for t_max in (0.3, np.inf):
            with self.subTest(t_max=t_max):
                self.assert_same(self.forward(t_max, broken_off)[0], self.forward(t_max)[0])

    def test_replay_after_a_pass_that_no_sort_follows(self):
        rng = np.random.default_rng(5)
        source = LatencyImages(rng.integers(0, 256, (7, 144)).astype(np.uint8), rng.integers(0, 5, 7))
        trains = random_trains(rng, 4, 144, 1, 0.25)
        weights = []
        for broken_off in (False, True):
            network, _ = self.network()
            step = Step(network, bats.SpikeCountClassLoss(5, 1), source, 7, 0.3, bats.AdamOptimizer(0.003))
            for k in range(5):
                step.train(np.arange(7))
                if broken_off and k == 3:
                    with mock.patch.object(ops, "bucket_sort", mock.Mock(side_effect=KeyboardInterrupt)):
                        with self.assertRaises(KeyboardInterrupt):
                            network.forward(*trains, 0.3, training=True)
                    self.assertTrue(network.layers[1].spike_list.filled)
            weights.append([to_numpy(layer.weights) for layer in network.trainable_layers])
        self.assert_same(*weights)


del test_conv_against_oracle, test_networks_against_oracle  # else their classes would run here again

if __name__ == "__main__":
    unittest.main()
