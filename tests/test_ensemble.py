"""bats.ensemble: every network of an ensemble does what bats.reference, and what bats.Network, does with it alone."""

import contextlib
import io

import numpy as np

import bats
from bats import reference
from bats.device import to_numpy
from bats.ensemble import Ensemble
from tests.devices import Cpu, Cuda
from tests.oracle import build, difference, rounded
from tests.reference.random_networks import random_trains

MIN_RELATIVE_SLOPE = 0.1  # du/dt in units of theta / tau_s: below, every epoch amplifies the rounding of the one before
LOSSES = {
    "count": (bats.SpikeCountClassLoss(6, 1), lambda s, y: reference.spike_count_class_loss(s.counts, s.times, y, 6, 1)),
    "ttfs": (bats.TTFSSoftmaxCrossEntropy(0.1), lambda s, y: reference.ttfs_softmax_cross_entropy(s.times, y, 0.1)),
}


class Case:
    """A random ensemble with its samples: tau_s 0.5 s, theta 0.3, delta_theta 0.2."""

    def __init__(self, seed, n_networks, n_post, n_pre, batch, n_slots=2, max_n_spike=6, grid=None):
        rng = np.random.default_rng(seed)
        self.times, self.counts = random_trains(rng, batch, n_pre, n_slots, 2.0)
        if grid is not None:
            self.times = np.ceil(self.times / grid) * grid
        self.times, self.weights = rounded(self.times), rounded(rng.uniform(-0.5, 2.0, (n_networks, n_post, n_pre)))
        self.labels = rng.integers(0, n_post, batch)
        self.neuron, self.max_n_spike = (0.5, 0.3, 0.2), max_n_spike

    def ensemble(self, device, dtype="float64", **options):
        return Ensemble(self.weights, *self.neuron, self.max_n_spike, device=device, dtype=dtype, **options)

    def layer(self, r, weights=None):
        return reference.Layer(self.weights[r] if weights is None else weights, *self.neuron, self.max_n_spike)

    def reference_training(self, r, loss, epochs, rate, t_max, dtype=np.float64, origin="moving"):
        """Network r alone by gradient descent -> (losses [epochs, B], predictions, weights, whether no spike grazed)."""
        layer, losses, predictions, smooth = self.layer(r), [], [], True
        for _ in range(epochs):
            trains = reference.forward_network(self.times, self.counts, [layer], t_max, dtype, origin)
            slopes = trains[0].slopes[np.isfinite(trains[0].times)]
            smooth &= (slopes * layer.tau_s > MIN_RELATIVE_SLOPE * layer.theta).all()
            value, errors = LOSSES[loss][1](trains[0], self.labels)
            losses.append(value)
            predictions.append(self.read_out(loss, trains[0]))
            (gradient,), _ = reference.backward_network(errors, self.times, self.counts, [layer], trains)
            layer = self.layer(r, (layer.weights + reference.gradient_descent(gradient, rate)).astype(dtype))
        return np.array(losses), np.array(predictions), layer.weights, smooth

    @staticmethod
    def read_out(loss, spikes):
        """Most spikes, then the earliest first spike, then the lower index; first spike; -1 if all are silent."""
        order = np.arange(spikes.counts.shape[1])
        first, counts = spikes.times[..., 0], spikes.counts
        keys = [(order, t, -n) if loss == "count" else (order, t) for t, n in zip(first, counts, strict=True)]
        best = np.array([np.lexsort(key)[0] for key in keys])
        return np.where(counts.any(axis=1), best, -1)


