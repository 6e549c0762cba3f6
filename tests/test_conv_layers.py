"""Convolutional and pooling layers as users handle them: shapes, weights, files, errors, status, training, captured steps."""

import tempfile
from pathlib import Path

import numpy as np

import bats
from bats.device import to_numpy
from bats.ops.conv_geometry import convolve, pool
from bats.sources import LatencyImages
from bats.step import Step
from bats.training import Trainer
from bats.training.evaluation import network_weights
from tests.devices import Cpu, Cuda

NEURON = {"tau_s": 0.13, "delta_theta": 0.1}


def layers(**options):
    return [
        bats.ConvInputLayer((9, 8, 1), name="input"),
        bats.ConvLIFLayer(None, (3, 3, 4), theta=0.05, max_n_spike=2, name="conv", **NEURON, **options),
        bats.PoolingLayer(None, name="pool"),
        bats.LIFLayer(None, 4, theta=0.2, max_n_spike=10, name="output", **NEURON),
    ]


class Checks:
    def network(self, seed=3, dtype="float32", **options):
        return bats.Network(layers(**options), device=self.device, dtype=dtype, seed=seed)

    def source(self, n=150):
        rng = np.random.default_rng(0)
        images, labels = rng.integers(0, 256, (n, 9, 8)) * (rng.random((n, 9, 8)) < 0.5), rng.integers(0, 4, n)
        return LatencyImages(images.astype(np.uint8), labels)

    # ------------------------------------------------------------------------------------------------------------------
    def test_building(self):
        network = self.network()
        shapes = [layer.neurons_shape for layer in network.layers]
        self.assertEqual(shapes, [(9, 8, 1), (7, 6, 4), (3, 3, 4), None])
        self.assertEqual([layer.n_neurons for layer in network.layers], [72, 168, 36, 4])
        self.assertEqual([layer.trainable for layer in network.layers], [False, True, False, True])
        self.assertEqual(network.layers[1].weights.shape, (4, 3, 3, 1))
        self.assertEqual(network.layers[2].max_n_spike, 8)
        source = bats.ConvInputLayer(np.array([28, 28, 1]), "input")  # shapes as arrays, as in scripts for the 2022 code
        first = bats.ConvLIFLayer(source, np.array([5, 5, 15]), 0.13, 0.04, 0.04, stride=(2, 1), padding=1)
        self.assertEqual((first.neurons_shape, first.n_neurons), ((13, 26, 15), 13 * 26 * 15))
        self.assertEqual(bats.PoolingLayer(first, "pool", window=(3, 2)).neurons_shape, (4, 13, 15))

    def test_wrong_parameters(self):
        grid, conv = bats.ConvInputLayer((6, 5, 1)), dict(tau_s=0.1, theta=0.1, delta_theta=0.1)  # noqa: C408
        for error, make, message in (
            (ValueError, lambda: bats.ConvInputLayer((6, 5)), r"neurons_shape: expected 3 integers .* received \(6, 5\)"),
            (ValueError, lambda: bats.ConvInputLayer((6, 0, 1)), r"neurons_shape: .* received \(6, 0, 1\)"),
            (TypeError, lambda: bats.ConvInputLayer(30), "neurons_shape: expected 3 integers, received 30"),
            (TypeError, lambda: bats.ConvInputLayer((6.0, 5, 1)), "neurons_shape: expected 3 integers"),
            (TypeError, lambda: bats.ConvLIFLayer(grid, None, **conv), "filters_shape: expected 3 integers, received None"),
            (ValueError, lambda: bats.ConvLIFLayer(grid, (7, 2, 3), **conv), "at most 6 x 5, the padded grid, received 7 x 2"),
            (ValueError, lambda: bats.ConvLIFLayer(grid, (2, 2, 3), **conv, stride=0), "stride: expected at least 1, received 0"),
            (ValueError, lambda: bats.ConvLIFLayer(grid, (2, 2, 3), **conv, padding=(0, -1)), "padding: expected at least 0"),
            (TypeError, lambda: bats.ConvLIFLayer(grid, (2, 2, 3), **conv, stride=(1, 1, 1)), "stride: expected an integer or a pair"),
            (TypeError, lambda: bats.ConvLIFLayer(grid, (2, 2, 3), **conv, padding=0.5), "padding: .* received 0.5"),
            (ValueError, lambda: bats.ConvLIFLayer(grid, (2, 2, 3), 0.1, -1, 0.1), "theta: expected a finite number > 0, received -1"),
            (ValueError, lambda: bats.PoolingLayer(grid, window=6), "window: expected at most 6 x 5, .* received 6 x 6"),
            (ValueError, lambda: bats.PoolingLayer(grid, window=2, stride=1), "at least the window 2 x 2 .*, received 1 x 1"),
        ):
            with self.subTest(message), self.assertRaisesRegex(error, message):
                make()
        for layer in (bats.ConvLIFLayer(None, (1, 1, 1), **conv, name="late"), bats.PoolingLayer(None, "late")):
            network = bats.Network([bats.InputLayer(5, "input")], device=self.device, seed=0)
            with self.assertRaisesRegex(ValueError, r"layer 'late': expected to follow a layer with neurons_shape .* InputLayer\('input'"):
                network.add_layer(layer)
        network = bats.Network([bats.ConvInputLayer((4, 4, 1)), bats.PoolingLayer(None, "pool")], device=self.device, seed=0)
        with self.assertRaisesRegex(RuntimeError, "no spike trains yet"):
            _ = network.layers[1].spike_trains
        with self.assertRaisesRegex(RuntimeError, r"expected a last layer with weights, received PoolingLayer\('pool'"):
            network.forward(np.zeros((1, 16, 1)), np.ones((1, 16), np.int32))

    def test_geometry(self):
        self.assertTrue(pool((4, 6, 1)).covers_all)
        for grid, window, stride in (((5, 6, 1), 2, None), ((4, 7, 1), 2, None), ((6, 6, 1), 2, 3)):
            self.assertFalse(pool(grid, window, stride).covers_all)
        self.assertEqual(convolve((5, 7, 2), (2, 3, 4), 2, (0, 1)).post_shape, (2, 4, 4))

    def test_initializers(self):
        given = np.arange(4 * 3 * 3, dtype=float).reshape(4, 3, 3, 1)
        for initializer in (lambda shape, generator: given, lambda n_post, x, y, n_pre: given):
            network = self.network(weight_initializer=initializer)
            np.testing.assert_array_equal(to_numpy(network.layers[1].weights), given)
        weights = to_numpy(self.network().layers[1].weights)
        self.assertTrue((np.abs(weights) <= 1).all() and len(np.unique(weights)) == weights.size)
        with self.assertRaisesRegex(ValueError, r"layer 'conv': expected shape \(4, 3, 3, 1\), received \(4, 9\)"):
            self.network(weight_initializer=lambda shape, generator: np.zeros((4, 9)))

    def test_weights_and_deltas(self):
        network = self.network()
        layer = network.layers[1]
        values = np.random.default_rng(0).normal(size=(4, 3, 3, 1)).astype(np.float32)
        layer.weights = values
        np.testing.assert_array_equal(to_numpy(layer.weights), values)
        layer.weights[1, 2, 0, 0] = 7  # a view
        self.assertEqual(float(layer.weights[1, 2, 0, 0]), 7)
        network.apply_deltas([None, np.ones_like(values), None, None])
        self.assertEqual(float(layer.weights[1, 2, 0, 0]), 8)
        with self.assertRaisesRegex(ValueError, r"weights of layer 'conv': expected shape \(4, 3, 3, 1\), received \(4, 9\)"):
            layer.weights = np.zeros((4, 9))
        with self.assertRaisesRegex(ValueError, "expected None for PoolingLayer"):
            network.apply_deltas([None, None, values, None])

    def test_files_of_the_2022_code(self):
        """<layer name>_weights.npy, float32, [C_out, FX, FY, C_in]; a pooling layer has none."""
        rng = np.random.default_rng(0)
        with tempfile.TemporaryDirectory() as folder:
            conv, output = rng.normal(size=(4, 3, 3, 1)), rng.normal(size=(4, 36))
            for name, array in (("conv", conv), ("output", output)):
                np.save(Path(folder) / f"{name}_weights.npy", array.astype(np.float32))
            network = self.network()
            network.restore(folder)
            np.testing.assert_array_equal(to_numpy(network.layers[1].weights), conv.astype(np.float32))
            network.store(folder)
            self.assertEqual(sorted(file.name for file in Path(folder).iterdir()), ["conv_weights.npy", "output_weights.npy"])
            other = self.network(seed=4)
            other.restore(folder)
            np.testing.assert_array_equal(to_numpy(other.layers[1].weights), to_numpy(network.layers[1].weights))
            np.save(Path(folder) / "conv_weights.npy", conv.reshape(4, 9))
            with self.assertRaisesRegex(ValueError, r"layer 'conv': expected shape \(4, 3, 3, 1\), .* holds \(4, 9\)"):
                network.restore(folder)

    # ------------------------------------------------------------------------------------------------------------------
    def trained(self, batch_size=32, graph="auto", dtype="float32", epochs=2):
        """One Step over the source's batches, the last one smaller, from the same start."""
        network = self.network(dtype=dtype)
        step = Step(network, bats.SpikeCountClassLoss(8, 1), self.source(), batch_size, 0.3, bats.AdamOptimizer(0.01), graph)
        for epoch in range(epochs):
            step.start(np.random.default_rng(epoch).permutation(150))
            while step.train_next():
                pass
        return step

    def test_training(self):
        step = self.trained(epochs=1)
        before = step.metrics()
        self.assertEqual(list(before["layers"]), ["conv", "output"])
        step.reset_metrics()
        for _ in range(30):
            step.start(np.arange(150))
            while step.train_next():
                pass
        self.assertLess(step.metrics()["loss"], 0.7 * before["loss"])
        self.assertEqual(set(step.network.status()), {"conv", "output"})

    def test_same_bits_every_time(self):
        for name, weights in network_weights(self.trained().network).items():
            self.assertEqual(weights.tobytes(), network_weights(self.trained().network)[name].tobytes())

    def test_step_by_hand(self):
        """Step does what forward, loss, backward and optimizer do one by one."""
        step, network, optimizer = self.trained(epochs=0), self.network(), bats.AdamOptimizer(0.01)
        loss, source = bats.SpikeCountClassLoss(8, 1), self.source()
        step.start(np.arange(40))
        for batch in (np.arange(32), np.arange(32, 40)):
            step.train_next()
            pixels = source.images[batch]
            latencies = (0.1 * (1 - np.arange(256) / 255)).astype(np.float32)
            times = np.where(pixels > 0, latencies[pixels], np.inf)[..., None]
            times, counts = network.forward(times, (pixels > 0).astype(np.int32), 0.3, training=True)
            _, errors = loss.compute_loss_and_errors(times, counts, source.labels[batch])
            network.apply_deltas(optimizer.step(network.backward(errors)))
        for name, weights in network_weights(step.network).items():
            self.assertEqual(weights.tobytes(), network_weights(network)[name].tobytes(), name)

    def test_resumed_training(self):
        """Another Trainer, with other initial weights, goes on from a checkpoint to the same bits; the images are deformed."""
        def trainer(seed, folder):
            return Trainer(self.network(seed=seed), bats.SpikeCountClassLoss(8, 1), bats.AdamOptimizer(0.01), batch_size=32,
                           max_simulation=0.3, run_folder=folder, progress=False, on_failure="ignore")  # fmt: skip

        plain = self.source()
        source = bats.augmentation.ElasticImages(plain.images.reshape(-1, 9, 8), plain.labels, seed=5)
        with tempfile.TemporaryDirectory() as folder:
            whole = trainer(3, None)
            whole.fit(source, plain, 3)
            trainer(3, folder).fit(source, plain, 1)
            resumed = trainer(9, folder)
            resumed.resume(folder)
            resumed.fit(source, plain, 3)
        for name, weights in network_weights(whole.network).items():
            self.assertEqual(weights.tobytes(), network_weights(resumed.network)[name].tobytes())
        self.assertEqual(whole.history[-1]["test_loss"], resumed.history[-1]["test_loss"])

    def test_silent_neurons_learn_nothing_and_are_counted(self):
        network = self.network(weight_initializer=lambda shape, generator: -np.ones(shape))
        times, counts = np.random.default_rng(0).uniform(0, 0.1, (5, 72, 1)), np.ones((5, 72), np.int32)
        network.forward(times, counts, training=True)
        gradients = network.backward(np.zeros(network.output_spike_trains[0].shape))
        self.assertEqual(float(np.abs(to_numpy(gradients[1])).max()), 0)
        self.assertEqual(network.status()["conv"]["silent"], 5 * 168)

    def test_nan_weights_never_spike_and_are_counted(self):
        network = self.network(dtype="float64")
        network.layers[1].weights[2, 1, 1, 0] = np.nan
        times, counts = np.full((5, 72, 1), 0.01), np.ones((5, 72), np.int32)  # at once: nothing can come before
        network.forward(times, counts)
        spikes = to_numpy(network.layers[1].spike_trains[1]).reshape(5, 42, 4).sum(axis=(0, 1))
        self.assertEqual(spikes[2], 0)
        self.assertGreater(spikes[[0, 1, 3]].sum(), 0)
        self.assertEqual(network.status()["conv"]["non_finite"], 5 * 42)


