"""A stand-in for CuPy whose arrays lie in the CPU's memory and whose kernels run in the emulation: the CUDA tests without a GPU.

    python -m tests.emulation.cupy_on_cpu tests.test_fast_layers tests.fused.test_fused_step

Only what bats uses is there. A captured stream records launches of kernels, and nothing else.
"""

import contextlib
import sys
import types
import unittest

import numpy as np

from tests.emulation import emulator


class ndarray(np.ndarray):
    """A NumPy array that says it is CuPy's."""

    __module__ = "cupy"

    @property
    def data(self):
        return types.SimpleNamespace(ptr=self.ctypes.data)

    def get(self):
        return np.array(self, subok=False)

    def set(self, values):
        self[...] = values

    def __array_wrap__(self, array, context=None, return_scalar=False):
        return np.asarray(array).view(ndarray)


_recorded = None  # launches, while a stream is captured


class Kernel:
    """What RawModule.get_function returns."""

    max_dynamic_shared_size_bytes = 48 * 1024

    def __init__(self, code, name):
        self.code, self.name = code, name
        self.attributes = {"max_threads_per_block": 1024, "num_regs": 64}

    def __call__(self, grid, block, arguments, shared_mem=0):
        if not all(grid):
            raise ValueError(f"{self.name}: expected a grid of blocks, received {grid}")
        if shared_mem > self.max_dynamic_shared_size_bytes:
            raise ValueError(f"{self.name}: {shared_mem} bytes of shared memory, allowed {self.max_dynamic_shared_size_bytes}")
        call = lambda: emulator.run(self.code, self.name, grid, block, arguments, shared_mem)  # noqa: E731
        call() if _recorded is None else _recorded.append(call)


class RawModule:
    def __init__(self, code, options=(), name_expressions=()):
        self.code = code

    def get_function(self, name):
        return Kernel(self.code, name)


class Stream:
    ptr, null = 0, None

    def __init__(self, *_, **__):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def begin_capture(self):
        global _recorded
        _recorded = []

    def end_capture(self):
        global _recorded
        calls, _recorded = _recorded, None
        return types.SimpleNamespace(launch=lambda: [call() for call in calls])

    def synchronize(self):
        pass


def module():
    """The module to put into sys.modules under the name cupy."""
    cupy = types.ModuleType("cupy")

    def wrapped(function):
        def call(*arguments, **options):
            result = function(*arguments, **options)
            return np.asarray(result).view(ndarray) if isinstance(result, (np.ndarray, np.generic)) else result

        return call

    for name in dir(np):
        if not name.startswith("_") and callable(getattr(np, name)) and not isinstance(getattr(np, name), type):
            setattr(cupy, name, wrapped(getattr(np, name)))
    for name in ("float32", "float64", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "inf", "nan", "newaxis", "errstate"):
        setattr(cupy, name, getattr(np, name))
    properties = {"name": b"emulation", "major": 9, "minor": 0, "totalGlobalMem": 2**34, "multiProcessorCount": 132}
    device = types.SimpleNamespace(
        compute_capability="90", synchronize=lambda: None, id=0,
        attributes={"MaxSharedMemoryPerBlockOptin": 232448, "MultiProcessorCount": 132, "CooperativeLaunch": 1},
    )  # fmt: skip
    runtime = types.SimpleNamespace(
        getDeviceCount=lambda: 1, getDevice=lambda: 0, getDeviceProperties=lambda _: properties,
        runtimeGetVersion=lambda: 13000, driverGetVersion=lambda: 12000, deviceSynchronize=lambda: None,
    )  # fmt: skip
    pool = types.SimpleNamespace(used_bytes=lambda: 0, free_all_blocks=lambda: None)
    cupy.ndarray, cupy.RawModule, cupy.__version__ = ndarray, RawModule, "0 (emulation)"
    cupy.get_default_memory_pool = lambda: pool
    cupy.cuda = types.SimpleNamespace(
        runtime=runtime, Device=lambda *_: device, Stream=Stream, get_current_stream=lambda: Stream(), stream=types.SimpleNamespace(),
        using_allocator=contextlib.nullcontext,
    )  # fmt: skip
    return cupy


if __name__ == "__main__":
    sys.modules["cupy"] = module()
    unittest.main(module=None, argv=["cupy_on_cpu", *sys.argv[1:]])
