"""Layers in time steps as users handle them: parameters, errors, status, files, the Trainer, resumed runs."""

import os
import signal
import tempfile
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from unittest import mock

import numpy as np

import bats
from bats import timestep
from bats.device import to_numpy
from bats.evaluation.report import Evaluation
from bats.step import Step
from bats.timestep import FastLIFLayer, FastSigmoid, MaxMembraneCrossEntropy, MembraneReadout, StandardLIFLayer, SteppedInputLayer, Waves
from bats.training import Trainer
from bats.training.evaluation import copy_weights, evaluate_readout, network_weights, sample_spikes
from bats.training.history import WALL_TIMES
from tests.devices import Cpu, Cuda
from tests.timestep.waves_source import two_classes


def press_ctrl_c(made, calls):
    """Notes a batch; interrupts the run at number `calls`."""
    made.append(1)
    if len(made) == calls:
        os.kill(os.getpid(), signal.SIGINT)


class Checks:
    def network(self, kind=FastLIFLayer, seed=1, dtype="float32", learned=True):
        options = {"learned_filter": learned} if kind is FastLIFLayer else {}
        slope = FastSigmoid(10)
        layers = [
            SteppedInputLayer(20, 15),
            kind(None, 12, surrogate=slope, name="first", **options),
            kind(None, 12, skip=True, surrogate=slope, name="second", **options),
            MembraneReadout(None, 2, learned_filter=learned, name="output"),
        ]
        return bats.Network(layers, device=self.device, dtype=dtype, seed=seed)

    def trainer(self, folder=None, kind=FastLIFLayer):
        return Trainer(
            self.network(kind), MaxMembraneCrossEntropy(), bats.AdamOptimizer(0.02), batch_size=16, max_simulation=0.015,
            run_folder=folder, progress=False,
        )  # fmt: skip

    def folder(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return Path(folder.name)

    # ------------------------------------------------------------------------------------------------------------------
    def test_parameters(self):
        network = self.network()
        names = [sorted(layer.parameters) for layer in network.layers]
        self.assertEqual(names, [[], *[["bias", "filter", "weights"]] * 3])
        first = network.layers[1]
        self.assertEqual((first.weights.shape, first.bias.shape, first.filter.shape), ((12, 20), (12,), (15,)))
        np.testing.assert_allclose(to_numpy(first.filter), first.beta ** np.arange(15), rtol=1e-6)
        self.assertLessEqual(np.abs(to_numpy(first.weights)).max(), 20**-0.5)
        self.assertGreater(np.abs(to_numpy(first.weights)).max(), 0.9 * 20**-0.5)
        first.bias = np.arange(12)
        self.assertEqual(to_numpy(first.bias).tolist(), list(range(12)))
        plain = StandardLIFLayer(None, 3, bias=None, name="plain")
        with self.assertRaisesRegex(RuntimeError, "expected it to be part of a Network before its weights are set"):
            plain.weights = np.zeros((3, 20))
        bats.Network([SteppedInputLayer(20, 15), plain], device=self.device)
        self.assertEqual(list(plain.parameters), ["weights"])
        for error, change, message in (
            (ValueError, ("bias", np.zeros(3)), "made with bias=None"),
            (ValueError, ("filter", np.zeros(15)), "made with learned_filter=False"),
            (ValueError, ("weights", np.zeros((20, 3))), r"weights of layer 'plain': expected shape \(3, 20\), received \(20, 3\)"),
        ):
            with self.subTest(message), self.assertRaisesRegex(error, message):
                setattr(plain, *change)

    def test_wrong_parameters(self):
        for error, make, message in (
            (ValueError, lambda: SteppedInputLayer(3, 0), "n_steps: expected at least 1, received 0"),
            (TypeError, lambda: SteppedInputLayer(3, 2.0), "n_steps: expected an integer, received 2.0"),
            (ValueError, lambda: StandardLIFLayer(None, 3, tau=0.0), "tau: expected a finite number > 0, received 0.0"),
            (TypeError, lambda: StandardLIFLayer(None, 3, dt="1 ms"), "dt: expected a number, received '1 ms'"),
            (TypeError, lambda: FastLIFLayer(None, 3, bias="no"), "bias: expected a finite number or None, received 'no'"),
            (ValueError, lambda: FastLIFLayer(None, 3, threshold=-1), "threshold: expected a finite number > 0"),
            (TypeError, lambda: FastLIFLayer(None, 3, surrogate=100), "surrogate: expected FastSigmoid, ArcTan or Sigmoid, received 100"),
            (ValueError, lambda: timestep.ArcTan(0), "slope: expected a finite number > 0, received 0"),
        ):
            with self.subTest(message), self.assertRaisesRegex(error, message):
                make()

    def test_wrong_networks(self):
        def network(*layers, first=None):
            network = bats.Network([first or SteppedInputLayer(20, 15), *layers], device=self.device)
            return network.forward(np.zeros((1, 15, 20)))

        spiking = bats.LIFLayer(None, 3, 0.1, 0.1, 0.1)
        for error, layers, message in (
            (TypeError, [spiking], "expected a further layer of bats.timestep, received LIFLayer"),
            (ValueError, [StandardLIFLayer(None, 3, skip=True)], "expected a spiking layer before a skip connection"),
            (ValueError, [FastLIFLayer(None, 4), FastLIFLayer(None, 3, skip=True)], "expected as many neurons as before.*: 4, received 3"),
            (ValueError, [FastLIFLayer(None, 4), MembraneReadout(None, 3, dt=0.002)], "expected dt 0.001 s, .* received 0.002 s"),
            (RuntimeError, [FastLIFLayer(None, 4)], "expected a MembraneReadout as the last layer, received FastLIFLayer"),
        ):
            with self.subTest(message), self.assertRaisesRegex(error, message):
                network(*layers)
        with self.assertRaisesRegex(TypeError, "expected a further event-based layer, received StandardLIFLayer"):
            network(StandardLIFLayer(None, 3), first=bats.InputLayer(20))

    def test_wrong_input(self):
        network = self.network()
        waves = np.zeros((2, 15, 20))
        for error, given, message in (
            (ValueError, waves[:, :14], r"waves: expected shape \[batch, 15, 20\], received \(2, 14, 20\)"),
            (ValueError, waves[0], r"received \(15, 20\)"),
            (TypeError, waves.astype(complex), "waves: expected numbers, received dtype complex128"),
            (ValueError, waves + np.nan, "waves: expected finite numbers"),
        ):
            with self.subTest(message), self.assertRaisesRegex(error, message):
                network.forward(given)
        with self.assertRaisesRegex(RuntimeError, "expected a forward pass with training=True"):
            network.backward(np.zeros((2, 2)))
        logits = network.forward(waves, training=True)
        with self.assertRaisesRegex(ValueError, r"expected errors of shape \(2, 2\), received \(2, 3\)"):
            network.backward(np.zeros((2, 3)))
        loss = MaxMembraneCrossEntropy()
        with self.assertRaisesRegex(ValueError, "labels: expected classes from 0 to 1, received 0 to 2"):
            loss.compute_loss(logits, np.array([0, 2]))
        with self.assertRaisesRegex(ValueError, "source: expected 14 time steps, as the network has, received 15"):
            short = bats.Network([SteppedInputLayer(20, 14), MembraneReadout(None, 2)], device=self.device)
            Step(short, loss, two_classes(3), 2, 0.015)

    def test_input_kinds(self):
        """Any numbers are taken; the promise of small integers is made only where it holds."""
        network, rng = self.network(), np.random.default_rng(0)
        for waves, small in ((rng.random((2, 15, 20)), False), (rng.random((2, 15, 20)) < 0.5, True), (np.full((2, 15, 20), 300), False),
                             (np.full((2, 15, 20), 256), True), (np.full((2, 15, 20), -1), False)):  # fmt: skip
            network.forward(waves)
            self.assertEqual(network.input_layer.events.small_integers, small)
        given = Waves(network.xp.ones((2, 15, 20), dtype=np.float32))
        network.forward(given)
        self.assertFalse(network.input_layer.events.small_integers)

    def test_status_and_spike_trains(self):
        network = self.network(StandardLIFLayer, learned=False)
        network.layers[1].bias = np.full(12, 0.3)
        waves = np.random.default_rng(0).random((3, 15, 20)) < 0.3
        network.forward(waves)
        network.allocate(10)  # a larger workspace keeps the totals
        network.forward(waves)
        status, first = network.status(), network.layers[1]
        counts = to_numpy(first.spike_counts)
        self.assertGreater(counts.max(), 1)
        expected = {"spikes": 2 * counts.sum(), "silent": 2 * (counts == 0).sum(), "samples": 6}
        self.assertEqual(status["first"], {**expected, "overflow": 0, "non_finite": 0, "bounded": 0})
        self.assertEqual(status["output"]["silent"], 0)
        for layer, expected in ((network.layers[0], waves), (first, to_numpy(first.events.array))):
            times, counts = (to_numpy(array) for array in layer.spike_trains)
            np.testing.assert_array_equal(counts, expected.sum(axis=1))
            grid = np.zeros(expected.shape)
            for b, n, k in zip(*np.nonzero(np.isfinite(times)), strict=True):
                grid[b, round(float(times[b, n, k] / 0.001)), n] += 1
            np.testing.assert_array_equal(grid, expected)
        network.reset_status()
        first.weights = np.full((12, 20), np.inf)
        network.forward(np.ones((3, 15, 20)))
        self.assertEqual(network.status()["first"]["non_finite"], 36)

    def test_tf32(self):
        """Within 2^-16 of the terms' absolute sums, for spikes and other numbers; gradients within 1e-4 of the largest one, as the
        surrogate makes more of a membrane's error. On CUDA it is another product, on the CPU the same."""
        rng = np.random.default_rng(5)
        errors = rng.normal(size=(6, 40, 70))
        for waves in ((rng.random((6, 40, 130)) < 0.1).astype(np.float32), rng.normal(0.05, 0.3, (6, 40, 130)).astype(np.float32)):
            found = []
            for dtype, tf32 in (("float64", False), ("float32", False), ("float32", True)):
                layers = [
                    SteppedInputLayer(130, 40),
                    FastLIFLayer(None, 70, surrogate=FastSigmoid(2), weight_initializer=bats.initializers.fan_in_uniform(-3, 3), tf32=tf32),
                    MembraneReadout(None, 3, tf32=tf32),
                ]
                network = bats.Network(layers, device=self.device, dtype=dtype, seed=4)
                network.forward(waves, training=True)
                hidden = layers[1]
                size = np.abs(to_numpy(hidden.weights)) @ np.abs(waves).sum(axis=1).T
                membrane, steps = to_numpy(hidden.membrane).copy(), to_numpy(hidden._now("step")).copy()
                passed, events = self.array(errors.copy(), dtype), layers[0].events
                hidden.backward(passed, events)
                found.append((membrane, steps, to_numpy(hidden.gradient).copy()))
            exact, plain, short = found
            self.assertTrue(((0 < exact[1]) & (exact[1] < 40)).any())
            np.testing.assert_array_equal(exact[1], short[1])
            self.assertTrue((np.abs(short[0] - exact[0]).max(axis=1) <= 2.0**-16 * size.T).all())
            self.assertLess(np.abs(short[2] - exact[2]).max(), 1e-4 * np.abs(exact[2]).max())
            self.assertEqual(np.array_equal(short[0], plain[0]), self.device == "cpu")

    def test_memory(self):
        """At most three arrays of currents beside inputs, weights and gradients, partial sums of the products included."""
        for kind in (StandardLIFLayer, FastLIFLayer):
            layer = kind(None, 200)
            bats.Network([SteppedInputLayer(1000, 128), layer], device=self.device, seed=0)
            layer.allocate(128)
            held = [*vars(layer._space).values(), layer._product_scratch, layer._filter_scratch]
            self.assertLess(sum(array.nbytes for array in held if array is not None), 3 * layer._space.membrane.nbytes)

    def test_store_and_restore(self):
        folder, network, other = self.folder(), self.network(seed=1), self.network(seed=2)
        for layer in network.layers[1:]:
            layer.bias = np.random.default_rng(0).normal(size=layer.n_neurons)
            layer.filter = np.random.default_rng(1).normal(size=15)
        network.store(folder)
        self.assertEqual(len(list(folder.iterdir())), 9)
        other.restore(folder)
        copied = self.network(seed=3)
        copy_weights(network, copied)
        for name, array in network_weights(network).items():
            np.testing.assert_array_equal(network_weights(other)[name], array)
            np.testing.assert_array_equal(network_weights(copied)[name], array)
        (folder / "second_bias.npy").unlink()
        with self.assertRaisesRegex(FileNotFoundError, "bias of layer 'second': expected the file .*second_bias.npy"):
            other.restore(folder)

    def test_prediction(self):
        loss = MaxMembraneCrossEntropy()
        logits = self.array([[1, 3, 3], [-5, -7, -6], [np.nan, np.nan, np.nan], [np.nan, -1, -2]], np.float64)
        self.assertEqual(to_numpy(loss.predict(logits)).tolist(), [1, 0, -1, 1])
        value, errors = loss.compute_loss_and_errors(self.array([[1000.0, 0.0]], np.float32), np.array([1]))
        self.assertEqual((to_numpy(value).tolist(), to_numpy(errors).tolist()), ([1000.0], [[1.0, -1.0]]))

    def test_evaluation_report(self):
        """Sparsity of the layers that spike; no latency, as the answer is no spike."""
        network, source, loss, folder = self.network(), two_classes(30), MaxMembraneCrossEntropy(), self.folder()
        evaluation = Evaluation(network, loss, source.labels, ["left", "right"], 0.015)
        metrics = evaluate_readout(network, loss, source, 16, 0.015, evaluation.observe)
        figures = evaluation.write(folder, metrics["predictions"], "title")
        self.assertEqual(list(figures["sparsity"]), ["first", "second"])
        self.assertIsNone(figures["median_decision_seconds"])
        names = sorted(path.name for path in folder.iterdir())
        self.assertEqual(names, ["per_class.csv", "sparsity.csv", "sparsity.png", "spikes_per_neuron.csv"])

    # ------------------------------------------------------------------------------------------------------------------
    def test_training_learns_and_a_captured_step_is_the_plain_one(self):
        source = two_classes(200)
        for kind in (StandardLIFLayer, FastLIFLayer):
            runs = []
            for graph in (False, "auto"):
                network, optimizer = self.network(kind), bats.AdamOptimizer(0.02)
                step = Step(network, MaxMembraneCrossEntropy(), source, 32, 0.015, optimizer, graph=graph)
                for _ in range(5):
                    step.reset_metrics()
                    step.start(np.arange(200))
                    while step.train_next():
                        pass
                runs.append((step.metrics(), {name: array.tobytes() for name, array in network_weights(network).items()}))
            self.assertEqual(*runs)
            self.assertGreater(runs[0][0]["accuracy"], 0.85, kind)
            before = network_weights(self.network(kind))
            self.assertTrue(all((array != before[name]).any() for name, array in network_weights(network).items()))

    def test_a_resumed_run_is_the_whole_run(self):
        """Stopped in the middle of an epoch; with a run that differs as the negative control."""
        source, test, folder = two_classes(70), two_classes(30, seed=1), self.folder()
        stopped = self.trainer(folder)
        plain, made = Step.train_next, []
        stopping = {"train_next": lambda step, *a, **k: (press_ctrl_c(made, 7), plain(step, *a, **k))[1], "steps_at_once": 1}
        with mock.patch.multiple(Step, **stopping), \
                redirect_stdout(StringIO()), mock.patch("bats.training.plots.metric_curves"):  # fmt: skip
            stopped.fit(source, test, 3)
        self.assertTrue(stopped.interrupted)
        results = []
        for resumes in (True, False):
            trainer = self.trainer()
            if resumes:
                trainer.resume(folder)
                self.assertGreater(trainer.position, 0)
            trainer.fit(source, test, 3)
            rows = [{name: row[name] for name in row if name not in WALL_TIMES} for row in trainer.history]
            results.append(({name: array.tobytes() for name, array in network_weights(trainer.network).items()}, rows))
        self.assertEqual(*results)
        self.assertNotEqual(results[0][0]["first.filter"], network_weights(stopped.network)["first.filter"].tobytes())
        other = self.trainer(kind=StandardLIFLayer)
        with self.assertRaisesRegex(ValueError, "expected StandardLIFLayer, received FastLIFLayer"):
            other.resume(folder)
        trains, prediction = sample_spikes(trainer.network, MaxMembraneCrossEntropy(), test, 0, 0.015)
        self.assertEqual([name for name, _, _ in trains], ["input", "first", "second", "output"])
        self.assertIn(prediction, (0, 1))


class OnCpu(Checks, Cpu):
    pass


class OnCuda(Checks, Cuda):
    pass
