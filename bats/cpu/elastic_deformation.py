"""CPU twin of cuda/events/elastic_deformation.cu: images whose corners are moved by random distances."""

import numpy as np
from numba import njit

from bats.cpu.philox import normal_pair, philox


@njit(cache=True)
def _deform(image, moved, out):
    """image, out [height, width] uint8; moved [2, 4]: rows and columns by which the corners (0,0), (0,1), (1,0), (1,1) move."""
    height, width = image.shape
    place = np.zeros(2)
    for row in range(height):
        v = row / (height - 1) if height > 1 else 0.0
        for column in range(width):
            u = column / (width - 1) if width > 1 else 0.0
            for axis in range(2):
                d = moved[axis]
                place[axis] = (1 - v) * ((1 - u) * d[0] + u * d[1]) + v * ((1 - u) * d[2] + u * d[3])
            y, x = row + place[0], column + place[1]
            y0, x0 = np.floor(y), np.floor(x)
            value = 0.5  # rounds to the nearest
            for corner in range(4):
                yc, xc = y0 + corner // 2, x0 + corner % 2
                if yc >= 0 and yc < height and xc >= 0 and xc < width:  # black outside
                    value += (1 - abs(y - yc)) * (1 - abs(x - xc)) * image[int(yc), int(xc)]
            out[row, column] = int(value)


@njit(cache=True)
def elastic_deformation(images, indices, epoch, seed, sigma, out):
    """images [n, height, width] uint8, indices [B], epoch [1], seed uint64, sigma pixels -> out [B, height, width]."""
    moved = np.zeros((2, 4))
    for b in range(indices.shape[0]):
        for axis in range(2):
            r = philox(indices[b], epoch[0], epoch[0] >> 32, axis, seed, seed >> np.uint64(32))
            for half in range(2):
                first, second = normal_pair(r[2 * half], r[2 * half + 1])
                moved[axis, 2 * half] = sigma * first
                moved[axis, 2 * half + 1] = sigma * second
        _deform(images[indices[b]], moved, out[b])
