"""CUDA tests on machines without a GPU: those that a C++ compiler and the emulation of tests/emulation run in about a minute.

All of them that the emulation takes: python -m tests.emulation.cupy_on_cpu MODULE ...
"""

import os
import subprocess
import sys
import unittest

from bats.device import cuda_reason
from tests.emulation import emulator

TESTS = (
    "tests.fused.test_deep_step.OnCuda.test_random_networks",
    "tests.fused.test_deep_step.OnCuda.test_lists_in_rounds",
    "tests.fused.test_fused_bits.OnCuda.test_a_captured_step",
)


@unittest.skipIf(cuda_reason() is None, "the CUDA tests run on the device")
@unittest.skipIf(emulator.compiler() is None, "no C++ compiler for x86-64")
class Emulated(unittest.TestCase):
    def test_cuda_tests(self):
        command = [sys.executable, "-m", "tests.emulation.cupy_on_cpu", *TESTS]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(["", *filter(None, [os.environ.get("PYTHONPATH")])])}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        self.assertEqual(done.returncode, 0, done.stderr[-3000:])
        self.assertIn("OK", done.stderr)
        self.assertNotIn("skipped", done.stderr)


if __name__ == "__main__":
    unittest.main()
