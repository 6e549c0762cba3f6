"""Matrix products over all time steps at once: currents, weight gradients, errors of the input.

float32 on CUDA runs on tensor cores without losing accuracy: see cuda/timestep/split_product.cu.
"""

import numpy as np

from bats import kernels
from bats.device import is_cupy
from bats.ops.arguments import blocks, expect

_TILE = 128  # rows and columns that a block of the split product computes
_BLOCKS = 128  # blocks that the partial sums of a long product are shared among; fixed, so that the bits are too
_SHORTEST = 512  # terms of a partial sum, at least


def _n_parts(m, n, k):
    """Partial sums of a product with few results and many terms."""
    tiles = blocks(m, _TILE) * blocks(n, _TILE)
    return max(1, min(_BLOCKS // tiles, blocks(k, _SHORTEST)))


def product_scratch(xp, m, n, k, dtype):
    """Room for the partial sums of a product [m, k] x [k, n] that is given `scratch`, for up to k terms; None if it needs none."""
    parts = _n_parts(m, n, k)
    return None if xp is np or parts == 1 else xp.empty((parts, m, n), dtype=dtype)


def matrix_product(a, b, out, *, transpose_a=False, transpose_b=False, scale=1.0, add=False, exact_a=False, scratch=None):
    """out [M, N] = scale A B, or out += scale A B with add; A = a [M, K] or a^T of [K, M], B = b [K, N] or b^T of [N, K].

    exact_a: all numbers in a are integers from 0 to 256; scratch: from product_scratch, for a product with many terms (not
    with add). Sums run in a fixed order.
    """
    expect("a", a, (None, None), a.dtype)
    k, m = a.shape if transpose_a else a.shape[::-1]
    expect("b", b, (None, k) if transpose_b else (k, None), a.dtype, a)
    n = b.shape[0] if transpose_b else b.shape[1]
    expect("out", out, (m, n), a.dtype, a)
    if not is_cupy(a):
        left, right = a.T if transpose_a else a, b.T if transpose_b else b
        if add:
            out += a.dtype.type(scale) * (left @ right)
        else:
            np.matmul(left, right, out=out)
            if scale != 1:
                out *= a.dtype.type(scale)
        return
    if out.size == 0:
        return
    parts = 1 if scratch is None or add else min(len(scratch), _n_parts(m, n, k))
    target = out if parts == 1 else scratch[:parts]
    real, whole = a.dtype.type, np.int32
    layout = whole(transpose_a), whole(transpose_b)
    sizes = whole(m), whole(n), whole(k)
    # the last rows of a long product may be missing from its parts: each takes a multiple of 32 terms
    length = whole(32 * blocks(blocks(k, parts), 32))
    scaled = real(scale) if parts == 1 else real(1)
    _run(a, b, target, layout, sizes, length, parts, scaled, add, exact_a)
    if parts > 1:
        kernels.kernel("timestep/matrix_product", "add_parts", a.dtype)(
            (blocks(out.size, 256),), (256,), (target, whole(parts), np.int64(out.size), real(scale), out)
        )


def _run(a, b, target, layout, sizes, length, parts, scale, add, exact_a):
    m, n, _ = sizes
    kernel = kernels.kernel("timestep/matrix_product", "matrix_product", a.dtype)
    kernel((blocks(m, 64), blocks(n, 64), parts), (256,), (a, b, *layout, *sizes, length, scale, np.int32(add), target))
