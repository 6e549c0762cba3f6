"""Random layers and images of odd sizes for the tests of bats.stdp."""

import numpy as np

N_BINS = 7


def latencies(rng, n, shape, n_bins=N_BINS, density=0.4):
    """uint8 [n, C, H, W]; the second image is empty, the third fires at once."""
    values = np.where(rng.random((n, *shape)) < density, rng.integers(0, n_bins, (n, *shape)), n_bins).astype(np.uint8)
    values[1:2] = n_bins
    values[2:3] = 0
    return values


def weights(rng, *shape):
    """float32 around 0.5, with exact ties between features 1 and 2."""
    values = rng.normal(0.5, 0.2, shape).clip(0, 1).astype(np.float32)
    if len(values) > 2:
        values[2] = values[1]
    return values


def rows(winners, k):
    """A list of winners as the rows of an array [k, 3], -1 where there are fewer."""
    result = np.full((k, 3), -1)
    for i, winner in enumerate(winners):
        result[i] = winner
    return result
