"""Networks with a spike-rate regularizer: silent neurons come to life, spiking ones are pulled into the bounds, off changes nothing."""

import numpy as np

import bats
from bats.device import to_numpy
from bats.sources import SpikeSamples
from bats.step import Step
from tests.devices import Cpu, Cuda


def inputs(rng, n=12, n_inputs=9):
    times = np.sort(rng.uniform(0, 0.1, (n, n_inputs, 1)), axis=2)
    return SpikeSamples(times, np.ones((n, n_inputs), dtype=np.int32), rng.integers(0, 3, n), 3)


class Checks:
    def network(self, regularizer, dtype="float64", seed=3, mean=0.0):
        neuron = {"tau_s": 0.1, "theta": 0.02, "delta_theta": 0.02, "max_n_spike": 4, "regularizer": regularizer}
        weights = bats.initializers.fan_in_normal(mean, 1.0)
        layers = [
            bats.ConvInputLayer((3, 3, 1), "input"),
            bats.ConvLIFLayer(None, (2, 2, 4), weight_initializer=weights, name="conv", **neuron),
            bats.LIFLayer(None, 3, weight_initializer=weights, name="output", **neuron),
        ]
        return bats.Network(layers, device=self.device, dtype=dtype, seed=seed)

    def train(self, network, n_steps, learning_rate=0.01):
        source = inputs(np.random.default_rng(1))
        step = Step(network, bats.SpikeCountClassLoss(3, 1), source, 12, 0.3, bats.AdamOptimizer(learning_rate))
        for _ in range(n_steps):
            step.train(np.arange(12))
        step.evaluate(np.arange(12))
        return {layer.name: to_numpy(layer.spike_trains[1]) for layer in network.trainable_layers}

    def test_silent_units_come_to_life(self):
        """All weights negative: without a remedy no neuron ever fires, with it every filter and every output does."""
        for regularizer, alive in ((None, False), (bats.SpikeRateRegularizer(strength=0.3), True)):
            network = self.network(regularizer)
            for layer in network.trainable_layers:
                layer.weights = -np.abs(to_numpy(layer.weights))
            fired = {"conv": np.zeros(4, dtype=bool), "output": np.zeros(3, dtype=bool)}
            for _ in range(20):
                counts = self.train(network, 10)
                fired["conv"] |= counts["conv"].reshape(-1, 4).any(axis=0)
                fired["output"] |= counts["output"].any(axis=0)
            for name, units in fired.items():
                self.assertEqual(units.tolist(), [alive] * len(units), name)

    def test_strength_zero_is_the_plain_network(self):
        runs = []
        for regularizer in (None, bats.SpikeRateRegularizer(strength=0.0)):
            network = self.network(regularizer, "float32", mean=1.0)
            self.train(network, 3)
            runs.append([to_numpy(layer.weights).tobytes() for layer in network.trainable_layers])
        self.assertEqual(*runs)

    def test_upper_bound(self):
        """A strong upper bound thins out a layer's spikes."""
        free, bounded = (
            self.train(self.network(regularizer, mean=2.0), 100)["conv"].sum()
            for regularizer in (None, bats.SpikeRateRegularizer(0.0, 0.5, strength=30.0))
        )
        self.assertLess(bounded, 0.7 * free)


class OnCpu(Checks, Cpu):
    def test_wrong_arguments(self):
        for arguments in ({"minimum": -1}, {"strength": np.inf}, {"minimum": 2, "maximum": 1}):
            with self.assertRaisesRegex(ValueError, "expected"):
                bats.SpikeRateRegularizer(**arguments)
        with self.assertRaisesRegex(TypeError, "regularizer: expected a SpikeRateRegularizer or None, received 0.1"):
            bats.LIFLayer(None, 3, 0.1, 0.1, 0.1, regularizer=0.1)

    def test_fan_in_initializers(self):
        """The summed weights of a neuron have the same mean and spread whatever the number of inputs."""
        rng = np.random.default_rng(0)
        for shape in ((4000, 10), (4000, 300), (4000, 3, 4, 5)):
            sums = bats.initializers.fan_in_normal(0.7, 0.5)(shape, rng).reshape(4000, -1).sum(axis=1)
            self.assertLess(abs(sums.mean() - 0.7), 5 * 0.5 / 4000**0.5)
            self.assertLess(abs(sums.std() / 0.5 - 1), 5 / 8000**0.5)
            weights = bats.initializers.fan_in_uniform(-2, 2)(shape, rng)
            self.assertLessEqual(np.abs(weights).max(), 2 / np.prod(shape[1:]) ** 0.5)


class OnCuda(Checks, Cuda):
    pass
