"""Waves as spike trains: for rasters and for whoever compares with event-based layers."""

import numbers

import numpy as np


def count(name, value):
    """int(value); raises TypeError or ValueError unless it is an integer >= 1."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        raise TypeError(f"{name}: expected an integer, received {value!r}")
    if value < 1:
        raise ValueError(f"{name}: expected at least 1, received {value}")
    return int(value)


def to_trains(waves, dt, dtype):
    """waves [batch, n_steps, n] (NumPy), dt seconds -> (times [batch, n, slots] of dtype, inf-padded, counts [batch, n] int32)."""
    spikes = waves > 0
    counts = spikes.sum(axis=1, dtype=np.int32)
    times = np.full((len(waves), waves.shape[2], max(1, int(counts.max(initial=0)))), np.inf, dtype=dtype)
    sample, neuron, step = np.nonzero(spikes.transpose(0, 2, 1))
    slot = (np.cumsum(spikes, axis=1) - 1)[sample, step, neuron]
    times[sample, neuron, slot] = step * dt
    return times, counts
