"""The fused step's kernels on the CPU (tests/emulation): the checks of test_fused_step without a GPU, and what only an emulation shows.

Warps run in a random order and shared memory begins as NaN, so a missing synchronization changes the result.
"""

import unittest
from unittest import mock

import numpy as np

import bats
from bats.fused import eligibility, layout
from bats.fused import step as fused_step
from bats.sources import LatencyImages
from bats.step import Step
from tests.emulation import emulator
from tests.fused.test_fused_step import Checks


@unittest.skipIf(emulator.compiler() is None, "no C++ compiler for x86-64")
class OnCpu(Checks, unittest.TestCase):
    device, seed = "cpu", 0

    def setUp(self):
        def run(step, name, grid, threads, arguments, shared):
            emulator.launch(f"fused/{name}", name, step.dtype, grid, threads, arguments, shared, self.seed)

        for target, name, value in (
            (eligibility, "takes_kernels", lambda _: True),
            (eligibility, "shared_limit", lambda: layout.MAX_SHARED),
            (fused_step.FusedStep, "_run", run),
        ):
            patch = mock.patch.object(target, name, value)
            patch.start()
            self.addCleanup(patch.stop)

    def test_the_order_of_warps_changes_nothing(self):
        found = set()
        for self.seed in range(3):
            step = self.trained(True, dtype="float32", epochs=1)
            found.add(b"".join(layer.weights.tobytes() for layer in step.network.layers[1:]))
        self.assertEqual(len(found), 1)

    def test_where_blocks_begin_changes_nothing(self):
        """Early blocks of the third kernel find their pairs by themselves, the others read what the second kernel found."""
        found = set()
        for early in (0, 3, 132):
            with mock.patch.object(fused_step.FusedStep, "early_blocks", lambda *_, early=early: early):
                step = self.trained(True, dtype="float32", epochs=1)
            found.add(b"".join(layer.weights.tobytes() for layer in step.network.layers[1:]))
        self.assertEqual(len(found), 1)

    def test_who_prepares_the_next_batch_changes_nothing(self):
        """The second kernel does, up to SORTED samples, and else the first one; an order ends with a batch or within one."""
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (90, 5, 6)).astype(np.uint8)
        images[rng.random(images.shape) < rng.random((90, 1, 1))] = 0  # many events and few
        source = LatencyImages(images, rng.integers(0, 5, 90))

        def trained(batch, wanted):
            neuron = {"tau_s": 0.13, "max_n_spike": 9}
            layers = [bats.InputLayer(30), bats.LIFLayer(None, 70, theta=0.05, delta_theta=0.05, **neuron)]
            layers.append(bats.LIFLayer(None, 5, theta=0.3, delta_theta=0.3, **neuron))
            network = bats.Network(layers, device="cpu", dtype="float32", seed=3)
            step = Step(network, bats.SpikeCountClassLoss(7, 1), source, batch, 0.2, bats.AdamOptimizer(1e-2), graph=False, fused=True)
            step._fused.room.upcoming_places.fill(-1)
            for epoch in range(2):
                step.start(np.random.default_rng(epoch).permutation(90))
                while step.train_next(steps=4):
                    self.assertEqual(step._fused.prepared, wanted if step._batch == batch else min(wanted, step._batch))
            return b"".join(layer.weights.tobytes() for layer in network.layers[1:])

        for batch in (1, 13, 45, 64):
            with self.subTest(batch=batch):
                expected = trained(batch, batch)
                with mock.patch.object(layout, "SORTED", 0):
                    self.assertEqual(trained(batch, 0), expected)


if __name__ == "__main__":
    unittest.main()
