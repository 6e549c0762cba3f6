"""Matrix products over all time steps at once: currents, weight gradients, errors of the input.

float32 on CUDA runs on tensor cores without losing accuracy: see cuda/timestep/split_product.cu.
"""

import functools

import numpy as np

from bats import kernels
from bats.device import array_module, is_cupy
from bats.ops.arguments import blocks, expect

_TILE = 128  # rows and columns that a block of the split product computes
_BLOCKS = 128  # blocks that the partial sums of a long product are shared among; fixed, so that the bits are too
_SHORTEST = 512  # terms of a partial sum, at least


# kernels of split_product.cu by (transpose_a, transpose_b); in front of those without transpose_b comes "exact_" or "byte_"
_SPLIT = {(0, 0): "product", (1, 0): "product_ta", (0, 1): "product_tb"}


@functools.cache
def _has_tensor_cores():
    """Whether the device multiplies bfloat16 numbers on tensor cores (compute capability 8.0)."""
    return int(array_module("cuda").cuda.Device().compute_capability) >= 80


def _shared_bytes(transpose_a, transpose_b, parts_a, parts_b):
    """Shared memory of split_product.cu: padded bfloat16 tiles of each part, two sets of them."""
    terms = 32 if parts_a == 1 else 16
    terms_last, sides_last = _TILE * (terms + 8), terms * (_TILE + 8)
    numbers = parts_a * (sides_last if transpose_a else terms_last) + parts_b * (terms_last if transpose_b else sides_last)
    return 2 * 2 * numbers


def _n_parts(m, n, k):
    """Partial sums of a product with few results and many terms."""
    tiles = blocks(m, _TILE) * blocks(n, _TILE)
    return max(1, min(_BLOCKS // tiles, blocks(k, _SHORTEST)))


def product_scratch(xp, m, n, k, dtype):
    """Room for the partial sums of a product [m, k] x [k, n] that is given `scratch`, for up to k terms; None if it needs none."""
    parts = _n_parts(m, n, k)
    return None if xp is np or parts == 1 else xp.empty((parts, m, n), dtype=dtype)


def matrix_product(a, b, out, *, transpose_a=False, transpose_b=False, scale=1.0, add=False, exact_a=False, tf32=False,
                   scratch=None):  # fmt: skip
    """out [M, N] = scale A B, or out += scale A B with add; A = a [M, K] or a^T of [K, M], B = b [K, N] or b^T of [N, K].

    a may be uint8; all else has the precision of b. exact_a: all numbers in a are integers from 0 to 256, as bytes are; tf32: 16
    bits of each number are enough (it takes effect where tensor cores multiply float32 numbers, in less time); scratch: from
    product_scratch, for a product with many terms (not with add). Sums run in a fixed order.
    """
    in_bytes = a.dtype == np.uint8
    expect("a", a, (None, None), a.dtype)
    k, m = a.shape if transpose_a else a.shape[::-1]
    expect("b", b, (None, k) if transpose_b else (k, None), b.dtype if in_bytes else a.dtype, a)
    n = b.shape[0] if transpose_b else b.shape[1]
    expect("out", out, (m, n), b.dtype, a)
    real, whole = b.dtype.type, np.int32
    if not is_cupy(a):
        a = a.astype(b.dtype, copy=False)
        left, right = a.T if transpose_a else a, b.T if transpose_b else b
        if add:
            out += real(scale) * (left @ right)
        else:
            np.matmul(left, right, out=out)
            if scale != 1:
                out *= real(scale)
        return
    if out.size == 0:
        return
    parts = 1 if scratch is None or add else min(len(scratch), _n_parts(m, n, k))
    target = out if parts == 1 else scratch[:parts]
    layout = whole(transpose_a), whole(transpose_b)
    sizes = whole(m), whole(n), whole(k)
    # each part takes a multiple of 32 terms, the tiles of the kernels; the last ones may be left with fewer, or none
    length = whole(32 * blocks(blocks(k, parts), 32))
    scaled = real(scale) if parts == 1 else real(1)
    _run(a, b, target, layout, sizes, length, parts, scaled, add, exact_a, tf32)
    if parts > 1:
        kernels.kernel("timestep/matrix_product", "add_parts", b.dtype)(
            (blocks(out.size, 256),), (256,), (target, whole(parts), np.int64(out.size), real(scale), out)
        )


def _run(a, b, target, layout, sizes, length, parts, scale, add, exact_a, tf32):
    m, n, _ = sizes
    in_bytes, (transpose_a, transpose_b) = a.dtype == np.uint8, layout
    form = "byte_" if in_bytes else "exact_" if exact_a else ""
    if b.dtype == np.float32 and _has_tensor_cores() and not (in_bytes and transpose_b):
        if transpose_b:
            form = ""  # no layer has spikes on the left of a transposed factor
        kernel = kernels.kernel("timestep/split_product", form + _SPLIT[int(transpose_a), int(transpose_b)] + "_short" * tf32, b.dtype)
        parts_b = 2 if tf32 else 3
        shared = _shared_bytes(transpose_a, transpose_b, 1 if form else parts_b, parts_b)
        if kernel.max_dynamic_shared_size_bytes < shared:
            kernel.max_dynamic_shared_size_bytes = shared
        grid = blocks(n, _TILE), blocks(m, _TILE), parts
        kernel(grid, (512,), (a, b, *sizes, length, scale, np.int32(add), target), shared_mem=shared)
        return
    kernel = kernels.kernel("timestep/matrix_product", "byte_product" if in_bytes else "matrix_product", b.dtype)
    kernel((blocks(m, 64), blocks(n, 64), parts), (256,), (a, b, *layout, *sizes, length, scale, np.int32(add), target))
