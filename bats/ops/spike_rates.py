"""Spike-rate regularization: mean spike counts, their errors, and weights of silent units (docs/silent_neurons.md).

A unit is a neuron of a dense layer, or the neurons of one channel of a convolution: neuron i belongs to unit i % n_units.
"""

import math

import numpy as np

from bats import kernels
from bats.cpu import spike_rates as cpu
from bats.device import is_cupy
from bats.ops.arguments import blocks, expect


def spike_rates(counts, rates):
    """counts [B, N] int32 -> rates [n_units], the mean count over batch and neurons of each unit; 0 for an empty batch."""
    batch, n_neurons = counts.shape
    n_units = _units(rates, n_neurons)
    expect("counts", counts, (batch, n_neurons), np.int32)
    expect("rates", rates, (n_units,), rates.dtype, counts)
    if not is_cupy(counts):
        cpu.spike_rates(counts, rates)
        return
    kernels.kernel("lif/spike_rates", "spike_rates", rates.dtype)(
        (n_units,), (128,), (counts, np.int32(batch), np.int32(n_neurons), np.int32(n_units), rates)
    )


def spike_rate_errors(errors, counts, rates, minimum, maximum, strength, total):
    """total [B, K, N] = errors [B, K, N] + strength (max(0, minimum - r) - max(0, r - maximum)) / n for every emitted spike.

    n is the number of neurons that share a unit; total may be errors itself; empty slots are left as they are.
    maximum None: no upper bound.
    """
    batch, n_slots, n_neurons = errors.shape
    n_units, dtype = _units(rates, n_neurons), errors.dtype
    expect("errors", errors, errors.shape, dtype)
    expect("counts", counts, (batch, n_neurons), np.int32, errors)
    expect("rates", rates, (n_units,), dtype, errors)
    expect("total", total, errors.shape, dtype, errors)
    if batch == 0:
        return
    real = dtype.type
    limits = real(minimum), real(math.inf if maximum is None else maximum), real(strength * n_units / n_neurons)
    if not is_cupy(errors):
        cpu.spike_rate_errors(errors, counts, rates, *limits, total)
        return
    kernels.kernel("lif/spike_rates", "spike_rate_errors", dtype)(
        (blocks(batch * n_neurons, 256),), (256,),
        (errors, counts, rates, *limits, np.int32(batch), np.int32(n_neurons), np.int32(n_slots), np.int32(n_units), total),
    )  # fmt: skip


def raise_silent(rates, amount, gradient):
    """gradient [..., n_units] -= amount where the unit's rate is 0."""
    n_units = gradient.shape[-1]
    expect("gradient", gradient, gradient.shape, gradient.dtype)
    expect("rates", rates, (n_units,), gradient.dtype, gradient)
    amount = gradient.dtype.type(amount)
    if not is_cupy(gradient):
        cpu.raise_silent(rates, amount, gradient.reshape(-1, n_units))
        return
    kernels.kernel("lif/spike_rates", "raise_silent", gradient.dtype)(
        (blocks(gradient.size, 256),), (256,), (rates, amount, np.int64(gradient.size), np.int32(n_units), gradient)
    )


def _units(rates, n_neurons):
    n_units = rates.shape[0] if rates.ndim == 1 else 0
    if n_units < 1 or n_neurons % n_units:
        raise ValueError(f"rates: expected shape (n_units,) with n_units a divisor of {n_neurons} neurons, received {rates.shape}")
    return n_units
