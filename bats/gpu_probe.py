"""What this machine offers for CUDA, found out without trusting that anything works.

The driver is asked directly (no CuPy needed), CuPy is imported and tried; every failure keeps its own type and message.
"""

import ctypes
import importlib.metadata
import importlib.util
import sys
from dataclasses import dataclass, field


@dataclass
class Driver:
    """The NVIDIA driver: version of the CUDA it supports as (major, minor) or None, number of devices, first
    problem."""

    cuda: tuple[int, int] | None = None
    n_devices: int = 0
    problem: str = ""


@dataclass
class Cupy:
    """CuPy as installed.

    packages  [(distribution, version)], e.g. ("cupy-cuda13x", "14.2.0"); more than one at a time do not work together.
    present   a module `cupy` can be found.
    error     "" or the original exception of the import or of the first computation, as "Type: message".
    stage     where that happened: "import" or "use".
    """

    packages: list = field(default_factory=list)
    present: bool = False
    version: str = ""
    runtime: str = ""
    devices: list = field(default_factory=list)
    error: str = ""
    stage: str = ""


def probe_driver():
    """Asks the driver library itself; returns a Driver, with .cuda None where there is no driver."""
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        library = ctypes.CDLL(name)
    except OSError as error:
        return Driver(problem=f"no NVIDIA driver ({error})")
    version, count = ctypes.c_int(0), ctypes.c_int(0)
    driver = Driver()
    if library.cuDriverGetVersion(ctypes.byref(version)) == 0:
        driver.cuda = divmod(version.value, 1000)[0], version.value % 1000 // 10
    status = library.cuInit(0)
    if status == 0:
        status = library.cuDeviceGetCount(ctypes.byref(count))
    driver.n_devices = count.value
    if status not in (0, 100):  # 100: CUDA_ERROR_NO_DEVICE, which is an answer and no failure
        driver.problem = f"the driver library {name} answers with error {status}"
    return driver


def probe_cupy():
    """Imports CuPy and computes something with it; returns a Cupy. Nothing is raised."""
    packages = {
        (distribution.metadata["Name"] or "").lower(): distribution.version
        for distribution in importlib.metadata.distributions()
    }
    found = [
        (name, version) for name, version in sorted(packages.items()) if name == "cupy" or name.startswith("cupy-")
    ]
    cupy = Cupy(packages=found, present=_can_be_found("cupy"))
    if not cupy.present:
        return cupy
    try:
        import cupy as module

        cupy.version = module.__version__
        cupy.runtime = _dotted(module.cuda.runtime.runtimeGetVersion())
    except Exception as error:
        return _failed(cupy, error, "import")
    try:
        n_devices = module.cuda.runtime.getDeviceCount()
    except Exception as error:
        if "NoDevice" in str(error) or "InsufficientDriver" in str(error):
            return cupy
        return _failed(cupy, error, "use")
    try:
        for index in range(n_devices):
            properties = module.cuda.runtime.getDeviceProperties(index)
            cupy.devices.append(
                f"{properties['name'].decode()}, compute capability {properties['major']}.{properties['minor']}, "
                f"{properties['totalGlobalMem'] / 2**30:.0f} GiB"
            )
        if n_devices:
            total = int((module.arange(5) ** 2).sum())  # allocates, compiles and launches
            if total != 30:
                raise ArithmeticError(f"0 + 1 + 4 + 9 + 16 came out as {total}")
    except Exception as error:
        return _failed(cupy, error, "use")
    return cupy


def _can_be_found(name):
    if name in sys.modules:
        return sys.modules[name] is not None
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return True  # something is there that does not even let itself be looked up; the import will say what


def _failed(cupy, error, stage):
    cupy.error, cupy.stage = f"{type(error).__name__}: {error}".strip(), stage
    return cupy


def _dotted(number):
    """13020 -> "13.2"."""
    return f"{number // 1000}.{number % 1000 // 10}"
