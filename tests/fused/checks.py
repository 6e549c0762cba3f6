"""What the tests of fused steps share: random networks, a step of them, and its comparison with bats.reference."""

from types import SimpleNamespace

import numpy as np

import bats
from bats import reference
from bats.device import to_numpy
from bats.fused import FusedStep
from bats.sources import SpikeSamples
from bats.step import Step
from tests.oracle import TOLERANCE, build, difference, time_differences, well_conditioned
from tests.reference.random_networks import random_layers, random_trains

COUNT = (bats.SpikeCountClassLoss(7, 1), lambda s, labels: reference.spike_count_class_loss(s.counts, s.times, labels, 7, 1))
FIRST = (bats.TTFSSoftmaxCrossEntropy(0.02), lambda s, labels: reference.ttfs_softmax_cross_entropy(s.times, labels, 0.02))
SMALL = {"shared_limit": 19_000, "at_once": 2}  # lists that outgrow shared memory, batches in several parts


def fuse(network, loss, source, batch, t_max, optimizer, **options):
    """A fused step without graph that keeps its gradients."""
    step = Step(network, loss, source, batch, t_max, optimizer, graph=False, fused=True)
    step._fused = FusedStep(network, loss, optimizer, step.source, batch, t_max, keep_gradients=True, **options)
    return step


class Steps:
    """For a test case that has a device."""

    def case(self, seed, sizes, n_batch=4, n_slots=3, max_n_spike=8, span=3, change=None, tau_s=0.05):
        """The first well-conditioned network that follows from the seed: inputs, layers, and the oracle's trains."""
        rng = np.random.default_rng(seed)
        for _ in range(30):
            times, counts = random_trains(rng, n_batch, sizes[0], n_slots, span * tau_s)
            layers = random_layers(rng, sizes, tau_s, max_n_spike)
            if change is not None:
                times, counts, layers = change(times, counts, layers)
            t_max = 2 * span * tau_s
            trains = reference.forward_network(times, counts, layers, t_max)
            if well_conditioned(layers, trains):
                labels = rng.integers(0, sizes[-1], n_batch)
                return SimpleNamespace(times=times, counts=counts, layers=layers, trains=trains, labels=labels, t_max=t_max)
        self.fail("no well-conditioned network in 30")

    def one_step(self, case, loss, dtype="float64", **options):
        """One step of the whole batch at learning rate 0, and the network."""
        network = build(case.layers, case.times.shape[1], self.device, dtype)
        source = SpikeSamples(case.times, case.counts, case.labels, case.layers[-1].weights.shape[0])
        batch = len(case.labels)
        step = fuse(network, loss, source, batch, case.t_max, bats.GradientDescentOptimizer(0), **options)
        for name in ("list_q", "extremes", "slopes", "spike_q", "spike_errors", "spike_slopes", "out_spikes"):
            getattr(step._fused.room, name).fill(np.nan)
        for layer in network.layers[1:]:
            layer.gradient.fill(np.nan)
        step.start(np.arange(batch))
        step.train_next()
        return step, network

    def check(self, case, losses=(COUNT, FIRST), options=({},)):
        for (loss, oracle), option in ((a, b) for a in losses for b in options):
            with self.subTest(loss=type(loss).__name__, **option):
                step, network = self.one_step(case, loss, **option)
                expected_loss, errors = oracle(case.trains[-1], case.labels)
                expected, _ = reference.backward_network(errors, case.times, case.counts, case.layers, case.trains)
                metrics, status = step.metrics(), network.status()
                self.assertAlmostEqual(metrics["loss"], expected_loss.mean(), delta=1e-9 * max(1, expected_loss.mean()))
                np.testing.assert_array_equal(step.predictions, loss.predict(case.trains[-1].times, case.trains[-1].counts))
                self.assert_hidden_spikes(step._fused, network.layers[1], case)
                for layer, gradient, spikes in zip(network.layers[1:], expected, case.trains, strict=True):
                    self.assertLess(difference(layer.gradient.T, gradient), TOLERANCE)
                    totals = status[layer.name]
                    found = [totals[name] for name in ("spikes", "silent", "overflow", "non_finite", "bounded")]
                    self.assertEqual(found, [spikes.counts.sum(), (spikes.counts == 0).sum(), spikes.overflow.sum(), 0, 0])

    def assert_hidden_spikes(self, fused, layer, case):
        """The spikes of the samples that went through the kernels last."""
        part = (len(case.labels) - 1) // fused.at_once * fused.at_once
        expected = case.trains[0]
        n = len(case.labels) - part
        np.testing.assert_array_equal(to_numpy(fused.room.counts)[:n], expected.counts[part:])
        used = np.arange(layer.max_n_spike) < expected.counts[part:, :, None]
        factors = np.ones(used.shape)
        for sample, spikes in enumerate(to_numpy(fused.room.spike_q)[:n]):  # neuron by neuron
            factors[sample][used[sample]] = spikes[: used[sample].sum()]
        times = np.where(used, float(layer.neuron.tau) * np.log(np.where(used, factors, 1)), np.inf)
        self.assertLess(time_differences(times, expected.times[part:], layer.tau_s).max(initial=0), TOLERANCE)
        if fused.room.extremes.size == 0:
            return  # this step has none
        # The buckets of the sort reach from the least to the greatest factor.
        first = np.arange(0, layer.n_neurons, 32)
        least = np.minimum.reduceat(np.where(used, factors, np.inf).min(axis=2), first, axis=1)
        greatest = np.maximum.reduceat(np.where(used, factors, 0).max(axis=2), first, axis=1)
        np.testing.assert_allclose(to_numpy(fused.room.extremes)[:n], np.stack([least, greatest], axis=2), rtol=1e-9)

    def trained(self, fused, optimizer=bats.AdamOptimizer, loss=COUNT[0], dtype="float64", graph=False, epochs=2, sizes=(12, 37, 5)):
        case = self.case(20, list(sizes), n_batch=23)
        network = build(case.layers, sizes[0], self.device, dtype)
        source = SpikeSamples(case.times, case.counts, case.labels, 5)
        step = Step(network, loss, source, 6, case.t_max, optimizer(1e-3), graph=graph, fused=fused)
        for epoch in range(epochs):
            step.start(np.random.default_rng(epoch).permutation(23))
            while step.train_next():
                pass
        return step
