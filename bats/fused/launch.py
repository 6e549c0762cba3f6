"""Kernels whose blocks may begin while the kernel before them ends: programmatic dependent launch (CUDA 12.3, compute capability 9.0).

CuPy has no such launch, so the driver is called; inside a capture it becomes a part of the graph. What a kernel may do early:
cuda/fused/dependent_launch.cuh. Where the driver or the device cannot, kernels are launched as usual, with the same results.
"""

import ctypes

import numpy as np

from bats.device import array_module
from bats.fused.driver import driver_function

_LAUNCH = "cuLaunchKernelEx"
_PROGRAMMATIC_STREAM_SERIALIZATION = 6  # CUlaunchAttributeID
EARLY = True  # False launches all kernels as usual; the results are the same (tests/fused)


class _Attribute(ctypes.Structure):
    _fields_ = (("id", ctypes.c_uint), ("padding", ctypes.c_uint), ("value", ctypes.c_uint * 16))


class _Configuration(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_uint) for name in ("grid_x", "grid_y", "grid_z", "block_x", "block_y", "block_z", "shared_bytes")),
        ("stream", ctypes.c_void_p), ("attributes", ctypes.POINTER(_Attribute)), ("n_attributes", ctypes.c_uint),
    )  # fmt: skip


def address(array):
    """Where the array begins: CuPy or NumPy."""
    return array.ctypes.data if isinstance(array, np.ndarray) else array.data.ptr


def kernels_begin_early():
    """Whether launch() lets kernels begin while the kernel before them ends."""
    return EARLY and driver_function(_LAUNCH) is not None


def launch(kernel, grid, n_threads, arguments, shared):
    """kernel: a CuPy kernel; grid: up to three numbers of blocks; arguments: CuPy arrays and NumPy scalars or records."""
    call = driver_function(_LAUNCH) if kernels_begin_early() else None
    if call is None:
        kernel(grid, (n_threads,), arguments, shared_mem=shared)
        return
    values = [np.array(getattr(getattr(argument, "data", None), "ptr", argument)) for argument in arguments]
    pointers = (ctypes.c_void_p * len(values))(*(value.ctypes.data for value in values))
    attribute = _Attribute(_PROGRAMMATIC_STREAM_SERIALIZATION, 0)
    attribute.value[0] = 1
    sizes = (*grid, 1, 1)[:3]
    stream = array_module("cuda").cuda.get_current_stream().ptr
    configuration = _Configuration(*sizes, n_threads, 1, 1, shared, stream, ctypes.pointer(attribute), 1)
    code = call(ctypes.byref(configuration), ctypes.c_void_p(kernel.kernel.ptr), pointers, None)
    if code != 0:
        raise RuntimeError(f"{_LAUNCH}: expected 0, received error {code} for {kernel.name}")
