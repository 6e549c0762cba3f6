"""Random elastic deformation of images."""

import numpy as np

from bats import kernels
from bats.cpu import elastic_deformation as cpu
from bats.device import is_cupy
from bats.ops.arguments import expect


def elastic_deformation(images, indices, epoch, seed, sigma, out, dtype):
    """out [B, height, width] uint8 = images [n, height, width] uint8 at `indices` [B] int32, deformed.

    Each corner moves by N(0, sigma) pixels in either direction, the rest by bilinear interpolation between the corners;
    grey values are interpolated bilinearly and rounded, black comes in from outside. The random numbers are a function of
    seed (integer >= 0), epoch [1] int64 and the index. dtype names the kernel's precision.
    """
    batch = indices.shape[0]
    expect("images", images, (None, None, None), np.uint8)
    expect("indices", indices, (None,), np.int32, images)
    expect("epoch", epoch, (1,), np.int64, images)
    expect("out", out, (batch, *images.shape[1:]), np.uint8, images)
    if batch == 0:
        return
    seed = np.uint64(seed)
    if not is_cupy(images):
        cpu.elastic_deformation(images, indices, epoch, seed, float(sigma), out)
        return
    height, width = np.int32(images.shape[1]), np.int32(images.shape[2])
    kernels.kernel("events/elastic_deformation", "elastic_deformation", dtype)(
        (batch,), (256,), (images, indices, epoch, seed, np.float64(sigma), height, width, out)
    )
