"""The order of the samples, a function of (seed, epoch) alone, and the split that holds out validation samples.

Philox is counter-based: keyed with (seed, epoch) it needs no state carried from epoch to epoch, so the random state of
a stopped run is three integers: seed, epoch and position within the epoch.
"""

import numpy as np

_VALIDATION_STREAM = 2**64 - 1  # an epoch number that no run reaches: the split has a stream of its own


def _generator(seed, stream):
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed: expected an integer in [0, 2**64), received {seed}")
    return np.random.Generator(np.random.Philox(key=np.array([seed, stream], dtype=np.uint64)))


def epoch_permutation(seed, epoch, n_samples):
    """Order of the samples in an epoch: int64 [n_samples], a permutation of 0 .. n_samples - 1."""
    return _generator(seed, epoch).permutation(n_samples)


def split_validation(n_samples, n_validation, seed):
    """Holds out the last `n_validation` of a seed-permuted set.

    Returns (training indices, validation indices), each ascending, disjoint, together 0 .. n_samples - 1.
    Errors: ValueError when nothing would be left to train on.
    """
    if not 0 <= n_validation < n_samples:
        raise ValueError(f"validation: expected 0 to {n_samples - 1} of the {n_samples} training samples, received {n_validation}")
    order = _generator(seed, _VALIDATION_STREAM).permutation(n_samples)
    n_train = n_samples - n_validation
    return np.sort(order[:n_train]), np.sort(order[n_train:])