class Checks:
    def test_training_equals_the_oracle_network_by_network(self):
        """Losses, predictions and weights of every epoch's end, until a spike grazes (docs/theory.md, section 3)."""
        for loss, max_n_spike in (("count", 6), ("ttfs", 1)):
            compared = 0
            for seed, (shape, t_max) in enumerate((((20, 2, 4, 2), 2.5), ((20, 3, 5, 5), np.inf), ((20, 4, 1, 3), np.inf))):
                case = Case(seed, *shape, max_n_spike=max_n_spike, grid=0.25 if seed == 0 else None)
                ensemble = case.ensemble(self.device, slope_floor=0)
                optimizer = bats.GradientDescentOptimizer(0.05)
                history = ensemble.train(case.times, case.counts, case.labels, LOSSES[loss][0], optimizer, 8, t_max)
                for r in range(shape[0]):
                    losses, predictions, weights, smooth = case.reference_training(r, loss, 8, 0.05, t_max)
                    if not smooth:
                        continue
                    compared += np.abs(weights - case.weights[r]).max() > 1e-3
                    np.testing.assert_allclose(history.losses[:, r], losses, rtol=1e-9, atol=1e-9)
                    np.testing.assert_array_equal(history.predictions[:, r], predictions)
                    self.assertLess(difference(to_numpy(ensemble.weights)[r], weights), 1e-9)
            self.assertGreater(compared, 20, loss)

    def test_training_equals_a_network_of_its_own(self):
        """Every optimizer, the default slope_floor, and status() as the sum over the networks."""
        for loss, optimizer in (("count", bats.AdamOptimizer), ("ttfs", bats.NAdamOptimizer), ("count", bats.GradientDescentOptimizer)):
            case = Case(3, 7, 3, 4, 4, max_n_spike=1 if loss == "ttfs" else 3)
            ensemble = case.ensemble(self.device)
            history = ensemble.train(case.times, case.counts, case.labels, LOSSES[loss][0], optimizer(0.02), 6)
            status = dict.fromkeys(ensemble.status(), 0)
            for r in range(7):
                network, alone = build([case.layer(r)], 4, self.device), optimizer(0.02)
                for epoch in range(6):
                    spikes = network.forward(case.times, case.counts, training=True)
                    value, errors = LOSSES[loss][0].compute_loss_and_errors(*spikes, case.labels)
                    np.testing.assert_allclose(history.losses[epoch, r], to_numpy(value), rtol=1e-9)
                    np.testing.assert_array_equal(history.predictions[epoch, r], to_numpy(LOSSES[loss][0].predict(*spikes)))
                    network.apply_deltas(alone.step(network.backward(errors)))
                self.assertLess(difference(to_numpy(ensemble.weights)[r], to_numpy(network.layers[1].weights)), 1e-9)
                for name, total in network.status()["layer 0"].items():
                    status[name] += total
            self.assertEqual(ensemble.status(), status)

    def test_forward(self):
        """Spike trains [network, sample, neuron, slot], also when the batch and the slots change between passes."""
        case = Case(4, 600, 3, 4, 2)
        ensemble, total = case.ensemble(self.device), 0
        for batch, n_slots in ((2, 2), (5, 1), (1, 3)):
            samples, n_spikes = random_trains(np.random.default_rng(batch), batch, 4, n_slots, 2.0)
            times, counts = (to_numpy(array) for array in ensemble.forward(samples, n_spikes, 1.5))
            self.assertEqual((times.shape, counts.shape), ((600, batch, 3, 6), (600, batch, 3)))
            total += counts.sum()
            for r in range(0, 600, 67):
                spikes = reference.forward_network(samples, n_spikes, [case.layer(r)], 1.5)[0]
                np.testing.assert_array_equal(counts[r], spikes.counts)
                np.testing.assert_allclose(times[r], spikes.times, rtol=1e-9)
        status = ensemble.status()
        self.assertEqual((status["spikes"], status["samples"]), (total, 600 * 8))

    def test_float32_within_twice_the_naive_error(self):
        """The rule of test_float32_against_oracle.py on the weights after three epochs, over networks without a grazing spike."""
        case = Case(5, 60, 2, 4, 2)
        ensemble = case.ensemble(self.device, "float32", slope_floor=0)
        ensemble.train(case.times, case.counts, case.labels, LOSSES["count"][0], bats.GradientDescentOptimizer(0.02), 3)
        errors = []
        for r in range(60):
            with np.errstate(all="ignore"):
                exact, naive = (
                    case.reference_training(r, "count", 3, 0.02, np.inf, dtype, origin)
                    for dtype, origin in ((np.float64, "moving"), (np.float32, "absolute"))
                )
            if exact[3] and naive[3]:
                errors.append([difference(weights, exact[2]) for weights in (to_numpy(ensemble.weights)[r], naive[2])])
        self.assertGreater(len(errors), 20)
        ours, naive = np.quantile(errors, (0.5, 0.9), axis=0).T
        self.assertTrue((ours <= 2 * naive).all(), f"ours {ours}, naive {naive}")
        self.assertLess(ours.max(), 1e-4)

    def test_silence_ties_and_grazing(self):
        """A silent network predicts -1 and does not move; a tie goes to the lower index; slope_floor is counted."""
        case = Case(6, 3, 2, 4, 3)
        case.weights[0], case.weights[1] = -1, 0.9  # network 1: twin neurons
        ensemble = case.ensemble(self.device, slope_floor=1e6)
        rate = bats.GradientDescentOptimizer(1e-9)
        history = ensemble.train(case.times, case.counts, [0, 1, 0], LOSSES["count"][0], rate, 2)
        self.assertTrue((history.predictions[:, 0] == -1).all())
        self.assertTrue((history.predictions[:, 1] == 0).all())
        np.testing.assert_allclose(history.accuracy[:, :2], [[0, 2 / 3]] * 2)
        np.testing.assert_array_equal(history.best_accuracy, history.accuracy.max(axis=0))
        np.testing.assert_array_equal(to_numpy(ensemble.weights)[0], case.weights[0])
        status = ensemble.status()
        self.assertEqual(status["bounded"], status["spikes"])
        self.assertGreater(status["silent"], 0)

    def test_same_bits_every_time(self):
        case, runs, shown = Case(7, 300, 2, 4, 2), [], io.StringIO()
        for progress in (False, True):
            ensemble = case.ensemble(self.device, "float32")
            optimizer = bats.GradientDescentOptimizer(0.1)
            with contextlib.redirect_stderr(shown):
                ensemble.train(case.times, case.counts, case.labels, LOSSES["count"][0], optimizer, 5, progress=progress)
            runs.append(to_numpy(ensemble.weights).tobytes())
        self.assertEqual(*runs)
        self.assertIn("300 networks", shown.getvalue())

    def test_weights(self):
        case = Case(8, 3, 2, 4, 2)
        ensemble = case.ensemble(self.device)
        np.testing.assert_array_equal(to_numpy(ensemble.weights), case.weights)
        ensemble.weights[1, 0, 2] = 5
        self.assertEqual(to_numpy(ensemble.weights)[1, 0, 2], 5)
        ensemble.weights = self.array(2 * case.weights)
        np.testing.assert_array_equal(to_numpy(ensemble.weights), 2 * case.weights)

    def test_bad_arguments(self):
        case = Case(9, 3, 2, 4, 2)
        ensemble = case.ensemble(self.device)
        loss, optimizer = LOSSES["count"][0], bats.GradientDescentOptimizer(0.1)
        data = (case.times, case.counts, case.labels)
        cases = (
            (lambda: Ensemble(np.ones((2, 3)), 1, 1, 1), ValueError, r"weights: expected shape \[n_networks, n_post, n_pre\].*\(2, 3\)"),
            (lambda: Ensemble(np.ones((2, 0, 3)), 1, 1, 1), ValueError, "each at least 1"),
            (lambda: Ensemble(case.weights, 0, 1, 1), ValueError, "tau_s: expected a finite number > 0, received 0"),
            (lambda: Ensemble(case.weights, 1, 1, 1, 0), ValueError, "max_n_spike: expected at least 1, received 0"),
            (lambda: Ensemble(case.weights, 1, 1, 1, 2.5), TypeError, "max_n_spike: expected an integer, received 2.5"),
            (lambda: Ensemble(case.weights.astype(str), 1, 1, 1), TypeError, "weights: expected numbers"),
            (lambda: setattr(ensemble, "weights", np.ones((2, 2, 4))), ValueError, r"expected shape \(3, 2, 4\), received \(2, 2, 4\)"),
            (lambda: ensemble.train(*data, bats.SpikeTimeLoss(), optimizer, 1), TypeError, "loss: expected .*received SpikeTimeLoss"),
            (lambda: ensemble.train(*data, loss, 0.1, 1), TypeError, "optimizer: expected one of bats.optimizers, received float"),
            (lambda: ensemble.train(*data, loss, optimizer, 0), ValueError, "epochs: expected at least 1, received 0"),
            (lambda: ensemble.train(*data[:2], [0, 2], loss, optimizer, 1), ValueError, "expected classes from 0 to 1"),
            (lambda: ensemble.forward(*data[:2], -1), ValueError, "max_simulation: expected a time > 0 in seconds, received -1"),
            (lambda: ensemble.forward(case.times[:0], case.counts[:0]), ValueError, "at least one sample"),
            (lambda: ensemble.forward(case.times[:, :3], case.counts[:, :3]), ValueError, "expected 4 neurons"),
        )
        for call, error, message in cases:
            with self.subTest(message), self.assertRaisesRegex(error, message):
                call()


class OnCpu(Checks, Cpu):
    pass


class OnCuda(Checks, Cuda):
    pass
