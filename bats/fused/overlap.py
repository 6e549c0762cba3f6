"""Launches a kernel so that it may start before the one ahead of it in the stream has ended (programmatic dependent launch).

The driver's cuLaunchKernelEx does it, which CuPy does not offer. The kernel has to call griddepcontrol.wait before it reads what the
kernel ahead writes (cuda/fused/deep.cuh). Works inside a stream capture too.
"""

import ctypes
import functools

import numpy as np

from bats.device import array_module

_SERIALIZATION = 6  # CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION


class _Attribute(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_int), ("padding", ctypes.c_int), ("value", ctypes.c_int), ("rest", ctypes.c_char * 60))


class _Config(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_uint) for name in ("grid_x", "grid_y", "grid_z", "block_x", "block_y", "block_z", "shared")),
        ("stream", ctypes.c_void_p), ("attributes", ctypes.POINTER(_Attribute)), ("n_attributes", ctypes.c_uint),
    )  # fmt: skip


@functools.cache
def _driver():
    """The driver's function, or None where it has none (before CUDA 11.8) or kernels cannot wait (before compute capability 9.0)."""
    if int(array_module("cuda").cuda.Device().compute_capability) < 90:
        return None
    for name in ("libcuda.so.1", "nvcuda.dll"):
        try:
            return ctypes.CDLL(name).cuLaunchKernelEx
        except (OSError, AttributeError):
            continue
    return None


def launch(kernel, grid, threads, arguments, shared):
    """kernel: a CuPy RawKernel; arguments: CuPy arrays, NumPy scalars and records. Raises RuntimeError if the driver refuses."""
    function = _driver()
    if function is None:
        kernel(grid, (threads,), arguments, shared_mem=shared)
        return
    values = [np.asarray(a.data.ptr, np.uint64) if hasattr(a, "__cuda_array_interface__") else np.array(a) for a in arguments]
    pointers = (ctypes.c_void_p * len(values))(*(value.ctypes.data for value in values))
    attribute = _Attribute(_SERIALIZATION, 0, 1)
    x, y, z = (*grid, 1, 1)[:3]
    stream = array_module("cuda").cuda.get_current_stream().ptr
    config = _Config(x, y, z, threads, 1, 1, shared, stream, ctypes.pointer(attribute), 1)
    status = function(ctypes.byref(config), ctypes.c_void_p(kernel.kernel.ptr), pointers, None)
    if status:
        raise RuntimeError(f"cuLaunchKernelEx: expected 0, received {status}")
