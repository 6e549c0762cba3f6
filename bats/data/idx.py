"""The IDX format of the MNIST family: arrays of bytes behind a short header, usually compressed with gzip.

Header (big-endian): two zero bytes, the type (8 = unsigned byte), the number of dimensions, one 32-bit size per
dimension. Format: the page of the MNIST database (LeCun, Cortes, Burges), section "file formats".
"""

import gzip
import math
import struct
import zlib

import numpy as np

_UNSIGNED_BYTE = 8


def read_idx(path, ndim=None):
    """The array of an IDX file, plain or gzip-compressed: uint8, in the shape its header gives.

    ndim: the number of dimensions wanted (3 for images [n, height, width], 1 for labels [n]); None accepts any.
    Raises ValueError naming the file, what was expected and what came (bad gzip data, wrong type, truncated, too long),
    or OSError if the file cannot be opened.
    """
    with open(path, "rb") as file:
        return parse_idx(file.read(), path, ndim)


def parse_idx(stored, path, ndim=None):
    """read_idx for the bytes of a file (from an archive, say); `path` is how messages name it."""
    content = _content(stored, path)
    if len(content) < 4:
        raise ValueError(f"{path}: expected an IDX header of at least 4 bytes, received {len(content)} bytes")
    zero, kind, dimensions = struct.unpack(">HBB", content[:4])
    if zero != 0 or kind != _UNSIGNED_BYTE or dimensions == 0:
        raise ValueError(
            f"{path}: expected an IDX file of unsigned bytes (it begins with 00 00 08), received {content[:4].hex(' ')}"
        )
    if ndim is not None and dimensions != ndim:
        raise ValueError(f"{path}: expected {ndim} dimension(s), received {dimensions}")
    start = 4 + 4 * dimensions
    if len(content) < start:
        raise ValueError(f"{path}: expected an IDX header of {start} bytes, the file ends after {len(content)}")
    shape = struct.unpack(f">{dimensions}I", content[4:start])
    expected, received = math.prod(shape), len(content) - start
    if received != expected:
        state = "truncated" if received < expected else "too long"
        raise ValueError(f"{path}: {state}: expected {expected} bytes for the shape {list(shape)}, received {received}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()


def _content(compressed, path):
    if not compressed.startswith(b"\x1f\x8b"):
        if str(path).endswith(".gz"):
            raise ValueError(
                f"{path}: expected gzip data (it begins with 1f 8b), received {compressed[:4].hex(' ') or 'nothing'}"
            )
        return compressed
    try:
        return gzip.decompress(compressed)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(
            f"{path}: expected complete gzip data, received a truncated or damaged file: {error}"
        ) from error
