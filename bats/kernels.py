"""CUDA kernel sources: finding them, putting their headers into the text, compiling and loading them.

A unit is one `cuda/<family>/<name>.cu`. CuPy's kernel cache keys on the source text alone, so headers are pasted in
(with #line, so that compiler messages name the right file): an edited header can never run the old code.
"""

import functools
import os
import re
import shutil
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from bats.device import array_module

_INCLUDE = re.compile(r'^\s*#include\s+"([^"]+)"\s*$')
_KERNEL = re.compile(r"template\s*<typename real[^>]*>\s*__global__\s+void\s+(?:__launch_bounds__\([^)]*\)\s+)?(\w+)\s*\(")
_OPTIONS = ("-std=c++17",)
_REAL = {np.dtype("float32"): "float", np.dtype("float64"): "double"}


@functools.cache
def root():
    """The folder of the kernel sources: inside the installed package, or cuda/ of a checkout."""
    package = Path(__file__).resolve().parent
    for folder in (package / "cuda_sources", package.parent / "cuda"):
        if (folder / "lif").is_dir():
            return folder
    raise FileNotFoundError(f"kernel sources: expected {package / 'cuda_sources'} or {package.parent / 'cuda'}; reinstall bats")


def list_units():
    """Names of all units, e.g. "lif/spike_times", sorted."""
    return sorted(path.relative_to(root()).with_suffix("").as_posix() for path in root().rglob("*.cu"))


@functools.cache
def source(unit):
    """Text of a unit with its headers pasted in, each once."""
    path = root() / f"{unit}.cu"
    if not path.is_file():
        raise ValueError(f"kernel unit: expected one of {', '.join(list_units())}, received {unit!r}")
    return "\n".join(_expand(path, set())) + "\n"


def _expand(path, seen):
    name = path.relative_to(root()).as_posix()
    lines = [f'#line 1 "cuda/{name}"']
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        match = _INCLUDE.match(line)
        if not match:
            lines.append(line)
            continue
        header = root() / match.group(1)
        if header not in seen:
            seen.add(header)
            lines.extend(_expand(header, seen))
        lines.append(f'#line {number + 1} "cuda/{name}"')
    return [line for line in lines if not line.startswith("#pragma once")]


def kernel_names(unit):
    """Names of the kernels (templates on the floating-point type) of a unit."""
    return names_in(source(unit))


def names_in(text):
    """The same of a unit's text."""
    return _KERNEL.findall(text)


@functools.cache
def kernel(unit, name, dtype):
    """The CuPy kernel `name`<float or double> of a unit; compiled at first use, then from CuPy's disk cache."""
    return _module(unit, np.dtype(dtype)).get_function(f"{name}<{_REAL[np.dtype(dtype)]}>")


@functools.cache
def _module(unit, dtype):
    names = [f"{name}<{_REAL[dtype]}>" for name in kernel_names(unit)]
    cupy = array_module("cuda")
    return cupy.RawModule(code=source(unit), options=_OPTIONS, name_expressions=names)


def compile_all(arch="sm_90"):
    """Compiles every unit for a GPU architecture without a GPU, with nvcc or, failing that, NVRTC (cuda-bindings).

    As many side by side as there are processors. Returns [(unit, seconds, None or the compiler's message)]; raises RuntimeError
    if there is no compiler.
    """
    compiler = compile_with_nvcc if shutil.which("nvcc") else compile_with_nvrtc

    def compiled(unit):
        start = time.perf_counter()
        error = compiler(unit, arch)
        return unit, time.perf_counter() - start, error

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(compiled, list_units()))


def _instantiated(unit):
    """Source followed by a use of every kernel in both precisions, so that a plain compiler generates code for them."""
    uses = [f"(const void*)&{name}<{real}>," for name in kernel_names(unit) for real in _REAL.values()]
    return source(unit) + "const void* bats_kernels[] = {" + " ".join(uses) + "};\n"


def compile_with_nvcc(unit, arch="sm_90"):
    """None, or nvcc's message."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{unit.replace('/', '_')}.cu"
        path.write_text(_instantiated(unit), encoding="utf-8")
        command = ["nvcc", "-cubin", f"-arch={arch}", *_OPTIONS, "-Werror", "all-warnings", "-o", f"{path}.cubin", str(path)]
        done = subprocess.run(command, capture_output=True, text=True)
    return None if done.returncode == 0 else done.stderr or done.stdout


def compile_with_nvrtc(unit, arch="sm_90"):
    """None, or NVRTC's message."""
    try:
        from cuda.bindings import nvrtc
    except ImportError as error:
        raise RuntimeError(f'no CUDA compiler: expected nvcc on the PATH or `pip install "bats[test]"` ({error})') from error

    def call(function, *arguments):
        status, *values = function(*arguments)
        return status, values[0] if values else None

    status, program = call(nvrtc.nvrtcCreateProgram, source(unit).encode(), f"{unit}.cu".encode(), 0, [], [])
    for name in kernel_names(unit):
        for real in _REAL.values():
            nvrtc.nvrtcAddNameExpression(program, f"{name}<{real}>".encode())
    options = [option.encode() for option in (*_OPTIONS, f"--gpu-architecture={arch}")]
    status, _ = call(nvrtc.nvrtcCompileProgram, program, len(options), options)
    message = None
    if int(status) != 0:
        size = call(nvrtc.nvrtcGetProgramLogSize, program)[1]
        log = b" " * size
        nvrtc.nvrtcGetProgramLog(program, log)
        message = log.decode(errors="replace")
    nvrtc.nvrtcDestroyProgram(program)
    return message
