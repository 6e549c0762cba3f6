"""CPU twin of cuda/stdp/encode.cu: filter bank, local normalization and rank-order latencies; parallel over the images.

The order of every sum is fixed (window rows, then columns), so that all devices give the same bits.
"""

import numpy as np
from numba import njit, prange


@njit(cache=True)
def _respond(image, kernel, offset, padding, threshold, absolute, out):
    """Cross-correlation of image float32 [H, W] with one kernel, `offset` inside the bank's window -> out [Ho, Wo]."""
    height, width = image.shape
    size = kernel.shape[0]
    for r in range(out.shape[0]):
        for c in range(out.shape[1]):
            y, x = r - padding + offset, c - padding + offset
            total = np.float32(0)
            for dy in range(max(0, -y), min(size, height - y)):
                for dx in range(max(0, -x), min(size, width - x)):
                    total += np.float32(image[y + dy, x + dx] * kernel[dy, dx])
            if total < threshold:
                total = np.float32(0)
            out[r, c] = abs(total) if absolute else total


@njit(cache=True)
def _normalize(values, radius, sums):
    """Each value over the mean of the (2 radius + 1)^2 window around it (zeros outside), in place; sums: float64 scratch."""
    height, width = values.shape
    area = (2 * radius + 1) ** 2
    for r in range(height):
        for c in range(width):
            total = 0.0
            for x in range(max(0, c - radius), min(width, c + radius + 1)):
                total += values[r, x]
            sums[r, c] = total
    for r in range(height):
        for c in range(width):
            if values[r, c] == 0:
                continue
            total = 0.0
            for y in range(max(0, r - radius), min(height, r + radius + 1)):
                total += sums[y, c]
            values[r, c] = values[r, c] / (total / area + 1e-12)


@njit(cache=True)
def _rank(values, n_bins, latencies):
    """Intensities [N] -> latencies [N]: the largest nnz // n_bins values get bin 0, and so on; ties by index."""
    flat, out = values.reshape(-1), latencies.reshape(-1)
    places = np.flatnonzero(flat)
    per_bin = places.size // n_bins
    out[:] = n_bins
    order = np.argsort(-flat[places], kind="mergesort")
    for rank in range(per_bin * n_bins):
        out[places[order[rank]]] = rank // per_bin


@njit(cache=True, parallel=True)
def rank_latencies(maps, n_bins, latencies):
    """float32 [n, C, H, W] -> uint8 [n, C, H, W]."""
    for i in prange(maps.shape[0]):
        _rank(maps[i], n_bins, latencies[i])


@njit(cache=True, parallel=True)
def local_normalization(maps, radius, out):
    """float32 [n, C, H, W] -> out, the same shape."""
    for i in prange(maps.shape[0]):
        sums = np.empty(maps.shape[2:])
        for c in range(maps.shape[1]):
            out[i, c] = maps[i, c]
            _normalize(out[i, c], radius, sums)


@njit(cache=True, parallel=True)
def filter_maps(images, kernels, sizes, padding, thresholds, absolute, out):
    """images float32 [n, H, W], kernels float32 [K, S, S] (each in the corner of its S x S array) -> out [n, K, Ho, Wo]."""
    window = kernels.shape[1]
    for i in prange(images.shape[0]):
        for k in range(kernels.shape[0]):
            size = sizes[k]
            kernel = kernels[k, :size, :size]
            _respond(images[i], kernel, (window - size) // 2, padding, thresholds[k], absolute, out[i, k])
