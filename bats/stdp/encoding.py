"""Images -> latencies: filter bank, local normalization, rank order. One byte per neuron: its bin, n_bins where it never fires."""

import numpy as np

from bats import kernels
from bats.cpu import stdp_encode as cpu
from bats.device import array_module, is_cupy, resolve
from bats.ops.arguments import expect

MAX_BINS = 254
_BATCH = 2000  # images at a time: bounds the memory of the responses


def check_bins(n_bins):
    if not 1 <= n_bins <= MAX_BINS:
        raise ValueError(f"n_bins: expected 1..{MAX_BINS}, received {n_bins}")
    return int(n_bins)


def filter_maps(images, bank):
    """images float32 [n, H, W] -> responses float32 [n, K, Ho, Wo] of a FilterBank."""
    expect("images", images, (None, None, None), np.float32)
    xp = array_module("cuda" if is_cupy(images) else "cpu")
    n, height, width = images.shape
    out = xp.empty((n, *bank.output_shape(height, width)), dtype=np.float32)
    arrays = [xp.asarray(array) for array in bank.arrays()]
    if out.size == 0:
        return out
    if is_cupy(images):
        kernels.kernel("stdp/encode", "filter_maps", np.float32)(
            (n, len(bank)), (256,), (images, *_ints(height, width), *arrays, *_ints(bank.window, bank.padding, bank.absolute), out)
        )
    else:
        cpu.filter_maps(images, arrays[0], arrays[1], bank.padding, arrays[2], bank.absolute, out)
    return out


def local_normalization(maps, radius=8):
    """float32 [n, C, H, W] -> each value over the mean (+ 1e-12) of the square window of 2 radius + 1 pixels around it.

    Outside the map there are zeros, and they count in the mean.
    """
    expect("maps", maps, (None, None, None, None), np.float32)
    out = array_module("cuda" if is_cupy(maps) else "cpu").empty_like(maps)
    if out.size == 0:
        return out
    n, channels, height, width = maps.shape
    if is_cupy(maps):
        shared = 12 * height * width
        kernel = kernels.kernel("stdp/encode", "local_normalization", np.float32)
        kernel.max_dynamic_shared_size_bytes = shared
        kernel((n, channels), (256,), (maps, *_ints(height, width, radius), out), shared_mem=shared)
    else:
        cpu.local_normalization(maps, radius, out)
    return out


def rank_latencies(intensities, n_bins):
    """Intensities >= 0, float32 [n, C, H, W] -> latencies uint8: the largest nnz // n_bins of an image's nnz positive values in bin 0,
    the next ones in bin 1, ...; what remains never fires. Ties: lowest index first. Fewer than n_bins values: all silent."""
    expect("intensities", intensities, (None, None, None, None), np.float32)
    n_bins = check_bins(n_bins)
    out = array_module("cuda" if is_cupy(intensities) else "cpu").empty(intensities.shape, dtype=np.uint8)
    if out.size == 0:
        return out
    if is_cupy(intensities):
        size = int(np.prod(intensities.shape[1:]))
        shared = 8 * size if 8 * size <= 160_000 else 0  # values and places in shared memory if they fit, else in scratch
        scratch = array_module("cuda").empty(2 if shared else 2 * out.size, dtype=np.float32)
        kernel = kernels.kernel("stdp/encode", "rank_latencies", np.float32)
        kernel.max_dynamic_shared_size_bytes = max(shared, 1)
        kernel((len(out),), (512,), (intensities, *_ints(size, n_bins, shared > 0), scratch, out), shared_mem=shared)
    else:
        cpu.rank_latencies(intensities, n_bins, out)
    return out


def encode(images, bank, n_bins=15, radius=8, device="auto", progress=None):
    """Latencies uint8 [n, K, Ho, Wo] of images [n, H, W] (any real dtype), on the device.

    bank: FilterBank; n_bins: bins (1..254); radius of the local normalization in pixels, None: without it;
    progress: called with the number of images done after each part. Raises ValueError for another shape.
    """
    xp = array_module(resolve(device))
    if images.ndim != 3:
        raise ValueError(f"images: expected shape (n, height, width), received {images.shape}")
    out = xp.empty((len(images), *bank.output_shape(*images.shape[1:])), dtype=np.uint8)
    for start in range(0, len(images), _BATCH):
        part = xp.ascontiguousarray(xp.asarray(images[start : start + _BATCH]), dtype=np.float32)
        maps = filter_maps(part, bank)
        maps = maps if radius is None else local_normalization(maps, radius)
        out[start : start + len(part)] = rank_latencies(maps, n_bins)
        if progress is not None:
            progress(len(part))
    return out


def _ints(*values):
    return [np.int32(value) for value in values]


__all__ = ["encode", "filter_maps", "local_normalization", "rank_latencies"]