class OnCpu(Checks, Cpu):
    pass


class OnCuda(Checks, Cuda):
    def test_a_captured_step_has_the_same_bits(self):
        plain, captured = self.trained(graph=False), self.trained(graph=True)
        for name, weights in network_weights(plain.network).items():
            self.assertEqual(weights.tobytes(), network_weights(captured.network)[name].tobytes())
        self.assertEqual(plain.metrics(), captured.metrics())

    def test_a_graph_notices_new_workspaces(self):
        """A larger batch replaces the workspaces that an earlier step captured: it is captured anew."""
        step, plain = self.trained(graph=True), self.trained(graph=False)
        for each in (step, plain):
            Step(each.network, each.loss, self.source(), 100, 0.3).evaluate(np.arange(100))
            each.start(np.arange(150))
            while each.train_next():
                pass
        for name, weights in network_weights(plain.network).items():
            self.assertEqual(weights.tobytes(), network_weights(step.network)[name].tobytes())

    def test_both_devices_agree(self):
        networks = {device: bats.Network(layers(), device=device, dtype="float64", seed=1) for device in ("cpu", "cuda")}
        rng = np.random.default_rng(2)
        times, counts = np.sort(rng.uniform(0, 0.1, (21, 72, 2)), axis=2), np.full((21, 72), 2, np.int32)
        found = {}
        for device, network in networks.items():
            network.forward(times, counts, 0.3, training=True)
            gradients = network.backward(np.ones(network.output_spike_trains[0].shape), input_errors=True)
            found[device] = [to_numpy(array) for array in (*network.layers[2].spike_trains, *gradients[1::2], network.input_errors)]
        for one, two in zip(*found.values(), strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-8, atol=1e-10)
