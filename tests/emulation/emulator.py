"""Compiles a unit of cuda/ with a C++ compiler (cuda_on_cpu.hpp) and launches its kernels on NumPy arrays."""

import ctypes
import functools
import platform
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from bats import kernels

_HEADER = Path(__file__).with_name("cuda_on_cpu.hpp")
_TYPES = {"float32": "float", "float64": "double"}
# What only a GPU's assembler and CUDA's compiler know.
_REPLACED = (
    ('asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));', "y = 1 / x;"),
    ('asm("sqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));', "y = std::sqrt(x);"),
)
_DYNAMIC = re.compile(r"extern __shared__ (?:__align__\(\d+\) )?([\w ]+?) (\w+)\[\];")


_DECLARED = re.compile(r"^(\s*)__shared__ ([^;(]+);", re.MULTILINE)


def _with_fresh_values(match):
    """A declaration of shared variables, and after it the calls that fill them."""
    names = [re.search(r"(\w+)\s*(\[[^,]*)?$", part).group(1) for part in re.sub(r"<[^>]*>", "", match.group(2)).split(",")]
    return match.group(0) + "".join(f" emulated::fresh(&{name}, sizeof {name});" for name in names)


def compiler():
    """Path of a C++ compiler for this machine, or None."""
    return shutil.which("g++") if platform.machine() in ("x86_64", "AMD64") else None


@functools.cache
def _folder():
    return tempfile.TemporaryDirectory(prefix="bats_emulation_")


@functools.cache
def _library(text):
    """The shared library of a unit's text."""
    names = kernels.names_in(text)
    for cuda, cpp in _REPLACED:
        text = text.replace(cuda, cpp)
    text = _DYNAMIC.sub(r"\1* \2 = reinterpret_cast<\1*>(emulated::aligned_shared());", text)
    text = _DECLARED.sub(_with_fresh_values, text)
    calls = "\n".join(
        f'extern "C" int {name}_{dtype}(const unsigned* sizes, void** arguments)'
        f" {{ return emulated::launch(&{name}<{real}>, sizes, arguments); }}"
        for name in names
        for dtype, real in _TYPES.items()
    )
    stem = Path(_folder().name) / "_".join(names)
    source, library = stem.with_suffix(".cpp"), stem.with_suffix(".so")
    source.write_text(f'#include "{_HEADER}"\n{text}\n{calls}\n', encoding="utf-8")
    command = [compiler(), "-std=c++17", "-O1", "-w", "-ffp-contract=off", "-fPIC", "-shared", "-o", str(library), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{', '.join(names)}: expected a unit that a C++ compiler takes; it says\n{done.stderr[:4000]}")
    return ctypes.CDLL(str(library))


def run(text, name, grid, block, arguments, shared, seed=0):
    """Launches kernel `name`, as "kernel<float>", of a unit's text on arrays in the CPU's memory.

    grid, block: up to three numbers; shared: bytes; seed: of the order in which blocks and warps run
    """
    kernel, real = name.rstrip(">").split("<")
    call = getattr(_library(text), f"{kernel}_{ {'float': 'float32', 'double': 'float64'}[real] }")
    values = [
        np.array(argument.ctypes.data if isinstance(argument, np.ndarray) and argument.dtype.fields is None else argument)
        for argument in arguments
    ]
    pointers = (ctypes.c_void_p * len(values))(*(value.ctypes.data for value in values))
    sizes = (ctypes.c_uint * 8)(*(*grid, 1, 1)[:3], *(*block, 1, 1)[:3], shared, seed)
    if call(sizes, pointers) != 0:
        raise RuntimeError(f"{name}: threads of a block wait for each other at different barriers")


def launch(unit, name, dtype, grid, n_threads, arguments, shared, seed=0):
    """As bats.fused.launch.launch."""
    run(kernels.source(unit), f"{name}<{_TYPES[np.dtype(dtype).name]}>", grid, (n_threads,), arguments, shared, seed)
