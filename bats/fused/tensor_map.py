"""Matrices as the tensor memory accelerator knows them (compute capability 9.0), which copies boxes: cuda/common/box_copy.cuh."""

import ctypes
import functools

import numpy as np

from bats.fused.driver import driver_function

MOST_ROWS = 256  # of a box
_ENCODE = "cuTensorMapEncodeTiled"
_TYPES = {np.dtype("float32"): 7, np.dtype("float64"): 8}  # CUtensorMapDataType
_BYTES, _ALIGNMENT = 128, 64  # of a CUtensorMap
_RECORD = np.dtype([("opaque", np.uint64, _BYTES // 8)])  # TensorMap of cuda/common/box_copy.cuh
NONE = np.zeros((), dtype=_RECORD)  # where there is no box to copy


def available():
    """Whether boxes can be copied on this device; elsewhere threads copy, with the same results."""
    return driver_function(_ENCODE) is not None


@functools.lru_cache(maxsize=1024)
def tensor_map(address, dtype, shape, box):
    """The matrix of `shape` (rows, columns) at `address`, row by row, and boxes of `box` (rows, columns), up to MOST_ROWS rows.

    Rows of matrix and box are multiples of 16 bytes, as the address is. Returns a NumPy record for a kernel's TensorMap.
    """
    words = ctypes.c_uint64 * 2, ctypes.c_uint32 * 2
    room = ctypes.create_string_buffer(_BYTES + _ALIGNMENT)
    at = -(-ctypes.addressof(room) // _ALIGNMENT) * _ALIGNMENT
    code = driver_function(_ENCODE)(
        ctypes.c_void_p(at), ctypes.c_int(_TYPES[np.dtype(dtype)]), ctypes.c_uint32(2), ctypes.c_void_p(address),
        words[0](*shape[::-1]), words[0](shape[1] * np.dtype(dtype).itemsize, 0), words[1](*box[::-1]), words[1](1, 1),
        ctypes.c_int(0), ctypes.c_int(0), ctypes.c_int(0), ctypes.c_int(0),
    )  # fmt: skip
    if code != 0:
        raise RuntimeError(f"{_ENCODE}: expected 0, received error {code} for a matrix {shape} in boxes of {box}")
    return np.frombuffer(ctypes.string_at(at, _BYTES), dtype=_RECORD).reshape(())
