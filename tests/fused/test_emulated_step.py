"""The fused step's kernels on the CPU (tests/emulation): the checks of test_fused_step without a GPU, and what only an emulation shows.

Warps run in a random order and shared memory begins as NaN, so a missing synchronization changes the result.
"""

import unittest
from unittest import mock

from bats.fused import eligibility, layout
from bats.fused import step as fused_step
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


if __name__ == "__main__":
    unittest.main()
