"""The fused step has the same bits whether it is captured or not, whether its kernels begin early, and whoever copies the weights or
prepares the next batch."""

import unittest
from unittest import mock

import numpy as np

import bats
from bats.device import to_numpy
from bats.fused import FusedStep, launch, layout, tensor_map
from bats.fused import step as fused_step
from bats.sources import LatencyImages
from bats.step import Step
from tests.devices import Cuda
from tests.fused.checks import Steps


class OnCuda(Steps, Cuda):
    def test_a_captured_step(self):
        plain, captured = self.trained(True, graph=False, epochs=4), self.trained(True, graph=True, epochs=4)
        for one, two in zip(plain.network.layers[1:], captured.network.layers[1:], strict=True):
            self.assertEqual(to_numpy(one.weights).tobytes(), to_numpy(two.weights).tobytes())
        self.assertEqual(plain.metrics(), captured.metrics())

    def weights(self, batch):
        """After 20 epochs of 3000 noisy images, several steps in a graph."""
        rng = np.random.default_rng(0)
        images, labels = rng.integers(0, 256, (3000, 20, 20)).astype(np.uint8), rng.integers(0, 10, 3000)
        images[rng.random(images.shape) < 0.7] = 0
        neuron = {"tau_s": 0.13, "max_n_spike": 30}
        layers = [bats.InputLayer(400), bats.LIFLayer(None, 800, theta=0.2, delta_theta=0.2, **neuron)]
        layers.append(bats.LIFLayer(None, 10, theta=1.3, delta_theta=1.3, **neuron))
        network = bats.Network(layers, device=self.device, dtype="float32", seed=0)
        optimizer = bats.AdamOptimizer(0.003)
        step = Step(network, bats.SpikeCountClassLoss(15, 3), LatencyImages(images, labels), batch, 0.2, optimizer, fused=True)
        for epoch in range(20):
            step.start(np.random.default_rng(epoch).permutation(3000))
            while step.train_next(steps=5):
                pass
        return [to_numpy(layer.weights).tobytes() for layer in network.layers[1:]]

    def test_in_a_large_network(self):
        """Blocks of the third kernel: 82 of 100 begin early with batches of 50, none with 300."""
        expected = {batch: self.weights(batch) for batch in (50, 300)}
        self.assertNotEqual(expected[50], expected[300])
        for target, name, value in (
            (launch, "EARLY", False),
            (fused_step, "available", lambda: False),  # threads copy
            (FusedStep, "early_blocks", lambda *_: 0),
            (layout, "SORTED", 0),  # the first kernel chooses its samples itself
        ):
            with mock.patch.object(target, name, value):
                for batch in expected:
                    with self.subTest(changed=name, batch=batch):
                        self.assertEqual(self.weights(batch), expected[batch])

    def test_a_matrix_that_cannot_be_described(self):
        if not tensor_map.available():
            self.skipTest("boxes cannot be copied here")
        array = bats.device.array_module("cuda").zeros((16, 8), dtype="float32")
        with self.assertRaisesRegex(RuntimeError, r"expected 0, received error \d+ for a matrix \(16, 8\)"):
            tensor_map.tensor_map(array.data.ptr + 4, array.dtype, (16, 8), (16, 8))


if __name__ == "__main__":
    unittest.main()
