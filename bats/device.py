"""Which device runs a network, and the array module that belongs to it."""

import contextlib
import functools
import os
import platform
import sys

import numpy as np

DEVICES = ("cpu", "cuda")


class CudaUnavailable(RuntimeError):
    """CUDA was asked for and cannot be used; the message carries the original cause."""


@functools.cache
def _probe():
    """(cupy module or None, reason why CUDA cannot be used or None, whether the reason is a defect of the installation)."""
    try:
        import cupy
    except ModuleNotFoundError as error:
        if error.name == "cupy":
            return None, 'CuPy is not installed (pip install "bats[cuda13]" or "bats[cuda12]")', False
        return None, f"CuPy is installed but does not import: {type(error).__name__}: {error}", True
    except Exception as error:  # CuPy raises many kinds of errors at import; each is shown as it came
        return None, f"CuPy is installed but does not import: {type(error).__name__}: {error}", True
    try:
        n_devices = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:
        return cupy, f"the CUDA runtime reports: {type(error).__name__}: {error}", False
    if n_devices == 0:
        return cupy, "the CUDA runtime finds no device", False
    return cupy, None, False


def cuda_reason():
    """None where CUDA can be used, else the reason why not (str)."""
    return _probe()[1]


def cuda_available():
    return cuda_reason() is None


def resolve(device="auto"):
    """"auto", "cpu" or "cuda" -> "cpu" or "cuda".

    "auto" takes CUDA where it works, else the CPU; it says so on stderr if CuPy is installed but broken.
    Raises ValueError for another name and CudaUnavailable, with the cause, if "cuda" cannot be had.
    """
    if device == "auto":
        _, reason, broken = _probe()
        if reason is None:
            return "cuda"
        if broken:
            _say_once(f"bats: running on the CPU, because {reason}")
        return "cpu"
    if device not in DEVICES:
        raise ValueError(f'device: expected "auto", "cpu" or "cuda", received {device!r}')
    if device == "cuda" and not cuda_available():
        raise CudaUnavailable(f"device 'cuda' cannot be used: {cuda_reason()}. `python -m bats doctor` says more.")
    return device


@functools.cache
def _say_once(message):
    print(message, file=sys.stderr)


def array_module(device):
    """numpy for "cpu", cupy for "cuda"."""
    if device == "cpu":
        return np
    cupy, reason, _ = _probe()
    if reason is not None:
        raise CudaUnavailable(f"device 'cuda' cannot be used: {reason}")
    return cupy


def is_cupy(array):
    return type(array).__module__.split(".", 1)[0] == "cupy"


def to_numpy(array):
    """NumPy copy of a NumPy or CuPy array (CuPy: waits for the device)."""
    return array.get() if is_cupy(array) else np.array(array)


def check_dtype(dtype):
    """np.dtype float32 or float64; raises TypeError for anything else."""
    try:
        resolved = np.dtype(dtype)
    except TypeError:
        resolved = None
    if resolved not in (np.dtype("float32"), np.dtype("float64")):
        raise TypeError(f'dtype: expected "float32" or "float64", received {dtype!r}')
    return resolved


def describe():
    """Versions and hardware that a result depends on, as a JSON-able dict."""
    import numba

    info = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "cpu_count": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "numpy": np.__version__,
        "numba": numba.__version__,
    }
    cupy, reason, _ = _probe()
    if cupy is not None:
        info["cupy"] = cupy.__version__
    if reason is not None:
        info["cuda"] = f"not used: {reason}"
        return info
    runtime = cupy.cuda.runtime
    properties = runtime.getDeviceProperties(runtime.getDevice())
    info["cuda_runtime"] = runtime.runtimeGetVersion()
    info["cuda_driver"] = runtime.driverGetVersion()
    info["gpu"] = properties["name"].decode()
    info["gpu_memory_bytes"] = int(properties["totalGlobalMem"])
    info["compute_capability"] = f"{properties['major']}.{properties['minor']}"
    return info


def _cpu_name():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def stream_of_its_own(device):
    """Context manager: on CUDA, a new stream for all work of this thread, so that runs in several threads overlap; else nothing."""
    if device != "cuda":
        return contextlib.nullcontext()
    return array_module(device).cuda.Stream(non_blocking=True)
