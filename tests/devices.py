"""Runs a test class on every device: `class OnCpu(Checks, Cpu)` and `class OnCuda(Checks, Cuda)`.

Tests of the CUDA path are skipped only where no device can be used, and the reason is the one that bats gives.
"""

import unittest

import numpy as np

from bats.device import array_module, cuda_reason


class Cpu(unittest.TestCase):
    device = "cpu"

    @property
    def xp(self):
        return array_module(self.device)

    def array(self, values, dtype=None):
        """values on the device, C-contiguous."""
        return self.xp.asarray(np.ascontiguousarray(values, dtype=dtype))

    def poisoned(self, shape, dtype):
        """An output array full of values that no operation may leave behind: NaN, or a large number for integers."""
        dtype = np.dtype(dtype)
        return self.xp.full(shape, np.nan if dtype.kind == "f" else min(2**30, np.iinfo(dtype).max), dtype=dtype)

    def status(self, batch):
        return self.xp.zeros((batch, 4), dtype=np.int64 if self.device == "cpu" else np.uint64)


@unittest.skipIf(cuda_reason(), f"no CUDA device: {cuda_reason()}")
class Cuda(Cpu):
    device = "cuda"
