"""Functions of the CUDA driver for which CuPy has no wrapper: what compute capability 9.0 brought."""

import ctypes
import functools

from bats.device import array_module

_LEAST_DRIVER, _LEAST_CAPABILITY = 12030, 90


@functools.cache
def driver_function(name):
    """The function as ctypes knows it, or None where device or driver is older, or the driver's library cannot be had."""
    cuda = array_module("cuda").cuda
    if int(cuda.Device().compute_capability) < _LEAST_CAPABILITY or cuda.runtime.driverGetVersion() < _LEAST_DRIVER:
        return None
    try:
        return getattr(ctypes.CDLL("libcuda.so.1"), name)
    except (OSError, AttributeError):
        return None
