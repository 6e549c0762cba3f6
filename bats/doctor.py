"""`python -m bats doctor`: what is installed, what is found, and for everything missing the command that mends it."""

import importlib.metadata
import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

from bats._version import __version__
from bats.data import EVENT_DATASETS, IMAGE_DATASETS, find_images, search_folders
from bats.data.catalogue import command
from bats.data.embedded import path_of
from bats.data.nmnist import find_nmnist
from bats.data.shd import find_shd
from bats.gpu_probe import probe_cupy, probe_driver

OK, MISSING, BROKEN = "ok", "missing", "BROKEN"
_PACKAGES = ("numpy", "numba", "llvmlite", "matplotlib", "tqdm", "requests", "scikit-learn", "scipy")
_CUPY_AVOIDED, _CUPY_LEAST = "14.1.0", (14, 2)


@dataclass(frozen=True)
class Finding:
    """One line of the report: state OK, MISSING or BROKEN, what it is about, what was found, the command that mends
    it."""

    state: str
    topic: str
    text: str
    remedy: str = ""


def examine():
    """All findings, a list of Finding. Imports CuPy if there is one, and tries the GPU; touches no network."""
    return [*_software(), *_gpu(probe_driver(), probe_cupy()), *_caches(), *_data()]


def exit_code(findings):
    """0, or 1 if something is broken. What is merely missing (no GPU, no CuPy, no data) breaks nothing: bats runs
    without."""
    return int(any(finding.state == BROKEN for finding in findings))


def render(findings):
    """The report as text, one finding per line, the remedy under it."""
    width = max(len(finding.topic) for finding in findings)
    lines = []
    for finding in findings:
        first, *rest = finding.text.splitlines() or [""]
        lines.append(f"{finding.state:8}{finding.topic:{width}}  {first}")
        lines += [" " * (10 + width) + line for line in rest]
        if finding.remedy:
            lines.append(" " * (10 + width) + "-> " + finding.remedy)
    counts = {state: sum(finding.state == state for finding in findings) for state in (MISSING, BROKEN)}
    summary = f"{counts[BROKEN]} broken, {counts[MISSING]} missing"
    return "\n".join([*lines, summary if any(counts.values()) else "everything is there"])


def main(file=None):
    """Prints the report and returns the exit code."""
    findings = examine()
    print(render(findings), file=file or sys.stdout)
    return exit_code(findings)


def _software():
    yield Finding(OK, "bats", f"{__version__} in {Path(__file__).resolve().parent}")
    yield Finding(OK, "python", f"{platform.python_version()} ({sys.executable}), {platform.platform()}")
    for name in _PACKAGES:
        try:
            yield Finding(OK, name, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(BROKEN, name, "not installed, and bats needs it", f"pip install {name}")


def _gpu(driver, cupy):
    """Findings about the driver, the devices and CuPy."""
    extra = "cuda12" if driver.cuda and driver.cuda[0] == 12 else "cuda13"
    install = f'pip install "bats[{extra}]"'
    if driver.cuda is None:
        yield Finding(MISSING, "driver", driver.problem, "nothing to do on a machine without an NVIDIA GPU")
    else:
        number = ".".join(map(str, driver.cuda))
        text = f"NVIDIA, for CUDA up to {number}; {driver.n_devices} device(s)"
        old = driver.cuda < (12, 0)
        broken = bool(driver.problem) or (old and driver.n_devices > 0)
        remedy = "install an NVIDIA driver for CUDA 12 or later" if broken else ""
        yield Finding(BROKEN if broken else OK, "driver", "; ".join(filter(None, [text, driver.problem])), remedy)
    names = [name for name, _ in cupy.packages]
    listed = ", ".join(f"{name} {version}" for name, version in cupy.packages) or "CuPy"
    if not cupy.present:
        needed = "needed for the GPU of this machine" if driver.n_devices else "only needed for a GPU"
        yield Finding(MISSING, "cupy", f"not installed; {needed}", install)
        return
    repair = f"pip uninstall -y {' '.join(names) or 'cupy'} && {install}"
    if cupy.error and cupy.stage == "import":
        yield Finding(BROKEN, "cupy", f"{listed}: the import fails with\n{cupy.error}", repair)
        return
    text = f"{cupy.version} ({listed}), CUDA runtime {cupy.runtime}"
    if len(names) > 1:
        yield Finding(BROKEN, "cupy", f"{text}; {len(names)} CuPy packages exclude each other", repair)
    elif cupy.version == _CUPY_AVOIDED or _release(cupy.version) < _CUPY_LEAST:
        yield Finding(BROKEN, "cupy", f"{text}; bats needs 14.2 or later", f"{install} --upgrade")
    else:
        yield Finding(OK, "cupy", text)
    if cupy.error:
        yield Finding(BROKEN, "device", f"the GPU cannot be used:\n{cupy.error}", repair)
    elif cupy.devices:
        yield Finding(OK, "device", "\n".join(cupy.devices) + "\na small computation on it gives the right result")
    elif driver.n_devices:
        text = f"the driver has {driver.n_devices} device(s), CuPy sees none"
        yield Finding(BROKEN, "device", text, f"check CUDA_VISIBLE_DEVICES, or {repair}")
    else:
        yield Finding(MISSING, "device", "no GPU; bats runs on the CPU")


def _caches():
    """Findings about the folders that hold compiled kernels; an empty one is no fault, the first run fills it."""
    kernels = Path(os.environ.get("CUPY_CACHE_DIR") or Path("~/.cupy/kernel_cache").expanduser())
    yield Finding(OK, "cupy cache", _size_of(kernels, ("*",)))
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    yield Finding(OK, "numba cache", _size_of(Path(chosen or Path(__file__).resolve().parent), ("*.nbi", "*.nbc")))


def _size_of(folder, patterns):
    files = [path for pattern in patterns for path in folder.rglob(pattern) if path.is_file()]
    if not files:
        return f"{folder}: empty; the first run fills it"
    return f"{folder}: {len(files)} files, {sum(path.stat().st_size for path in files) / 1e6:.1f} MB"


def _data():
    """Findings about every data set that bats can name."""
    yield Finding(OK, "data folders", os.pathsep.join(map(str, search_folders())))
    events = {"nmnist": find_nmnist, "shd": find_shd}
    for entry in (*IMAGE_DATASETS.values(), *EVENT_DATASETS.values()):
        path, _ = events[entry.name]() if entry.name in events else find_images(entry)
        if path is not None:
            yield Finding(OK, entry.title, f"{path} (not read: loading it checks it)")
        else:
            yield Finding(MISSING, entry.title, "not in the data folders", command(entry))
        if getattr(entry, "embedded", None):
            part = path_of(entry)
            there = part.is_file()
            text = f"{part}: {part.stat().st_size / 1e6:.2f} MB" if there else f"{part} is not there"
            remedy = "" if there else "pip install --force-reinstall bats"
            yield Finding(OK if there else BROKEN, f"{entry.title}, a part", text, remedy)


def _release(version):
    """(major, minor) of a version string; what is not a number counts as 0."""
    numbers = [int(part) if part.isdigit() else 0 for part in version.split(".")[:2]]
    return tuple(numbers + [0] * (2 - len(numbers)))
