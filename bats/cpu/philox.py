"""CPU twin of cuda/common/philox.cuh: Philox4x32-10 (Salmon et al. 2011), random numbers as a function of counter and key."""

import numpy as np
from numba import njit

_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)


@njit(cache=True)
def philox(c0, c1, c2, c3, k0, k1):
    """Four 32-bit numbers, each in a uint64, from a counter of four and a key of two 32-bit numbers (low bits count)."""
    c0, c1, c2, c3 = np.uint64(c0) & _LOW, np.uint64(c1) & _LOW, np.uint64(c2) & _LOW, np.uint64(c3) & _LOW
    k0, k1 = np.uint64(k0) & _LOW, np.uint64(k1) & _LOW
    for _ in range(10):
        product0, product1 = _M0 * c0, _M1 * c2
        c0, c1, c2, c3 = (product1 >> _HALF) ^ c1 ^ k0, product1 & _LOW, (product0 >> _HALF) ^ c3 ^ k1, product0 & _LOW
        k0, k1 = (k0 + _W0) & _LOW, (k1 + _W1) & _LOW
    return c0, c1, c2, c3


@njit(cache=True)
def normal_pair(u, v):
    """Two independent N(0, 1) numbers from two 32-bit numbers (Box and Muller 1958)."""
    radius = np.sqrt(-2 * np.log((np.float64(u) + 0.5) / 4294967296.0))
    angle = 2 * np.pi * ((np.float64(v) + 0.5) / 4294967296.0)
    return radius * np.cos(angle), radius * np.sin(angle)
