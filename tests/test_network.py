"""Network and layers as users handle them: building, weights, files, errors, status, and captured steps."""

import tempfile
from pathlib import Path

import numpy as np

import bats
from bats.device import CudaUnavailable, cuda_available, to_numpy
from bats.sources import LatencyImages, SpikeSamples
from bats.step import Step
from tests.devices import Cpu, Cuda


def layers(n_hidden=20, **options):
    return [
        bats.InputLayer(36, name="input"),
        bats.LIFLayer(n_neurons=n_hidden, tau_s=0.13, theta=0.1, delta_theta=0.1, max_n_spike=10, name="hidden", **options),
        bats.LIFLayer(n_neurons=4, tau_s=0.13, theta=0.2, delta_theta=0.2, max_n_spike=10, name="output", **options),
    ]


class Checks:
    def network(self, seed=3, dtype="float32", **options):
        return bats.Network(layers(**options), device=self.device, dtype=dtype, seed=seed)

    def source(self, n=150):
        rng = np.random.default_rng(0)
        images, labels = rng.integers(0, 256, (n, 6, 6)) * (rng.random((n, 6, 6)) < 0.5), rng.integers(0, 4, n)
        return LatencyImages(images.astype(np.uint8), labels)

    def trains(self, batch=5):
        rng = np.random.default_rng(1)
        return rng.uniform(0, 0.1, (batch, 36, 1)), np.ones((batch, 36), np.int32)

    def totals(self, *values):
        return dict(zip(("spikes", "silent", "overflow", "non_finite", "bounded", "samples"), values, strict=True))

    # ------------------------------------------------------------------------------------------------------------------
    def test_building(self):
        network = bats.Network(device=self.device, seed=0)
        first = network.add_layer(bats.InputLayer(36, "input"), input=True)
        second = network.add_layer(bats.LIFLayer(first, 3, 0.1, 0.1, 0.1))
        self.assertEqual((second.name, second.n_neurons, second.weights.shape, second.trainable), ("layer_1", 3, (3, 36), True))
        self.assertIs(second.previous_layer, first)
        for build, message in (
            (lambda: network.add_layer(bats.InputLayer(3, "late")), "expected one input layer only"),
            (lambda: network.add_layer(bats.LIFLayer(first, 3, 0.1, 0.1, 0.1)), "to follow LIFLayer.'layer_1'"),
            (lambda: network.add_layer(second), "of no network yet"),
            (lambda: network.add_layer(bats.LIFLayer(second, 3, 0.1, 0.1, 0.1, name="input")), "received 'input' again"),
            (lambda: bats.Network([bats.LIFLayer(None, 3, 0.1, 0.1, 0.1)], device=self.device), "expected an input layer first"),
            (lambda: bats.LIFLayer(None, 3, -0.1, 0.1, 0.1), "tau_s: expected a finite number > 0, received -0.1"),
            (lambda: bats.LIFLayer(None, 3, 0.1, 0, 0.1), "theta: expected a finite number > 0, received 0.0"),
            (lambda: bats.LIFLayer(None, 3, 0.1, 0.1, float("nan")), "delta_theta: expected a finite number > 0, received nan"),
            (lambda: bats.LIFLayer(None, 0, 0.1, 0.1, 0.1), "n_neurons: expected at least 1, received 0"),
            (lambda: bats.LIFLayer(None, 3, 0.1, 0.1, 0.1, max_n_spike=0), "max_n_spike: expected at least 1"),
            (lambda: bats.Network(device="gpu"), "received 'gpu'"),
            (lambda: bats.Network(device=self.device, seed=-1), "seed: expected an integer >= 0"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                build()
        for build, message in (
            (lambda: bats.LIFLayer(None, 3, None, 0.1, 0.1), "tau_s: expected a number, received None"),
            (lambda: bats.LIFLayer(None, 3.0, 0.1, 0.1, 0.1), "n_neurons: expected an integer, received 3.0"),
            (lambda: bats.LIFLayer("input", 3, 0.1, 0.1, 0.1), "previous_layer: expected a layer or None, received str"),
            (lambda: bats.Network(device=self.device, dtype="float16"), "received 'float16'"),
        ):
            with self.assertRaisesRegex(TypeError, message):
                build()

    def test_seed_fixes_the_weights(self):
        first, again, other = (to_numpy(self.network(seed).layers[1].weights) for seed in (3, 3, 4))
        np.testing.assert_array_equal(first, again)
        self.assertTrue((first != other).any())
        self.assertTrue(first.min() >= -1 and first.max() <= 1)

    def test_initializers(self):
        """f(shape, generator), and the older kind: a function of the two sizes."""

        def older(n_post, n_pre):
            return np.full((n_post, n_pre), n_post + n_pre / 100)

        for initializer, expected in (
            (lambda shape, generator: np.full(shape, 0.5), 0.5),
            (older, 20.36),
            (lambda n_post, n_pre: self.xp.full((n_post, n_pre), 7.0), 7.0),
        ):
            network = bats.Network(layers(weight_initializer=initializer)[:2], device=self.device, seed=0)
            np.testing.assert_allclose(to_numpy(network.layers[1].weights), expected, rtol=1e-6)
        with self.assertRaisesRegex(ValueError, r"layer 'hidden': expected shape \(20, 36\), received \(36, 20\)"):
            bats.Network(layers(weight_initializer=lambda shape, generator: np.zeros(shape[::-1])), device=self.device)

    def test_setting_weights(self):
        layer = self.network().layers[1]
        layer.weights = np.arange(720.0).reshape(20, 36)
        np.testing.assert_array_equal(to_numpy(layer.weights), np.arange(720).reshape(20, 36))
        with self.assertRaisesRegex(ValueError, r"weights of layer 'hidden': expected shape \(20, 36\), received \(36, 20\)"):
            layer.weights = np.zeros((36, 20))
        with self.assertRaisesRegex(TypeError, "expected numbers, received dtype"):
            layer.weights = np.full((20, 36), "a")

    def test_store_and_restore(self):
        with tempfile.TemporaryDirectory() as folder:
            network, other = self.network(), self.network(seed=8)
            network.store(folder)
            self.assertEqual(sorted(path.name for path in Path(folder).iterdir()), ["hidden_weights.npy", "output_weights.npy"])
            self.assertEqual(np.load(Path(folder) / "hidden_weights.npy").shape, (20, 36))
            other.restore(folder)
            for one, two in zip(network.layers[1:], other.layers[1:], strict=True):
                np.testing.assert_array_equal(to_numpy(one.weights), to_numpy(two.weights))

    def test_restore_names_what_is_wrong_and_changes_nothing(self):
        with tempfile.TemporaryDirectory() as folder:
            network, path = self.network(), Path(folder) / "output_weights.npy"
            before = [to_numpy(layer.weights) for layer in network.layers[1:]]
            network.store(folder)
            np.save(Path(folder) / "hidden_weights.npy", np.zeros((20, 36)))
            for spoil, error, message in (
                (lambda: np.save(path, np.zeros((4, 21))), ValueError, r"'output': expected shape \(4, 20\), .*holds \(4, 21\)"),
                (lambda: path.write_bytes(path.read_bytes()[:60]), ValueError, "cannot read .*output_weights.npy"),
                (path.unlink, FileNotFoundError, "layer 'output': expected the file .*output_weights.npy"),
            ):
                spoil()
                with self.assertRaisesRegex(error, message):
                    network.restore(folder)
                for layer, weights in zip(network.layers[1:], before, strict=True):
                    np.testing.assert_array_equal(to_numpy(layer.weights), weights)
            with self.assertRaisesRegex(FileNotFoundError, "expected a directory"):
                network.restore(Path(folder) / "none")

    def test_malformed_spikes(self):
        network = self.network()
        times, counts = self.trains()
        inf, many = np.inf, np.repeat(times, 2, axis=2)

        def changed(array, place, value):
            array = array.copy()
            array[place] = value
            return array

        for bad_times, bad_counts, error, message in (
            (times[:, :, 0], counts, ValueError, r"expected shape \[batch, neurons, slots\], received shape \(5, 36\)"),
            (times[:, :9], counts[:, :9], ValueError, "expected 36 neurons on axis 1, received shape"),
            (times, counts[:4], ValueError, r"spike counts: expected shape \(5, 36\), received \(4, 36\)"),
            (times.astype(int), counts, TypeError, "expected a floating-point array .seconds., received dtype int64"),
            (times, counts.astype(float), TypeError, "spike counts: expected an integer array"),
            (times, counts + 1, ValueError, "expected values from 0 to 1 .*, received 2 to 2"),
            (changed(times, (0, 3), -0.5), counts, ValueError, "expected times >= 0, received -0.5"),
            (changed(times, (0, 3), np.nan), counts, ValueError, "received NaN or inf"),
            (changed(times, (0, 3), inf), counts, ValueError, "received NaN or inf"),
            (times, changed(counts, (0, 3), 0), ValueError, "expected inf in the empty slots"),
            (changed(many, (2, 1, 1), 0), counts * 2, ValueError, r"expected ascending times per neuron, .* \(sample 2, neuron 1\)"),
        ):
            with self.assertRaisesRegex(error, message):
                network.forward(bad_times, bad_counts)
        with self.assertRaisesRegex(ValueError, "max_simulation: expected a time > 0 in seconds, received 0.0"):
            network.forward(times, counts, max_simulation=0)
        with self.assertRaisesRegex(RuntimeError, "expected an input layer and at least one more"):
            bats.Network([bats.InputLayer(3)], device=self.device).forward(times, counts)

    def test_backward_needs_its_forward(self):
        network = self.network()
        times, _ = network.forward(*self.trains())
        with self.assertRaisesRegex(RuntimeError, "forward pass with training=True"):
            network.backward(np.zeros(times.shape))
        network.forward(*self.trains(), training=True)
        with self.assertRaisesRegex(ValueError, r"expected errors of shape \(5, 4, 10\), received \(5, 4\)"):
            network.backward(np.zeros((5, 4)))

    def test_a_notebook_session(self):
        """Forward, loss, backward, step, apply, as the README does it: the loss falls."""
        network, loss, optimizer = self.network(), bats.SpikeCountClassLoss(5, 1), bats.AdamOptimizer(0.01)
        times, counts = self.trains(40)
        labels = np.arange(40) % 4
        values = []
        for _ in range(30):
            out_times, out_counts = network.forward(times, counts, max_simulation=0.3, training=True)
            value, errors = loss.compute_loss_and_errors(out_times, out_counts, labels)
            network.apply_deltas(optimizer.step(network.backward(errors)))
            values.append(float(value.mean()))
        self.assertLess(values[-1], 0.7 * values[0])
        self.assertEqual(network.status()["output"]["samples"], 1200)

    def test_apply_deltas_checks(self):
        network = self.network()
        for deltas, message in (
            ([None], "expected 3 entries, one per layer, received 1"),
            ([None, np.zeros((36, 20)), None], r"expected shape \(20, 36\) .*received \(36, 20\)"),
            ([np.zeros(3), None, None], "expected None for InputLayer"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                network.apply_deltas(deltas)

    def test_empty_batch_and_no_slots(self):
        network = self.network()
        times, counts = network.forward(np.zeros((0, 36, 1)), np.zeros((0, 36), np.int32), training=True)
        self.assertEqual((times.shape, counts.shape), ((0, 4, 10), (0, 4)))
        self.assertFalse(to_numpy(network.backward(np.zeros((0, 4, 10)))[1]).any())
        times, counts = network.forward(np.zeros((2, 36, 0)), np.zeros((2, 36), np.int32))
        self.assertFalse(to_numpy(counts).any())

    def test_input_trains_are_given_back(self):
        network = self.network(dtype="float64")
        rng = np.random.default_rng(2)
        times, counts = np.sort(rng.uniform(0, 1, (3, 36, 4)), axis=2), rng.integers(0, 5, (3, 36)).astype(np.int32)
        times[np.arange(4) >= counts[:, :, None]] = np.inf
        network.forward(times, counts)
        for found, expected in zip(network.layers[0].spike_trains, (times, counts), strict=True):
            np.testing.assert_array_equal(to_numpy(found), expected)

    def test_status(self):
        network = self.network()
        network.reset()
        self.assertEqual(network.status()["hidden"], self.totals(0, 0, 0, 0, 0, 0))
        network.layers[1].weights = np.full((20, 36), 3.0)  # far more spikes than the buffers hold
        network.layers[2].weights = np.full((4, 20), -1.0)  # none at all
        network.forward(*self.trains())
        network.forward(*self.trains())
        status = network.status()
        self.assertEqual(status["hidden"], self.totals(2000, 0, 200, 0, 0, 10))
        self.assertEqual((status["output"]["silent"], status["output"]["spikes"]), (40, 0))
        network.layers[1].weights = np.full((20, 36), np.nan)
        network.reset_status()
        network.forward(*self.trains())
        self.assertEqual(network.status()["hidden"], self.totals(0, 100, 0, 100, 0, 5))

    # ------------------------------------------------------------------------------------------------------------------
    def trained(self, seed=3, **options):
        network = self.network(seed)
        step = Step(network, bats.SpikeCountClassLoss(5, 1), self.source(), 32, 0.3, bats.AdamOptimizer(0.01), **options)
        for epoch in range(2):
            step.start(np.random.default_rng(epoch).permutation(150))
            while step.train_next():
                pass
        return step

    def test_step_same_bits_and_negative_control(self):
        first, again, other = (self.trained(seed) for seed in (3, 3, 4))
        weights = [[to_numpy(layer.weights).tobytes() for layer in step.network.layers[1:]] for step in (first, again, other)]
        self.assertEqual(weights[0], weights[1])
        self.assertNotEqual(weights[0], weights[2])
        self.assertEqual(first.metrics(), again.metrics())
        self.assertEqual(first.metrics()["samples"], 300)

    def test_step_equals_the_public_calls(self):
        """The step trains as forward, loss, backward and optimizer do one by one, bit for bit."""
        network, source = self.network(), self.source()
        step = Step(self.network(), bats.SpikeCountClassLoss(5, 1), source, 32, 0.3, bats.AdamOptimizer(0.01))
        loss, optimizer = bats.SpikeCountClassLoss(5, 1), bats.AdamOptimizer(0.01)
        for start in range(0, 150, 32):
            indices = np.arange(start, min(start + 32, 150))
            step.train(indices)
            pixels = source.images[indices]
            times = np.where(pixels > 0, 0.1 * (1 - pixels / 255), np.inf).astype(np.float32)[:, :, None]
            out = network.forward(times, (pixels > 0).astype(np.int32), 0.3, training=True)
            errors = loss.compute_errors(*out, source.labels[indices])
            network.apply_deltas(optimizer.step(network.backward(errors)))
        for one, two in zip(network.layers[1:], step.network.layers[1:], strict=True):
            np.testing.assert_array_equal(to_numpy(one.weights), to_numpy(two.weights))

    def test_evaluation_changes_nothing_and_counts(self):
        step = self.trained()
        before = [to_numpy(layer.weights) for layer in step.network.layers[1:]]
        step.reset_metrics()
        step.evaluate(np.arange(20))
        predictions = step.predictions
        self.assertEqual(predictions.shape, (20,))
        metrics = step.metrics()
        self.assertAlmostEqual(metrics["accuracy"], (predictions == self.source().labels[:20]).mean())
        for layer, weights in zip(step.network.layers[1:], before, strict=True):
            np.testing.assert_array_equal(to_numpy(layer.weights), weights)

    def test_step_errors(self):
        network, loss = self.network(), bats.SpikeCountClassLoss(5, 1)
        five = LatencyImages(np.zeros((9, 6, 6), np.uint8), np.arange(9) % 5)
        small = SpikeSamples(np.zeros((2, 35, 1)), np.ones((2, 35), int), [0, 1])
        for make, message in (
            (lambda: Step(network, loss, five, 4, 0.3), "expected at most 4 classes, as the network has outputs, received 5"),
            (lambda: Step(network, loss, small, 4, 0.3), "expected 36 inputs, as the network has, received 35"),
            (lambda: Step(network, loss, self.source(), 0, 0.3), "batch_size: expected at least 1"),
            (lambda: Step(network, loss, self.source(), 4, 0.3).evaluate([150]), "expected indices from 0 to 149, received 150"),
            (lambda: Step(network, loss, self.source(), 4, 0.3).evaluate(range(5)), "expected 1 to 4 of them, received 5"),
            (lambda: Step(network, loss, self.source(), 4, 0.3, graph="yes"), "graph: expected True, False or \"auto\""),
            (lambda: LatencyImages(np.zeros((2, 6, 6), np.uint8), [0, -1]), "labels: expected classes from 0"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                make()
        with self.assertRaisesRegex(TypeError, "images: expected dtype uint8 .*, received float64"):
            LatencyImages(np.zeros((2, 6, 6)), [0, 1])
        with self.assertRaisesRegex(RuntimeError, "expected a Step with an optimizer"):
            Step(network, loss, self.source(), 4, 0.3).train([0])

    def test_metrics_state(self):
        step, other = self.trained(), self.trained()
        other.reset_metrics()
        self.assertEqual(other.metrics()["samples"], 0)
        other.load_metrics_state(step.metrics_state())
        self.assertEqual(other.metrics(), step.metrics())


class OnCpu(Checks, Cpu):
    def test_graphs_need_cuda(self):
        with self.assertRaisesRegex(ValueError, "received True: CUDA graphs need CUDA"):
            self.trained(graph=True)

    def test_cuda_that_cannot_be_had_says_why(self):
        if cuda_available():
            self.assertEqual(bats.Network(device="auto").device, "cuda")
            return
        self.assertEqual(bats.Network(device="auto").device, "cpu")
        with self.assertRaisesRegex(CudaUnavailable, "device 'cuda' cannot be used: .*doctor"):
            bats.Network(device="cuda")


class OnCuda(Checks, Cuda):
    def test_a_captured_step_has_the_same_bits(self):
        plain, captured = self.trained(graph=False), self.trained(graph=True)
        for one, two in zip(plain.network.layers[1:], captured.network.layers[1:], strict=True):
            self.assertEqual(to_numpy(one.weights).tobytes(), to_numpy(two.weights).tobytes())
        self.assertEqual(plain.metrics(), captured.metrics())

    def test_a_graph_notices_new_workspaces(self):
        """A larger batch replaces the workspaces that an earlier step captured: it is captured anew."""
        step, plain = self.trained(graph=True), self.trained(graph=False)
        for each in (step, plain):
            Step(each.network, each.loss, self.source(), 100, 0.3).evaluate(np.arange(100))
            each.start(np.arange(150))
            while each.train_next():
                pass
        for one, two in zip(plain.network.layers[1:], step.network.layers[1:], strict=True):
            self.assertEqual(to_numpy(one.weights).tobytes(), to_numpy(two.weights).tobytes())
