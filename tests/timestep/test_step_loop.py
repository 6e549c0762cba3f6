"""The baseline of the speed tables computes what the fused layer computes: spikes and gradients of benchmarks/step_loop.py."""

import runpy
import unittest
from pathlib import Path

import numpy as np

import bats
from bats.timestep import StandardLIFLayer, SteppedInputLayer

STEP_LOOP = Path(__file__).resolve().parents[2] / "benchmarks" / "step_loop.py"


class TestStepLoop(unittest.TestCase):
    def test_same_spikes_and_gradient(self):
        rng = np.random.default_rng(0)
        waves, errors = (rng.random((4, 30, 12)) < 0.4).astype(np.float64), rng.normal(size=(4, 30, 9))
        network = bats.Network(device="cpu", dtype="float64", seed=1)
        network.add_layer(SteppedInputLayer(12, 30), input=True)
        layer = network.add_layer(StandardLIFLayer(None, 9, -0.001 / np.log(0.9), 0.001))
        layer.weights = 2 * layer.weights
        spikes = np.array(self.run_layer(layer, waves))
        loop = runpy.run_path(str(STEP_LOOP))["StepLoop"](np, np.ascontiguousarray(layer.weights.T), np.zeros(9), 0.9)
        expected = np.stack(loop.forward(waves.transpose(1, 0, 2)), axis=1)
        np.testing.assert_array_equal(spikes, expected)
        self.assertGreater(expected.sum(), 100)
        gradient, bias_gradient = loop.backward(errors.transpose(1, 0, 2))
        layer.errors[...] = errors
        layer.backward(layer.errors, self.waves, None)
        np.testing.assert_allclose(4 * layer.gradient, gradient, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(4 * layer.further_gradients["bias"], bias_gradient, rtol=1e-9, atol=1e-12)

    def run_layer(self, layer, waves):
        self.waves = bats.timestep.Waves(waves, small_integers=True)
        layer.allocate(len(waves))
        layer.use(len(waves))
        return layer.forward(self.waves, np.inf).array
