"""Maps of latencies between two layers: padding and pooling."""

import numpy as np

from bats.device import array_module, is_cupy


def pad(latencies, n, n_bins):
    """Silent neurons (latency n_bins) around each map: uint8 [..., H, W] -> [..., H + 2 n, W + 2 n]."""
    xp = array_module("cuda" if is_cupy(latencies) else "cpu")
    shape = (*latencies.shape[:-2], latencies.shape[-2] + 2 * n, latencies.shape[-1] + 2 * n)
    out = xp.full(shape, n_bins, dtype=np.uint8)
    out[..., n : shape[-2] - n, n : shape[-1] - n] = latencies
    return out


def pool(latencies, window, stride=None, padding=0, n_bins=15):
    """The earliest latency of each window: uint8 [..., H, W] -> [..., (H + 2 padding - window) // stride + 1, ...].

    stride: the window if None. The zeros of padding never fire. Raises ValueError for a window larger than the map.
    """
    stride = window if stride is None else stride
    if window < 1 or stride < 1 or padding < 0:
        raise ValueError(f"window, stride, padding: expected >= 1, >= 1, >= 0, received {window}, {stride}, {padding}")
    padded = pad(latencies, padding, n_bins) if padding else latencies
    height, width = padded.shape[-2:]
    if min(height, width) < window:
        raise ValueError(f"window: expected at most {min(height, width)}, received {window}")
    rows, columns = (height - window) // stride + 1, (width - window) // stride + 1
    xp = array_module("cuda" if is_cupy(latencies) else "cpu")
    out = xp.full((*padded.shape[:-2], rows, columns), n_bins, dtype=np.uint8)
    for dy in range(window):
        for dx in range(window):
            seen = padded[..., dy : dy + stride * rows : stride, dx : dx + stride * columns : stride]
            xp.minimum(out, seen[..., :rows, :columns], out=out)
    return out
